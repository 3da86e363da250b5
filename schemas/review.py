"""What people are shown of a batch of dubs before it goes out: the format between whoever makes review material and the review room.

<prefix>/<batch>/batch.json                     a row a dub (ReviewBatch), riskiest first or not; written last, and again, whole, as rows are added
<prefix>/<batch>/items/<item_key(job_id)>.json  one dub, with all that its page shows (ReviewItem)
<prefix>/<batch>/previews/…                     videos that items name relative to the batch's folder

A batch is there when its batch.json is there. Names of batches are told apart over all prefixes of a review room: under one name there is
one room with its messages and verdicts, wherever the material lies.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from schemas.errors import SettingsError
from schemas.gate import Gate
from schemas.jobs import DubJob
from schemas.settings import FACE_WORDS, DubSettings, Settings, check_settings

BATCH_FILE = "batch.json"
ITEMS_FOLDER = "items"
PEAKS_PER_S = 50
"""Values of a waveform in a second: one for each two hundredths is as fine as a wide screen shows of a minute."""
OPENINGS_PER_S = 25
"""Values of a mouth-opening curve in a second: the rate of the networks and of a corpus."""
BATCH_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +=@-]{0,119}")
"""What a batch may be called: a folder's name that is no path, and short enough for a heading."""
PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""Job ids that are file names and parts of a page's address as they are."""
VIDEO_SUFFIX = ".mp4"

VERDICTS = ("approve", "reject", "redo")
Verdict = Literal["approve", "reject", "redo"]

REDO_SETTINGS = (
    "references",
    "smoothing",
    "sharpening",
    "rest_in_silence",
    "hold_to_head",
    "match_colour",
    "keep_covered",
    "fade_from_yaw_deg",
    "gone_at_yaw_deg",
    "min_face_px",
    "face",
    "loop",
    "fps",
    "crf",
)
"""Settings of a single dub that a reviewer may change for another try: what changes how it looks, and nothing that names a place."""
YAW_ANGLES = ("fade_from_yaw_deg", "gone_at_yaw_deg")
"""Those that bound each other: of one that is not given anew, what the dub was made with holds."""


def batch_name(jobs: str) -> str:
    """What the batch of a job list is called: as the list's file, with a hash where signs of that name are none of a batch's."""
    name = PurePosixPath(jobs).name
    if BATCH_NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9._ +=@-]", "_", name)[:80]
    return f"_{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def item_key(job_id: str) -> str:
    """The name under which a job's item lies and is asked for: the job_id where that is a plain name, otherwise made of its hash.

    A key that is made begins with a tilde, which no plain one does, so no two jobs share one.
    """
    return job_id if PLAIN_KEY.fullmatch(job_id) else f"~{hashlib.sha256(job_id.encode()).hexdigest()[:32]}"


def _require_video(location: str) -> str:
    if not location.lower().endswith((VIDEO_SUFFIX, ".m4v", ".mov")) or "\0" in location or ".." in location.split("/"):
        raise ValueError("is no name of an MP4, M4V or MOV")
    return location


VideoLocation = Annotated[str, AfterValidator(_require_video)]
"""A video: a path or URI, or a name relative to the batch's folder."""
Share = Annotated[float, Field(ge=0, le=1)]


class ReviewMoment(Settings):
    """A stretch to look at."""

    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)
    reason: str = Field(description="a clause for a person")
    confidence: Share

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "ReviewMoment":
        if self.end_s <= self.start_s:
            raise ValueError("a moment ends after it starts")
        return self


class ReviewPassage(Settings):
    """A stretch that shows the source."""

    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)
    reason: str = Field(description="as schemas.jobs.SourceShown says it, or a clause")


