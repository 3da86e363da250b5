"""The job that publishes a trained network if it does better than the one in use."""

import ray

from ray_jobs.actors import Death, gpus_for
from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from ray_jobs.spread import unwrapped
from schemas.errors import StoreError
from schemas.jobs import PublishSummary
from schemas.settings import PublishSettings
from tasks.progress import Progress
from tasks.training.publish import publish_model


def run(settings: PublishSettings, progress: Progress) -> PublishSummary:
    """Measures on one of the cluster's GPUs, or in this process where it has none and none will come.

    Raises CheckpointError, StoreError and SettingsError.
    """
    if settings.device == "cpu":
        return publish_model(settings, progress)
    with connect():
        return _on_a_gpu(settings) if gpus_for(settings.device, [ray.cluster_resources()]) else publish_model(settings, progress)


def _on_a_gpu(settings: PublishSettings) -> PublishSummary:
    """The head that runs this process seldom has a GPU of its own."""
    publish = ray.remote(num_gpus=1)(publish_model)
    published: PublishSummary | Death = unwrapped(publish.remote(settings.with_absolute_locations()))
    if isinstance(published, Death):
        raise StoreError("The worker that measured the networks died, several times; look at the cluster's memory and its logs, then run again.")
    return published


if __name__ == "__main__":
    job_main(PublishSettings, run)
