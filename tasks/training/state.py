"""What a run leaves in its folder: metrics, and the state from which it can go on.

OUT/<kind>.safetensors                  the weights to use: the averaged ones of the step with the best score
OUT/state/checkpoints/<step>.pt         networks, averaged weights, optimisers, loss scale, step, epochs (which decide the renderer's phase), the best
                                        step, settings, snapshot, the run's name; the newest few and the best
OUT/state/metrics.jsonl                 {"step", "split": "train" | "val", "<name>": number ...}
OUT/state/summary.json                  how the run ended
OUT/state/pictures/, previews/          sample pictures of the renderer, short clips
OUT/state/tensorboard/                  the metrics for TensorBoard
"""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch raises for a file that holds more than weights; nothing is unpickled here
from typing import Any, Literal

import fsspec
import torch

from schemas.checkpoints import Kind
from schemas.errors import CheckpointError, SettingsError, StoreError
from schemas.jobs import TrainingSummary
from schemas.locations import without_secrets
from schemas.settings import TrainingSettings
from tasks import places

LOG = logging.getLogger(__name__)

Row = dict[str, float | str]
Split = Literal["train", "val"]

FREE_SETTINGS = frozenset(
    {"store", "out", "snapshot", "start_from", "steps", "workers", "device", "compile", "channels_last", "batches_ahead", "memory_limit_mb", "cache"}
    | {"picture_cache_mb", "validate_every", "preview_every", "stop_after", "keep_checkpoints", "max_non_finite", "resume"}
)
"""What a resumed run may change. The snapshot has rules of its own; a store may have moved; of a rate that falls until the last step the steps are a part."""
WEIGHTS_OF_METRICS = frozenset({"fid_weights", "lpips_weights", "identity_weights"})
"""Part of a run, since a published network is measured with them again; but they may move or come later, as nothing is learnt from them."""
STEP_DIGITS = 9
"""Of a checkpoint's file name: names in order are steps in order."""
UNREADABLE = (OSError, RuntimeError, EOFError, UnpicklingError, TypeError, KeyError)
"""What a checkpoint raises that is damaged, of another version, or not there."""
REWRITE_EVERY_S = 60.0
"""Seconds between two writings of the metrics to a bucket, where nothing can be appended."""


def weights_location(out: str, kind: Kind) -> str:
    """Where the weights to use are."""
    return places.join(out, f"{kind}.safetensors")


def state_location(out: str, *names: str) -> str:
    """A location in a run's state folder."""
    return places.join(out, "state", *names)


@dataclass
class Position:
    """How far a run is."""

    step: int = 0
    epochs: float = 0.0
    """Windows seen, divided by the number of training clips."""
    skipped: int = 0
    """Steps whose loss was no number."""


@dataclass(frozen=True)
class Best:
    """The validation with the best score so far: its weights are the ones to use."""

    step: int
    score: float
    """Higher is better."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class SavedRun:
    """A run as it was saved. All randomness of a run follows from (seed, step, rank), so there is no other random state, nor a place in the data."""

    kind: Kind
    name: str
    """Of the session that trained it; empty: nobody named it."""
    architecture: dict[str, Any]
    settings: dict[str, Any]
    """Those that make it this run and no other, as `settings_of_run` gives them."""
    snapshot: str
    snapshot_digest: str
    position: Position
    networks: dict[str, dict[str, Any]]
    optimizers: dict[str, dict[str, Any]]
    averaged: dict[str, Any]
    """The averaged weights of the network that is kept."""
    scaler: dict[str, Any]
    """The loss scale of fp16; empty without."""
    best: Best | None
    ancestors: list[dict[str, Any]]
    """As the header of a checkpoint has them; a resumed run need not know what it began with."""


def save_run(out: str, run: SavedRun, keep: int) -> None:
    """Writes a checkpoint whole: an interruption leaves the former ones. Then only the newest `keep` stay, and the best."""
    name = _checkpoint_name(run.position.step)
    location = state_location(out, "checkpoints", name)
    with places.writing(location) as path:
        _write_checkpoint(path, run, location)
    names = checkpoint_names(out)
    staying = {*names[-keep:], name, _checkpoint_name(run.best.step if run.best else 0)}
    for former in set(names) - staying:
        places.remove(state_location(out, "checkpoints", former))


def _write_checkpoint(path: Path, run: SavedRun, location: str) -> None:
    """Writes to a local path; StoreError, naming the location, when there is no room, which torch hides in an error of its own."""
    values = {**vars(run), "position": vars(run.position), "best": vars(run.best) if run.best else None}
    try:
        with path.open("wb") as file:
            torch.save(values, file)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise StoreError(without_secrets(f"{location} cannot be written: {cause.strerror or cause}.")) from error


def _checkpoint_name(step: int) -> str:
    return f"{step:0{STEP_DIGITS}d}.pt"


def checkpoint_names(out: str) -> list[str]:
    """File names of a run's checkpoints, oldest first."""
    return places.list_names(state_location(out, "checkpoints"), ".pt")