class ReviewMetric(Settings):
    """A number of a dub. Either a value, or the reason why there is none."""

    value: float | None
    real_video: float | None = Field(default=None, description="the same number of the real video: public scorers rate generated video above it")
    unit: str = ""
    meaning: str = Field(default="", description="one clause, and which way is better; the review room knows the house's own metrics by name")
    reason: str = Field(default="", description="why there is no value")

    @model_validator(mode="after")
    def _says_why_it_is_absent(self) -> "ReviewMetric":
        if (self.value is None) != bool(self.reason):
            raise ValueError("a metric has either a value or the reason why there is none")
        return self


class ReviewRow(Settings):
    """What the list of a batch shows of a dub."""

    job_id: str = Field(min_length=1)
    fingerprint: str = Field(
        min_length=1, max_length=64, description="of the job's row, settings and models, as in the result table: another one is another dub"
    )
    version: str = Field(default="", description="of the dub's file, as in its item: made anew under the same row it is another dub, too")
    risk: Share = Field(description="0 safe, 1 look at it first")
    gate: Gate
    duration_s: float = Field(ge=0)
    moments: int = Field(default=0, ge=0, description="how many moments there are to look at")
    worst: str = Field(default="", description="the reason of the worst one")

    @property
    def key(self) -> str:
        """Under which the item lies."""
        return item_key(self.job_id)


class ReviewBatch(Settings):
    """A batch of dubs: what `batch.json` holds."""

    title: str = Field(default="", description="for people; empty: the batch's name")
    note: str = Field(default="", description="what they should know, in a sentence or two")
    gate: Gate = Field(default=Gate(), description="of the run as a whole: held, none of its dubs can be approved")
    rows: tuple[ReviewRow, ...]

    @model_validator(mode="after")
    def _names_each_once(self) -> "ReviewBatch":
        if len({row.job_id for row in self.rows}) != len(self.rows):
            raise ValueError("a job is listed more than once")
        return self

    def riskiest_first(self) -> tuple[ReviewRow, ...]:
        """The rows in the order in which people look at them; equal ones by name, so that the order stays."""
        return tuple(sorted(self.rows, key=lambda row: (-row.risk, row.job_id)))


class ReviewItem(Settings):
    """One dub, with all that a person needs to judge it."""

    job_id: str = Field(min_length=1)
    fingerprint: str = Field(min_length=1, max_length=64)
    dub: VideoLocation = Field(description="the output itself, which is what is released")
    version: str = Field(default="", description="of that file (schemas.locations.version_of): what lies there later may be another dub")
    recipe: str = Field(default="", description="of the settings that shape this item, beside the dub itself")
    source: VideoLocation = Field(description="H.264 preview of the source as the dub plays it: the same frames at the same times")
    dub_preview: VideoLocation | None = Field(default=None, description="H.264 to look at where the dub itself is too large to play; null: the dub")
    job: DubJob = Field(description="the row it was made of, with absolute locations: what a redo begins with")
    fps: float = Field(gt=0, description="of both videos")
    duration_s: float = Field(gt=0)
    peaks: tuple[Share, ...] = Field(description=f"loudest sample of each 1/{PEAKS_PER_S} s of the dub's sound, 0..1")
    source_opening: tuple[float | None, ...] = Field(
        description=f"lip opening of the source, {OPENINGS_PER_S} a second, shares of the face box; null where none"
    )
    dub_opening: tuple[float | None, ...] = Field(description="likewise of the dub")
    confidence: tuple[Share, ...] = Field(description="of each second")
    moments: tuple[ReviewMoment, ...] = Field(default=(), description="to look at, in any order")
    passed_through: tuple[ReviewPassage, ...] = Field(default=(), description="stretches that show the source")
    metrics: dict[str, ReviewMetric] = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict, description="settings that it was made with")
    models: dict[str, str] = Field(default_factory=dict, description="versions of the networks, by kind")
    risk: Share
    gate: Gate

    @property
    def key(self) -> str:
        """Under which it lies."""
        return item_key(self.job_id)

    def worst_first(self) -> tuple[ReviewMoment, ...]:
        """The moments in the order in which people look at them."""
        return tuple(sorted(self.moments, key=lambda moment: (moment.confidence, moment.start_s)))

    def row(self) -> ReviewRow:
        """What the list of its batch shows of it."""
        worst = self.worst_first()
        return ReviewRow(
            job_id=self.job_id,
            fingerprint=self.fingerprint,
            version=self.version,
            risk=self.risk,
            gate=self.gate,
            duration_s=self.duration_s,
            moments=len(worst),
            worst=worst[0].reason if worst else "",
        )


