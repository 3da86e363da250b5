"""The job that trains the landmark generator."""

from ray_jobs.job import job_main
from ray_jobs.training import run_by_ray
from schemas.jobs import TrainingSummary
from schemas.settings import LandmarkGeneratorTraining
from tasks.progress import Progress
from tasks.training.landmark_generator import KIND, train_landmark_generator


def run(settings: LandmarkGeneratorTraining, progress: Progress) -> TrainingSummary:
    """Trains on the cluster with `settings.workers` workers. Raises StoreError, CheckpointError and SettingsError."""
    return run_by_ray(KIND, train_landmark_generator, settings, progress)


if __name__ == "__main__":
    job_main(LandmarkGeneratorTraining, run)
