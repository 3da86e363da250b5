"""Rows of work and what comes of them: dubbing jobs, batch plans, snapshots, and the summaries that jobs hand back."""

from typing import Literal

from pydantic import Field

from schemas.settings import FormatSettings, OutputRate, Settings, SnapshotSettings


class DubJob(Settings):
    """One row of a job list. `out` is relative to the run's `out` unless it is an s3:// URI."""

    job_id: str = Field(min_length=1, coerce_numbers_to_str=True)
    video: str = Field(min_length=1)
    speech: str = Field(min_length=1)
    out: str = Field(min_length=1)
    fps: OutputRate | None = Field(default=None, description="overrides the run's setting")
    references: int | None = Field(default=None, ge=1, le=100, description="overrides the run's setting")


class PlannedSource(Settings):
    """A source as discovery saw it. Size and version (ETag or modification time) tell whether it changed."""

    uri: str
    size: int
    version: str
    speaker: str


class BatchPlan(Settings):
    """What a batch will hold; written before any work. `attempt` counts earlier finished batches with these sources."""

    batch: str
    sources: tuple[PlannedSource, ...]
    format: FormatSettings
    schema_version: int
    attempt: int = 0
    retry_of: str | None = Field(default=None, description="the finished batch whose outcome this one may better; it is written only if it does")


class SnapshotClip(Settings):
    """A clip that a snapshot chose."""

    clip_id: str
    batch: str
    speaker: str
    split: Literal["train", "val", "test"]


class Snapshot(Settings):
    """A frozen choice of clips: what a training run reads."""

    name: str
    selection: SnapshotSettings
    format: FormatSettings
    clips: tuple[SnapshotClip, ...]
    left_out: dict[str, int] = Field(description="clips not chosen, by the selection setting that left them out")
    split_by: Literal["speaker", "clip"]


class IngestSummary(Settings):
    """What an ingest run did."""

    store: str
    sources: int = Field(description="sources found")
    known: int = Field(description="sources that a finished batch already has")
    batches: tuple[str, ...] = Field(description="batches written by this run")
    clips: int = Field(description="clips written by this run")
    frames: int = Field(description="frames written by this run")
    rejects: dict[str, int] = Field(description="sources and clips turned away by this run, by reason")


class TrainingSummary(Settings):
    """What a training run ended with."""

    kind: Literal["landmark-generator", "renderer"]
    checkpoint: str
    snapshot: str
    step: int
    samples_per_second: float
    metrics_at_start: dict[str, float] = Field(description="on the validation split, before the first step")
    metrics: dict[str, float] = Field(description="on the validation split, at the end")


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


class BulkDubSummary(Settings):
    """What a bulk run ended with."""

    out: str
    jobs: int
    already_done: int
    done: int
    failed: dict[str, int] = Field(description="failed jobs by reason")
    results: str = Field(description="folder or prefix of the result tables")
