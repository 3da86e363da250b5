"""The job that makes what a review room shows of a bulk run, a dub a core."""

from collections.abc import Iterable, Iterator

from ray_jobs.cluster import connect
from ray_jobs.job import job_main
from ray_jobs.spread import over_cluster
from schemas.jobs import ReviewSummary
from schemas.review import ReviewItem
from schemas.settings import ReviewSettings
from tasks.progress import Progress
from tasks.review.batch import review
from tasks.review.item import DubToShow, make_item

DIED = "the worker that looked at it died, several times"


def run(settings: ReviewSettings, progress: Progress) -> ReviewSummary:
    """Raises as `plan_review`."""
    with connect():
        return review(settings, _made, progress)


def _made(dubs: Iterable[DubToShow]) -> Iterator[tuple[DubToShow, ReviewItem | str]]:
    return over_cluster(_with_item, dubs, lambda dub: (dub, DIED))


def _with_item(dub: DubToShow) -> tuple[DubToShow, ReviewItem | str]:
    return dub, make_item(dub)


if __name__ == "__main__":
    job_main(ReviewSettings, run)