def check_redo(given: dict[str, Any], made_with: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings that a reviewer wants for another try, as plain values of their own types. made_with: the settings of the dub that was looked at.

    Raises SettingsError for names beyond REDO_SETTINGS, for values that a dub cannot have, and for a face that is a place.
    """
    if beyond := sorted(given.keys() - set(REDO_SETTINGS)):
        raise SettingsError(f"A reviewer cannot set {', '.join(beyond)}; there are {', '.join(REDO_SETTINGS)}.")
    angles = {name: made_with[name] for name in YAW_ANGLES if name in made_with}
    checked = check_settings(DubSettings, dict.fromkeys(("landmark_generator", "renderer"), "of the run") | angles | given)
    if "face" in given and checked.face not in FACE_WORDS and not checked.face.isdecimal():
        raise SettingsError("A face is named by largest, speaking, left, right or a number here.")
    if given.keys() & set(YAW_ANGLES) and checked.gone_at_yaw_deg < checked.fade_from_yaw_deg:
        raise SettingsError("A dub is gone at no smaller turn of the head than the one at which it begins to fade.")
    return checked.model_dump(mode="json", include=set(given))


class VerdictSubject(Settings):
    """What following a verdict takes, kept with it: the material may be made anew meanwhile."""

    dub: str = Field(description="absolute path or URI of the output that was looked at")
    version: str = Field(description="of that file (schemas.locations.version_of): what lies there later may be another dub, which nobody has looked at")
    folder: str = Field(default="", description="of its batch: where its gate is asked again before it goes out")
    job: DubJob

    @property
    def name(self) -> str:
        """What a released dub is called below its batch's folder: as in the job list, or after its job where that names a place of its own."""
        out = self.job.out
        return f"{item_key(self.job.job_id)}{PurePosixPath(self.dub).suffix}" if leads_away(out) else out


def leads_away(name: str) -> bool:
    """Whether a name is a URI or a path that does not stay below the folder it is joined to."""
    return "://" in name or name.startswith(("/", "~")) or ".." in name.split("/") or "\0" in name


def _require_below(name: str) -> str:
    if leads_away(name):
        raise ValueError("leads out of the release folder")
    return name


class ApprovedDub(Settings):
    """A dub that people approved: a line of the list that the release job reads. number: of the verdict."""

    batch: str = Field(pattern=f"^{BATCH_NAME.pattern}$")
    number: int
    job_id: str
    fingerprint: str
    dub: str = Field(description="absolute path or URI")
    version: str = Field(description="of that file when it was approved")
    folder: str = Field(default="", description="of its batch's material, whose gates hold it also when they were closed after it was approved")
    name: Annotated[str, AfterValidator(_require_below)] = Field(min_length=1, description="below the batch's folder of the release prefix")
    approved_by: str
    approved_at: str = Field(description="ISO 8601, UTC")


class ReleaseRecord(ApprovedDub):
    """What lies beside a released dub, written after it: the dub is released when this is there."""

    released: str = Field(description="where it lies")
    size: int = Field(description="bytes")


class ReleaseOutcome(Settings):
    """What became of a list of approved dubs: verdicts by batch and number, and why a dub was not released.

    outdated: those among the missing whose file is another one by now: nothing will come of that approval any more.
    """

    released: tuple[tuple[str, int], ...]
    outdated: tuple[tuple[str, int], ...] = ()
    missing: dict[str, str] = Field(description="sentences by batch and job_id")
