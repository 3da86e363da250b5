"""Rows of work and what comes of them: dubbing jobs, batch plans, snapshots, and the summaries that jobs hand back."""

from typing import Literal

from pydantic import Field, JsonValue

from schemas.gate import Gate
from schemas.settings import CropSettings, CuttingSettings, FormatSettings, MetricName, Settings, SnapshotSettings

Split = Literal["train", "val", "test"]


class Segment(Settings):
    """A stretch of a video in which one person says one speech; times in seconds of the output."""

    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)
    speech: str = Field(min_length=1, description="spoken from start_s on, up to end_s; heard is what the file carries")
    face: str = Field(default="largest", min_length=1, description="as the setting `face`")


class DubJob(Settings):
    """One row of a job list. `out` is relative to the run's `out` unless it is an s3:// URI."""

    job_id: str = Field(min_length=1, coerce_numbers_to_str=True)
    video: str = Field(min_length=1)
    speech: str = Field(min_length=1)
    out: str = Field(min_length=1)
    priority: int = Field(default=0, description="higher is done first; not part of what makes a job the same")
    segments: tuple[Segment, ...] = Field(default=(), description="several speakers in one video; `speech` is then what the file carries")
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="settings of a single dub that this row overrides; in a list each is a column of its own"
    )


class PlannedSource(Settings):
    """A source as discovery saw it. Size and version (ETag or modification time) tell whether it changed."""

    uri: str
    size: int
    version: str
    speaker: str
    split: Split | None = Field(default=None, description="as the lists of its layout say (lrs2, cmlr)")


class BatchPlan(Settings):
    """What a batch will hold; written before any work. `attempt` counts earlier finished batches with these sources."""

    batch: str
    sources: tuple[PlannedSource, ...]
    format: FormatSettings
    cutting: CuttingSettings = CuttingSettings()
    schema_version: int
    attempt: int = 0
    retry_of: str | None = Field(default=None, description="the finished batch whose outcome this one may better; it is written only if it does")


class SnapshotClip(Settings):
    """A clip that a snapshot chose."""

    clip_id: str
    batch: str
    speaker: str
    split: Split
    sound_shift_frames: int = Field(default=0, description="the sound of video frame f is that of frame f + this: the A/V offset, taken back")


class Snapshot(Settings):
    """A frozen choice of clips: what a training run reads."""

    name: str
    selection: SnapshotSettings
    format: FormatSettings
    clips: tuple[SnapshotClip, ...]
    left_out: dict[str, int] = Field(
        description="clips not chosen, by the selection setting that left them out; each with its value in snapshots/<name>.left-out.parquet"
    )
    split_by: Literal["speaker", "clip", "layout", "ending"]
    checksum: str = Field(default="", description="SHA-256 of this file with nothing in this place, followed by its table of left-out clips")


class IngestSummary(Settings):
    """What an ingest run did."""

    store: str
    sources: int = Field(description="sources found")
    known: int = Field(description="sources that a finished batch already has")
    batches: tuple[str, ...] = Field(description="batches written by this run")
    clips: int = Field(description="clips written by this run")
    frames: int = Field(description="frames written by this run")
    rejects: dict[str, int] = Field(description="sources and clips turned away by this run, by reason")
    corpus_batches: int = Field(default=0, description="finished batches of the store that hold clips, whoever wrote them")
    corpus_clips: int = Field(default=0, description="clips that those batches hold")
    corpus_version: str = Field(default="", description="changes exactly when such a batch is added or taken away")


class TrainingSummary(Settings):
    """What a training run ended with."""

    kind: Literal["landmark-generator", "renderer"]
    checkpoint: str
    snapshot: str
    store: str = Field(default="", description="the corpus store of the snapshot")
    step: int = Field(description="steps made")
    samples_per_second: float
    input_wait_share: float = Field(default=0.0, description="share of the time in which the next batch was waited for")
    metrics_at_start: dict[str, float] = Field(description="on the validation split, before the first step")
    metrics: dict[str, float] = Field(description="on the validation split, of the weights to use")
    best_step: int = Field(default=0, description="the step of the weights to use: the one with the best score")
    stopped_early: bool = Field(default=False, description="the score had not become better for as many validations as the settings allow")
    skipped: int = Field(default=0, description="steps left out because a loss was no number")
    absent: dict[str, str] = Field(default_factory=dict, description="metrics that were not measured, and why")


class FinetuneSummary(Settings):
    """What fine-tuning on one person ended with."""

    out: str
    landmark_generator: TrainingSummary
    renderer: TrainingSummary
    clips: dict[Split, int] = Field(description="clips of the person by split")
    unchanged: tuple[Literal["landmark-generator", "renderer"], ...] = Field(
        default=(), description="networks that no step made better on what was held out: they are as they were at the start"
    )


