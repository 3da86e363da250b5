"""What a run leaves in its folder: metrics, and the state from which it can go on.

OUT/<kind>.safetensors      the weights to use
OUT/state/state.pt          networks, optimisers, step, epochs (which decide the renderer's phase), settings, snapshot, the run's name
OUT/state/metrics.jsonl     {"step", "split": "train" | "val", "<name>": number ...}
OUT/state/summary.json      how the run ended
OUT/state/pictures/         sample pictures of the renderer
OUT/state/tensorboard/      the metrics for TensorBoard
"""

import json
import logging
import time
from dataclasses import dataclass
from pickle import UnpicklingError  # what torch raises for a file that holds more than weights; nothing is unpickled here
from typing import Any, Literal

import fsspec
import torch

from schemas.checkpoints import Kind
from schemas.errors import CheckpointError, SettingsError, StoreError
from schemas.jobs import TrainingSummary
from schemas.settings import TrainingSettings
from tasks import places

LOG = logging.getLogger(__name__)

Row = dict[str, float | str]
Split = Literal["train", "val"]

FREE_SETTINGS = frozenset({"store", "out", "snapshot", "steps", "workers", "device", "validate_every", "max_non_finite", "resume"})
"""What a resumed run may change. The snapshot has rules of its own; a store may have moved."""
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
class SavedRun:
    """A run as it was saved. All randomness of a run follows from (seed, step, rank), so there is no other random state."""

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


def save_run(out: str, run: SavedRun) -> None:
    """Writes the state whole: an interruption leaves the former one."""
    with places.writing(state_location(out, "state.pt")) as path:
        torch.save({**vars(run), "position": vars(run.position)}, path)


def read_run(out: str, kind: Kind) -> SavedRun | None:
    """The state in a run's folder; None when there is none. CheckpointError when it cannot be read or is of the other network."""
    location = state_location(out, "state.pt")
    if not places.exists(location):
        return None
    try:
        with places.local_copy(location) as path:
            values = torch.load(path, map_location="cpu", weights_only=True)
        run = SavedRun(**{**values, "position": Position(**values["position"])})
    except (OSError, RuntimeError, EOFError, UnpicklingError, TypeError, KeyError) as error:
        raise CheckpointError(f"The training state {location} cannot be read; remove it, or train without --resume or into another folder.") from error
    if run.kind != kind:
        raise CheckpointError(f"The training state {location} is of a {run.kind}, not of a {kind}.")
    return run


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


def settings_of_run(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that make a run what it is; with others its state would be of no one run."""
    return settings.with_absolute_locations().model_dump(mode="json", exclude=set(FREE_SETTINGS))


def require_same_settings(run: SavedRun, settings: TrainingSettings) -> None:
    """SettingsError, naming them, when settings that make a run what it is are others than the saved ones."""
    before = run.settings | {"snapshot": run.snapshot}
    now = settings_of_run(settings) | {"snapshot": settings.snapshot or run.snapshot}
    others = [f"{name} {before[name]}, not {value}" for name, value in now.items() if name in before and before[name] != value]
    if others:
        raise SettingsError(
            f"The training state in {settings.out} was made with other settings ({'; '.join(others)}); give those, or train into another folder."
        )


def read_finished(out: str, run: SavedRun | None, steps: int) -> TrainingSummary | None:
    """The summary of a run that already has so many steps and its weights; None when there is work left."""
    if run is None or run.position.step < steps or not places.exists(weights_location(out, run.kind)):
        return None
    if not places.exists(state_location(out, "summary.json")):
        return None
    summary = read_summary(out).replaced(checkpoint=weights_location(out, run.kind))  # the folder may have moved
    return summary if summary.step == run.position.step else None


def write_summary(out: str, summary: TrainingSummary) -> None:
    """Writes how a run ended."""
    places.write_bytes(state_location(out, "summary.json"), summary.model_dump_json(indent=2).encode())


def read_summary(out: str) -> TrainingSummary:
    """How the run in that folder ended."""
    return TrainingSummary.model_validate_json(places.read_bytes(state_location(out, "summary.json")))


def forget_former_run(out: str) -> None:
    """Takes away what a former run left, save its weights, so that nobody goes on from it or takes it for the new run's."""
    for name in ("state.pt", "summary.json", "pictures"):
        location = state_location(out, name)
        with places.reachable(location):
            filesystem, path = fsspec.core.url_to_fs(location)
            if filesystem.exists(path):
                filesystem.rm(path, recursive=True)


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
        return [{name: float(value) for name, value in row.items() if name not in ("step", "split")} for row in self.rows if row["split"] == "val"]
