"""What a run leaves in its folder: metrics, and the state from which it can go on.

OUT/<kind>.safetensors      the weights to use
OUT/state/state.pt          networks, optimisers, step, epochs (which decide the renderer's phase), seed, snapshot
OUT/state/metrics.jsonl     {"step", "split": "train" | "val", "<name>": number ...}
OUT/state/summary.json      how the run ended
OUT/state/pictures/         sample pictures of the renderer
OUT/state/tensorboard/      the metrics for TensorBoard
"""

import json
import logging
from dataclasses import dataclass
from pickle import UnpicklingError  # what torch raises for a file that holds more than weights; nothing is unpickled here
from typing import Any, Literal

import fsspec
import torch

from schemas.checkpoints import Kind
from schemas.errors import CheckpointError
from schemas.jobs import TrainingSummary
from tasks import places

LOG = logging.getLogger(__name__)

Row = dict[str, float | str]
Split = Literal["train", "val"]


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
    architecture: dict[str, Any]
    snapshot: str
    seed: int
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
        raise CheckpointError(f"The training state {location} cannot be read; train without --resume, or into another folder.") from error
    if run.kind != kind:
        raise CheckpointError(f"The training state {location} is of a {run.kind}, not of a {kind}.")
    return run


def saved_run_to_resume(out: str, kind: Kind) -> SavedRun | None:
    """The state to go on from; says so when there is none."""
    run = read_run(out, kind)
    if run is None:
        LOG.warning("There is no training state in %s to go on from: training starts afresh.", out)
    return run


def read_finished(out: str, run: SavedRun | None, steps: int) -> TrainingSummary | None:
    """The summary of a run that already has so many steps and its weights; None when there is work left."""
    if run is None or run.position.step < steps or not places.exists(weights_location(out, run.kind)):
        return None
    location = state_location(out, "summary.json")
    return TrainingSummary.model_validate_json(places.read_bytes(location)) if places.exists(location) else None


def write_summary(out: str, summary: TrainingSummary) -> None:
    """Writes how a run ended."""
    places.write_bytes(state_location(out, "summary.json"), summary.model_dump_json(indent=2).encode())


def read_summary(out: str) -> TrainingSummary:
    """How the run in that folder ended."""
    return TrainingSummary.model_validate_json(places.read_bytes(state_location(out, "summary.json")))


def forget_pictures(out: str) -> None:
    """Takes away the sample pictures of a former run that is not gone on with."""
    filesystem, path = fsspec.core.url_to_fs(state_location(out, "pictures"))
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


class MetricRows:
    """The rows of metrics.jsonl: kept here, written whole now and then, so that a bucket serves as well as a folder."""

    def __init__(self, out: str, rows: list[Row] | None = None) -> None:
        self.location = state_location(out, "metrics.jsonl")
        self.rows = rows or []

    @classmethod
    def until(cls, out: str, step: int) -> "MetricRows":
        """The rows that a former run wrote up to a step."""
        location = state_location(out, "metrics.jsonl")
        lines = places.read_bytes(location).decode().splitlines() if places.exists(location) else []
        return cls(out, [row for row in map(json.loads, lines) if row["step"] <= step])

    def add(self, step: int, split: Split, values: dict[str, float]) -> None:
        """Adds a row."""
        self.rows.append({"step": step, "split": split, **values})

    def write(self) -> None:
        """Writes all rows."""
        places.write_bytes(self.location, "".join(json.dumps(row) + "\n" for row in self.rows).encode())

    def validations(self) -> list[dict[str, float]]:
        """The metrics on the validation split, first to last."""
        return [{name: float(value) for name, value in row.items() if name not in ("step", "split")} for row in self.rows if row["split"] == "val"]