class FrozenSummary(Settings):
    """A snapshot that a job froze."""

    store: str
    snapshot: str
    clips: dict[Split, int]
    checksum: str = Field(default="", description="of the snapshot's files, as it says it itself")
    batches: int = Field(default=0, description="batches that its clips lie in")


class CollectedCounts(Settings):
    """What collecting garbage deleted, or would delete."""

    dry_run: bool
    batches: int = Field(description="finished batches that no snapshot names")
    clips: int = Field(description="clips in those batches")
    sources_new_again: int = Field(description="sources of those batches, which the next ingest that meets them reads again")
    leftovers: int = Field(description="batches that killed runs began and none finished")
    stray_files: int = Field(description="shards in which no clip lies, and temporary files")
    freed_bytes: int
    kept_for_lack_of_snapshots: int = Field(description="finished batches that stay because the store has no snapshot at all, which would name them")


class VerifiedCounts(Settings):
    """What was read back and found sound."""

    batches: int = Field(description="batches read back")
    of_batches: int = Field(description="finished batches of the store")
    unfinished: int = Field(description="batches that are planned and not finished: the next ingest goes on with them")


class MaintainSummary(Settings):
    """What keeping a store in order came to; nothing where a step was not asked for."""

    store: str
    gc: CollectedCounts | None = None
    verify: VerifiedCounts | None = None


class PublishSummary(Settings):
    """Whether a trained network was published."""

    kind: Literal["landmark-generator", "renderer"]
    published: bool
    version: str = Field(description="of this network, published or not")
    sha256: str = Field(default="", description="of this network's weights file")
    snapshot: str = Field(default="", description="that this network was trained on")
    store: str = Field(default="", description="the corpus store of the snapshot")
    location: str = Field(description="folder of the published version that is now in use; empty when there is none")
    score: float
    former_score: float | None = Field(default=None, description="of the version published before, on the same samples")
    metrics: dict[str, float]
    former_metrics: dict[str, float] = Field(default_factory=dict)
    sentence: str = Field(description="what was decided, and by how much it won or lost")


class SourceShown(Settings):
    """A stretch of a dub that shows the source, wholly or in part, and why."""

    start_s: float
    end_s: float
    reason: Literal["no-face", "turned-away", "too-small", "covered", "not-spoken"]


class Moment(Settings):
    """A second of a dub, for people to look at."""

    second: int
    confidence: float = Field(description="0..1")
    why: str = Field(description="what lowered it most")


class DubOrigin(Settings):
    """What a dub was made of: files by their SHA-256, networks as `landmark_generator` and `renderer`."""

    video: str
    speech: str
    segments: tuple[str, ...] = Field(default=(), description="the speeches of segments, in their order, which then moved the lips")
    soundtrack: str | None = Field(default=None, description="where it is not the speech")
    models: dict[str, str] = Field(description="weights file by network")
    snapshots: dict[str, str] = Field(default_factory=dict, description="that each network was trained on, where its header names one")
    consent: str | None = Field(default=None, description="reference of the consent")


class DubSummary(Settings):
    """What one dub ended with."""

    output: str
    frames: int
    dubbed_frames: int = Field(description="frames whose face was rendered; the others show the source")
    duration_s: float
    fps: str = Field(description="exact, for example 30000/1001")
    width: int
    height: int
    seconds_by_stage: dict[str, float] = Field(default_factory=dict)
    source_shown: tuple[SourceShown, ...] = Field(default=(), description="stretches that show the source, and why")
    confidence: tuple[float, ...] = Field(default=(), description="of each second, 0..1")
    worst: tuple[Moment, ...] = Field(default=(), description="the seconds to look at first, the least certain first")
    template_was_kept: bool = Field(default=False, description="pass one was not needed: its outcome was kept from an earlier dub")
    made_of: DubOrigin | None = None
    patch: str | None = Field(default=None, description="folder of the faces alone, with alpha, where those were asked for")


class CheckSummary(Settings):
    """Whether a video can be dubbed, how well, and at what cost; measured without a GPU."""

    grade: Literal["good", "fair", "poor", "no"]
    reasons: tuple[str, ...] = Field(description="sentences, the gravest first: what lowers the grade, or what a check cannot tell")
    duration_s: float = Field(description="of the dub: the speech's length, or the video's without one")
    source_shown_s: float = Field(description="seconds that would show the source")
    source_shown: tuple[SourceShown, ...] = ()
    face_px: float = Field(description="shorter side of the face box, median, in pixels of the source")
    frames: int = Field(description="frames that would be rendered")
    tflop: float = Field(description="arithmetic of rendering them at the published size with the settings' references")
    render_s: float = Field(default=0.0, description="seconds that this machine's processor takes for that in fp32, estimated by a measured matrix product")