def read_run(out: str, kind: Kind) -> SavedRun | None:
    """The newest state in a run's folder that can be read; None when there is none. CheckpointError when none can, or it is of the other network."""
    names = checkpoint_names(out)
    for name in reversed(names):
        location = state_location(out, "checkpoints", name)
        try:
            run = _read_checkpoint(location)
        except UNREADABLE as error:
            LOG.warning("The training state %s cannot be read (%s); the one before it is taken.", location, type(error).__name__)
            continue
        if run.kind != kind:
            raise CheckpointError(f"The training state {location} is of a {run.kind}, not of a {kind}.")
        return run
    if names:
        folder = state_location(out, "checkpoints")
        raise CheckpointError(f"No training state in {folder} can be read; remove that folder, or train without --resume or into another one.")
    return None


def averaged_weights(out: str, step: int) -> dict[str, Any] | None:
    """The averaged weights in the checkpoint of a step; None when that is not there or cannot be read."""
    try:
        return _read_checkpoint(state_location(out, "checkpoints", _checkpoint_name(step))).averaged
    except UNREADABLE:
        return None


def _read_checkpoint(location: str) -> SavedRun:
    with places.local_copy(location) as path:
        values = torch.load(path, map_location="cpu", weights_only=True)
    best = Best(**values["best"]) if values["best"] else None
    return SavedRun(**{**values, "position": Position(**values["position"]), "best": best})


def saved_run_to_resume(settings: TrainingSettings, kind: Kind, run_name: str = "") -> SavedRun | None:
    """The state to go on from, None for a fresh start; SettingsError when it was made with other settings.

    A named run goes on from its own state and from no other. Without a name the settings' `resume` says whether to go on.
    """
    if not run_name and not settings.resume:
        return None
    run = read_run(settings.out, kind)
    if run is not None and run_name and run.name != run_name:
        LOG.info("The training state in %s is of another run: training starts afresh.", settings.out)
        return None
    if run is not None:
        require_same_settings(run, settings)
    elif settings.resume:
        LOG.warning("There is no training state in %s to go on from: training starts afresh.", settings.out)
    return run


def require_no_other_run(settings: TrainingSettings) -> None:
    """SettingsError where a fresh start would delete what a former run left: a forgotten --resume must not cost days."""
    if not settings.resume and (names := checkpoint_names(settings.out)):
        steps = int(names[-1].removesuffix(".pt"))
        sentence = f"{settings.out} holds a run of {steps} {'step' if steps == 1 else 'steps'} already; give --resume to go on with it, or another folder."
        raise SettingsError(without_secrets(sentence))


