"""The job that copies approved dubs to the release prefix."""

from ray_jobs.job import job_main
from schemas.jobs import ReleaseSummary
from schemas.settings import ReleaseSettings
from tasks.dubbing.release import release_dubs
from tasks.progress import Progress


def run(settings: ReleaseSettings, progress: Progress) -> ReleaseSummary:
    """Needs no worker: it copies files. Raises StoreError."""
    return release_dubs(settings, progress)


if __name__ == "__main__":
    job_main(ReleaseSettings, run)