class FailedJob(Settings):
    """A job of a list that failed, and why."""

    job_id: str
    reason: str = Field(description="schemas.reasons.Reason")
    detail: str


class BulkDubSummary(Settings):
    """What a bulk run ended with."""

    out: str
    jobs: int
    already_done: int
    done: int
    failed: dict[str, int] = Field(description="failed jobs by reason")
    first_failed: tuple[FailedJob, ...] = Field(default=(), description="the first few of them; every job's row is in the results")
    results: str = Field(description="folder or prefix of the result tables")
    models: dict[str, str] = Field(default_factory=dict, description="SHA-256 of the weights file by network; the first digits are its version")
    snapshots: dict[str, str] = Field(default_factory=dict, description="that each network was trained on, where its header names one")


class CutClip(Settings):
    """A piece of a video that the evaluation cuts out: frames at 25 a second, and the sound that belongs to them."""

    source: str
    start_frame: int
    frames: int
    sound_shift_frames: int = Field(default=0, description="as of a snapshot's clip")


class EvaluationPair(Settings):
    """What is compared: two videos, or a clip that is dubbed first."""

    name: str
    generated: str | None = None
    real: str | None = None
    speaker: str | None = None
    language: str | None = None
    clip: CutClip | None = Field(default=None, description="of a store: dubbed, and compared with itself")
    speech: CutClip | None = Field(default=None, description="whose speech the clip is dubbed with; none: its own")
    heard: tuple[float, ...] = Field(default=(), description="lip opening of the speech's own speaker, frame by frame, where it is known")


class Estimate(Settings):
    """A figure over clips. low and high: the interval of 95 % by bootstrap over clips; none where there is one clip, or no interval."""

    value: float
    low: float | None = None
    high: float | None = None
    clips: int = Field(description="clips that tell it")
    exact: bool = Field(default=False, description="of the real video against itself: known by definition, and not measured")


class MetricFigure(Settings):
    """A metric of generated and of real video."""

    name: MetricName
    definition: str
    better: str
    version: str = Field(description="of what measures it")
    weights: str | None = Field(default=None, description="SHA-256 of the weights file that it is measured with; none: it needs none")
    generated: Estimate | None = None
    real: Estimate | None = None


class GroupFigure(Settings):
    """The metrics of clips of one condition or speaker."""

    condition: str = Field(description="yaw, face size, occlusion, language or speaker")
    group: str
    clips: int
    generated: dict[MetricName, float]
    real: dict[MetricName, float]


class NotCompared(Settings):
    """A pair that was not compared, and why."""

    name: str
    status: Literal["misaligned", "failed"]
    detail: str
    shift_frames: int | None = None


class EvaluationSummary(Settings):
    """What an evaluation found."""

    out: str
    pairs: int
    compared: int
    not_compared: tuple[NotCompared, ...] = ()
    unpaired: tuple[str, ...] = Field(default=(), description="videos without a partner of their name, which were left out")
    metrics: tuple[MetricFigure, ...]
    groups: tuple[GroupFigure, ...] = ()
    absent: dict[str, str] = Field(default_factory=dict, description="metrics that were not measured, and why")
    gate: Gate = Field(default=Gate(), description="whether the generated video's figures are past the settings' thresholds")
    pictures: int = Field(default=0, description="pairs of pictures that FID is of; 0: it was not measured")
    crop: CropSettings
    models: dict[str, str] = Field(default_factory=dict, description="versions of the networks that dubbed: first 16 hex digits of the files' SHA-256")
    snapshot: str = Field(default="", description="of the store whose clips these are")
    seed: int
    resamples: int
    dubmill: str = Field(default="", description="version of dubmill")


class ReviewSummary(Settings):
    """What making a batch for the review room came to."""

    batch: str
    location: str = Field(description="folder or prefix of the batch")
    dubs: int = Field(description="dubs that the room shows")
    made: int = Field(description="dubs whose material was made now; that of the others was there")
    held: int = Field(description="dubs that the gate holds")
    not_shown: int = Field(default=0, description="dubs that cannot be shown")
    first_not_shown: dict[str, str] = Field(default_factory=dict, description="why, by job_id, of the first few of them; the log names all")
    failed_jobs: int = Field(default=0, description="jobs of the run that made no dub")
    gate: Gate = Field(description="of the run as a whole")


class ReleaseSummary(Settings):
    """What releasing approved dubs ended with."""

    release: str
    released: int
    already_released: int
    missing: int = Field(description="approved dubs that are not there any more, or could not be copied")
    outcome: str = Field(description="JSON file that names them (schemas.review.ReleaseOutcome)")
