"""One dub as the review room shows it: its videos side by side, curves, moments to look at, figures, and whether the gate lets it pass."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import DubmillError, MediaError
from schemas.gate import Gate
from schemas.jobs import DubJob, Moment, SourceShown
from schemas.locations import without_secrets
from schemas.reasons import Reason
from schemas.review import VIDEO_SUFFIX, ReviewItem, ReviewMetric, ReviewMoment, ReviewPassage
from schemas.settings import AnySettings, DubSettings, ReviewSettings
from tasks import places
from tasks.audio import SAMPLE_RATE, read_waveform
from tasks.dubbing.inputs import fetched
from tasks.dubbing.results import Row
from tasks.evaluation.evaluate_pair import Instruments
from tasks.evaluation.seen_video import SeenVideo, see_video
from tasks.gate import judge
from tasks.media.probe import MediaInfo, probe
from tasks.review.curves import openings, peaks
from tasks.review.figures import instruments_for, measured_metrics, row_figures
from tasks.review.previews import Look, write_dub_preview, write_source_preview

log = logging.getLogger(__name__)

PREVIEWS = "previews"


@dataclass(frozen=True)
class DubToShow:
    """A dub that is done, the row of the list it was made of, and the settings that hold for it. output: absolute path or URI. folder: of the batch."""

    row: Row
    job: DubJob
    output: str
    dub: DubSettings
    folder: str
    review: ReviewSettings

    @property
    def job_id(self) -> str:
        """Of its job."""
        return self.job.job_id


def make_item(show: DubToShow) -> ReviewItem | str:
    """The item of a dub, whose previews are written, or a sentence on why it cannot be shown: the dub or its source is gone or damaged.

    One dub never keeps the others from being shown, whatever is wrong with it. StoreError when the place of the material cannot be
    written, CheckpointError when weights that are named cannot be used: these are of all.
    """
    try:
        with instruments_for(show.review) as instruments, ExitStack() as stack:
            version = places.version(show.output)  # before anything is looked at: what comes later is not what was looked at
            paths = [fetched(stack, location) for location in (show.output, show.job.video)]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dubmill-")))
            return _Making(show, version, paths[0], paths[1], folder, instruments).item()
    except MediaError as error:
        return without_secrets(str(error))
    except DubmillError:
        raise
    except FileNotFoundError:
        return without_secrets(f"The dub {show.output} is not there.")
    except Exception as error:
        log.exception("the dub of job %s cannot be shown", show.job_id)
        return without_secrets(f"{type(error).__name__}: {error}")


def recipe_of(review: ReviewSettings) -> str:
    """What shapes an item beside the dub itself: an item of another recipe is made anew."""
    shaping = review.model_dump(mode="json", include={"longest_s", "preview_height", "preview_crf", "sync_weights"})
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Making:
    """A dub on its way to an item. version: of the output. dub, source: files of this machine. folder: for previews before they are put into their place."""

    show: DubToShow
    version: str
    dub: Path
    source: Path
    folder: Path
    instruments: Instruments

    def item(self) -> ReviewItem:
        """Writes the previews and says all that the page shows."""
        show, info = self.show, probe(self.dub)
        frames = show.row["frames"]
        if not (isinstance(frames, int) and frames and info.fps):
            raise MediaError(Reason.TOO_SHORT, f"The dub {self.dub.name} has no frame.")
        source, shown = self._previews(info, frames)
        duration_s = float(frames / info.fps)
        waveform = read_waveform(self.dub, info.start_s, round(duration_s * SAMPLE_RATE))
        seen = [self._seen(path) for path in (shown or self.dub, source)]
        known = row_figures(show.row)
        metrics = {name: ReviewMetric(value=value) for name, value in known.items()} | measured_metrics(show.job_id, seen[0], seen[1], self.instruments)
        confidence = show.row["confidence"]
        return ReviewItem(
            job_id=show.job_id,
            fingerprint=str(show.row["fingerprint"]),
            dub=show.output,
            version=self.version,
            recipe=recipe_of(show.review),
            source=self._put(source),
            dub_preview=self._put(shown) if shown else None,
            job=show.job,
            fps=float(info.fps),
            duration_s=duration_s,
            peaks=peaks(waveform),
            source_opening=openings(seen[1]),
            dub_opening=openings(seen[0]),
            confidence=tuple(confidence) if isinstance(confidence, list) else (),
            moments=tuple(moments(show.row, duration_s)),
            passed_through=tuple(passages(show.row)),
            settings=show.dub.model_dump(mode="json", exclude={"landmark_generator", "renderer"}, exclude_none=True),
            models={"landmark-generator": str(show.row["landmark_generator"]), "renderer": str(show.row["renderer"])},
            risk=1.0 - known.get("least_confidence", 0.0),
            metrics=metrics,
            gate=gate_of(metrics, show.review),
        )

    def _previews(self, info: MediaInfo, frames: int) -> tuple[Path, Path | None]:
        """The source as the dub plays it, and the dub where it is larger than what is shown."""
        review = self.show.review
        look = Look.of(info, review.preview_height, review.preview_crf)
        source = self.folder / "source.mp4"
        write_source_preview(self.source, self.show.dub, frames, look, source)
        if (look.width, look.height) == (info.width, info.height) and self.dub.suffix.lower() == VIDEO_SUFFIX:
            return source, None
        shown = self.folder / "dub.mp4"
        write_dub_preview(self.dub, info, frames, look, shown)
        return source, shown

    def _seen(self, path: Path) -> SeenVideo:
        return see_video(path, self.show.review.longest_s, self.instruments.mesh)

    def _put(self, preview: Path) -> str:
        """Puts a preview into the batch's folder; its name from there."""
        name = f"{PREVIEWS}/{self.show.row['fingerprint']}.{preview.name}"
        places.put(preview, places.join(self.show.folder, name))
        return name


def gate_of(metrics: Mapping[str, ReviewMetric], review: ReviewSettings) -> Gate:
    """Whether a dub's figures are past the thresholds of the settings."""
    figures = {name: metric.value for name, metric in metrics.items() if metric.value is not None}
    return judge(figures, {str(name): limit for name, limit in review.thresholds.items()}, {name: metric.reason for name, metric in metrics.items()})


def moments(row: Row, duration_s: float) -> Iterator[ReviewMoment]:
    """The least sure seconds of a dub, neighbours of one reason as one stretch, in the order of time."""
    stretch: ReviewMoment | None = None
    for moment in sorted(_told(Moment, row["worst"]), key=lambda moment: moment.second):
        if moment.second >= duration_s:
            continue
        end_s = min(moment.second + 1.0, duration_s)
        if stretch is not None and stretch.end_s == moment.second and stretch.reason == moment.why:
            stretch = stretch.replaced(end_s=end_s, confidence=min(stretch.confidence, moment.confidence))
            continue
        if stretch is not None:
            yield stretch
        stretch = ReviewMoment(start_s=moment.second, end_s=end_s, reason=moment.why, confidence=moment.confidence)
    if stretch is not None:
        yield stretch


def passages(row: Row) -> list[ReviewPassage]:
    """The stretches of a dub that show the source."""
    return [ReviewPassage.model_validate(shown.model_dump()) for shown in _told(SourceShown, row["source_shown"])]


def _told(kind: type[AnySettings], column: object) -> list[AnySettings]:
    """What a column of JSON says; nothing in rows of an older dubmill."""
    return [kind.model_validate(one) for one in json.loads(str(column))] if column else []
