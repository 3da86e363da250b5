"""The job that trains the renderer."""

from ray_jobs.job import job_main
from ray_jobs.training import run_by_ray
from schemas.jobs import TrainingSummary
from schemas.settings import RendererTraining
from tasks.progress import Progress
from tasks.training.renderer import KIND, train_renderer


def run(settings: RendererTraining, progress: Progress) -> TrainingSummary:
    """Trains on the cluster with `settings.workers` workers. Raises StoreError, CheckpointError and SettingsError."""
    return run_by_ray(KIND, train_renderer, settings, progress)


if __name__ == "__main__":
    job_main(RendererTraining, run)
