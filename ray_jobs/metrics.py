"""What jobs tell Ray's Prometheus endpoint, which every node of a cluster has.

Counters only grow, so rates are Prometheus's to make (`rate()`). Ray puts `ray_` before each name, and tags of its own (node, worker, session)
beside ours, which are few and bounded: no clip, job or file is ever a tag. A figure that cannot be told, for want of a Ray or of its agent, is
left out without a word: a job never fails for it.
"""

import functools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from schemas.jobs import DubJob, DubSummary

if TYPE_CHECKING:  # no job loads the libraries of another
    from tasks.corpus.batch import BatchCounts
    from tasks.dubbing.bulk import Work
    from tasks.dubbing.results import Row
    from tasks.training.session import StepFacts

LOG = logging.getLogger(__name__)


class Figure(NamedTuple):
    """A metric: its name without Ray's `ray_`, what it says, and its tags. bounds: of a histogram's buckets, rising."""

    kind: Literal["Counter", "Gauge", "Histogram"]
    name: str
    says: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


BATCHES = Figure("Counter", "dubmill_batches_total", "Batches of clips written.")
BATCHES_LEFT = Figure("Gauge", "dubmill_batches_left", "Batches that an ingest has not finished yet, waiting or in work.")
CLIPS = Figure("Counter", "dubmill_clips_total", "Clips written.")
CLIP_FRAMES = Figure("Counter", "dubmill_clip_frames_total", "Frames of the clips written.")
REJECTS = Figure("Counter", "dubmill_rejects_total", "Sources and clips turned away.", ("reason",))
DUBS = Figure("Counter", "dubmill_dubs_total", "Jobs of lists that have their row, done or failed; `reason` is empty when done.", ("status", "reason"))
DUBS_LEFT = Figure("Gauge", "dubmill_dubs_left", "Jobs of a list that have no row yet, waiting or in work.")
DUB_SECONDS = Figure("Histogram", "dubmill_dub_seconds", "Seconds that a done job took.", bounds=(5, 15, 60, 300, 1800, 7200))
DUB_FRAMES = Figure("Counter", "dubmill_dub_frames_total", "Frames of dubs: with a rendered face (`dubbed`), or as in the source.", ("shows",))
STAGE_SECONDS = Figure(
    "Counter",
    "dubmill_dub_stage_seconds_total",
    "Seconds of work on dubs by stage; stages run side by side. `wait`: the renderer had no frame to render, or nobody to take one.",
    ("stage",),
)
WORKERS_LOST = Figure("Counter", "dubmill_workers_lost_total", "Workers whose processes died at their work.", ("job",))
STEPS = Figure("Counter", "dubmill_training_steps_total", "Training steps made.", ("network",))
SAMPLES = Figure("Counter", "dubmill_training_samples_total", "Samples that training steps saw.", ("network",))
TRAINING_SECONDS = Figure("Counter", "dubmill_training_seconds_total", "Seconds of training steps, of each worker; without validation.", ("network",))
TRAINING_WAIT = Figure("Counter", "dubmill_training_wait_seconds_total", "Seconds of those in which the next batch was waited for.", ("network",))
LOSS = Figure("Gauge", "dubmill_training_loss", "Losses of the last step.", ("network", "loss"))
FIGURES = (
    *(BATCHES, BATCHES_LEFT, CLIPS, CLIP_FRAMES, REJECTS, DUBS, DUBS_LEFT, DUB_SECONDS, DUB_FRAMES, STAGE_SECONDS, WORKERS_LOST),
    *(STEPS, SAMPLES, TRAINING_SECONDS, TRAINING_WAIT, LOSS),
)


def tell(figure: Figure, value: float, **tags: str) -> None:
    """Adds to a counter, sets a gauge, or counts into a histogram. Raises nothing."""
    try:
        import ray  # here: a job that has nothing to do starts no Ray

        if ray.is_initialized():
            getattr(_metric(figure), _VERBS[figure.kind])(value, tags=tags or None)
    except Exception:
        LOG.debug("The metric %s could not be told.", figure.name, exc_info=True)


_VERBS = {"Counter": "inc", "Gauge": "set", "Histogram": "observe"}


@functools.cache
def _metric(figure: Figure) -> Any:
    """Ray's metric, made once a process."""
    from ray.util import metrics

    more: dict[str, Any] = {"boundaries": list(figure.bounds)} if figure.kind == "Histogram" else {}
    return getattr(metrics, figure.kind)(figure.name, description=figure.says, tag_keys=figure.tags, **more)


def count(figure: Figure, by: float, **tags: str) -> None:
    """Adds to a counter; nothing is nothing to tell."""
    if by > 0:
        tell(figure, by, **tags)


def batch_ended(counts: "BatchCounts", left: int) -> None:
    """A batch of an ingest is finished, by this run or another; so many are left."""
    tell(BATCHES_LEFT, left)
    if not counts.written:
        return
    count(BATCHES, 1)
    count(CLIPS, counts.clips)
    count(CLIP_FRAMES, counts.frames)
    for reason, rejects in counts.rejects.items():
        count(REJECTS, rejects, reason=reason)


class ToldDubs:
    """Work on the jobs of a list, whose rows are told as they come."""

    def __init__(self, work: "Work", jobs: int) -> None:
        """jobs: how many there are in all; `work` may get them in parts."""
        self._work, self._left = work, jobs

    def __call__(self, jobs: tuple[DubJob, ...]) -> Iterator["Row"]:
        """As the work itself."""
        tell(DUBS_LEFT, self._left)
        for row in self._work(jobs):
            self._left -= 1
            _dub_ended(row, self._left)
            yield row


def _dub_ended(row: "Row", left: int) -> None:
    tell(DUBS_LEFT, left)
    count(DUBS, 1, status=str(row["status"]), reason=str(row.get("reason") or ""))
    if frames := row.get("frames"):
        tell(DUB_SECONDS, float(str(frames)) / float(str(row["frames_per_second"])))


def dub_made(summary: DubSummary) -> None:
    """A worker has made a dub."""
    count(DUB_FRAMES, summary.dubbed_frames, shows="dubbed")
    count(DUB_FRAMES, summary.frames - summary.dubbed_frames, shows="source")
    for stage, seconds in summary.seconds_by_stage.items():
        count(STAGE_SECONDS, seconds, stage=stage)


def worker_lost(job: str) -> None:
    """The process of a worker died."""
    count(WORKERS_LOST, 1, job=job)


class StepTeller:
    """Tells of the steps of one worker: of the time, its own; of what all workers did together, the one that leads."""

    def __init__(self, network: str, leads: bool) -> None:
        self._network, self._leads = network, leads

    def __call__(self, step: "StepFacts") -> None:
        """After a step."""
        count(TRAINING_SECONDS, step.seconds, network=self._network)
        count(TRAINING_WAIT, step.waited_s, network=self._network)
        if not self._leads:
            return
        count(STEPS, 1, network=self._network)
        count(SAMPLES, step.samples, network=self._network)
        for loss, value in step.losses.items():
            tell(LOSS, value, network=self._network, loss=loss)