def settings_of_run(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that make a run what it is; with others its state would be of no one run."""
    free = FREE_SETTINGS - {"steps"} if settings.schedule == "cosine" else FREE_SETTINGS
    return settings.with_absolute_locations().model_dump(mode="json", exclude=set(free))


def require_same_settings(run: SavedRun, settings: TrainingSettings) -> None:
    """SettingsError, naming them, when settings that make a run what it is are others than the saved ones."""
    before = run.settings | {"snapshot": run.snapshot}
    now = settings_of_run(settings) | {"snapshot": settings.snapshot or run.snapshot}
    named = [name for name in now if name in before and name not in WEIGHTS_OF_METRICS]
    others = [f"{name} {before[name]}, not {now[name]}" for name in named if before[name] != now[name]]
    if others:
        sentence = f"The training state in {settings.out} was made with other settings ({'; '.join(others)}); give those, or train into another folder."
        raise SettingsError(without_secrets(sentence))


def read_finished(settings: TrainingSettings, run: SavedRun | None) -> TrainingSummary | None:
    """The summary of a run that already has its steps, or was stopped early, and its weights; None when there is work left."""
    out = settings.out
    if run is None or not places.exists(weights_location(out, run.kind)) or not places.exists(state_location(out, "summary.json")):
        return None
    summary = read_summary(out).replaced(checkpoint=weights_location(out, run.kind))  # the folder may have moved
    has_ended = run.position.step >= settings.steps or has_stopped(MetricRows.until(out, run.position.step), run.best, settings.stop_after)
    return summary if has_ended and summary.step == run.position.step else None


def has_stopped(rows: "MetricRows", best: Best | None, stop_after: int | None) -> bool:
    """Whether the score has not become better for as many validations as the settings allow."""
    return stop_after is not None and best is not None and rows.validations_after(best.step) >= stop_after


def write_summary(out: str, summary: TrainingSummary) -> None:
    """Writes how a run ended."""
    places.write_bytes(state_location(out, "summary.json"), summary.model_dump_json(indent=2).encode())


def read_summary(out: str) -> TrainingSummary:
    """How the run in that folder ended."""
    return TrainingSummary.model_validate_json(places.read_bytes(state_location(out, "summary.json")))


def forget_former_run(out: str) -> None:
    """Takes away what a former run left, save its weights, so that nobody goes on from it or takes it for the new run's."""
    for name in ("checkpoints", "summary.json", "pictures", "previews"):
        location = state_location(out, name)
        with places.reachable(location):
            filesystem, path = fsspec.core.url_to_fs(location)
            if filesystem.exists(path):
                filesystem.rm(path, recursive=True)


def remove_half_written(out: str, kind: Kind) -> None:
    """Takes away what a run that was killed was just writing; the files that it had been writing them for are whole."""
    places.remove_partials(out, kind)
    for folder in ("", "checkpoints", "pictures", "previews"):
        places.remove_partials(state_location(out, folder).rstrip("/"))


class MetricRows:
    """The rows of metrics.jsonl. A folder has each at once, a bucket, where nothing can be appended, all of them now and then."""

    def __init__(self, out: str, rows: list[Row] | None = None) -> None:
        self.location = state_location(out, "metrics.jsonl")
        self.rows = rows or []
        self._written_at = time.monotonic()

    @classmethod
    def until(cls, out: str, step: int) -> "MetricRows":
        """The rows that a former run wrote up to a step."""
        location = state_location(out, "metrics.jsonl")
        content = places.read_bytes(location).decode() if places.exists(location) else ""
        whole_lines = content.rpartition("\n")[0].splitlines()  # a run that was killed may have left half a line
        return cls(out, [row for row in map(json.loads, whole_lines) if row["step"] <= step])

    def add(self, step: int, split: Split, values: dict[str, float]) -> None:
        """Adds a row, and writes it, or all, where that is due. `write` must have made the file before."""
        self.rows.append({"step": step, "split": split, **values})
        if not places.is_remote(self.location):
            self._append(self.rows[-1])
        elif time.monotonic() - self._written_at > REWRITE_EVERY_S:
            self.write()

    def _append(self, row: Row) -> None:
        try:
            with places.local_path(self.location).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StoreError(f"{self.location} cannot be written: {error.strerror or error}.") from error

    def write(self) -> None:
        """Writes all rows in the place of what is there."""
        places.write_bytes(self.location, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self._written_at = time.monotonic()

    def validations(self) -> list[dict[str, float]]:
        """The metrics on the validation split, first to last."""
        return [_metrics(row) for row in self.rows if row["split"] == "val"]

    def validations_after(self, step: int) -> int:
        """How many validations there were after a step."""
        return sum(row["split"] == "val" and float(row["step"]) > step for row in self.rows)


def _metrics(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name not in ("step", "split")}
