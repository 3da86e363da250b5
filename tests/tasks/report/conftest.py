"""A store, two training runs and a bulk run to write pages of."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.checkpoints import CheckpointHeader, Kind, LandmarkGeneratorSize, RendererSize
from schemas.jobs import TrainingSummary
from schemas.settings import CropSettings, IngestSettings
from tasks.corpus.ingest import ingest_here
from tasks.dubbing.results import ResultWriter, Row
from tasks.progress import silent
from tests.footage import make_speech, make_talking_clip

WICKED = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    make_talking_clip(folder / "sources" / "first.mp4", seconds=1.2, seed=0)
    make_talking_clip(folder / "sources" / "second.mp4", seconds=1.2, seed=1)
    (folder / "sources" / "text.mp4").write_text("this is no video")
    (folder / "speakers.csv").write_text(f'source,speaker\nfirst.mp4,"{WICKED}"\nsecond.mp4,Ada & Bob\n')
    settings = IngestSettings(sources=(str(folder / "sources"),), store=str(folder / "store"), speakers=str(folder / "speakers.csv"))
    ingest_here(settings, silent)
    return folder / "store"


def write_run(out: Path, kind: Kind, rows: list[dict[str, float | str]], *, pictures: int = 0) -> Path:
    """A training run's folder: metrics, a weights file with its header and no weights, sample pictures."""
    (out / "state" / "pictures").mkdir(parents=True)
    (out / "state" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    size = LandmarkGeneratorSize(width=128, layers=2) if kind == "landmark-generator" else RendererSize(width=64)
    weights = None if kind == "landmark-generator" else "seeded-random"
    header = CheckpointHeader(kind=kind, architecture=size, crop=CropSettings(), step=40, snapshot="frozen", perceptual_weights=weights)
    metadata = json.dumps({"__metadata__": {"dubmill": header.model_dump_json()}}).encode()
    (out / f"{kind}.safetensors").write_bytes(len(metadata).to_bytes(8, "little") + metadata)
    for number in range(pictures):
        cv2.imwrite(str(out / "state" / "pictures" / f"step_{number * 20}.png"), np.full((32, 64, 3), 40 * number, np.uint8))
    return out


@pytest.fixture
def landmark_generator_dir(tmp_path: Path) -> Path:
    rows: list[dict[str, float | str]] = [{"step": step, "split": "train", "l1": 0.4 / step, "loss": 0.5 / step} for step in range(1, 41)]
    rows += [{"step": step, "split": "val", "l1": value} for step, value in ((0, 0.4), (20, 0.2), (40, 0.1))]
    return write_run(tmp_path / "landmark-generator", "landmark-generator", rows)


@pytest.fixture
def renderer_dir(tmp_path: Path) -> Path:
    rows: list[dict[str, float | str]] = [{"step": step, "split": "train", "warp": 2.0, "loss": float("nan") if step == 3 else 5.0} for step in range(1, 41)]
    rows += [{"step": step, "split": "val", "psnr": 10.0 + step, "l1": 0.2} for step in (0, 40)]
    return write_run(tmp_path / "renderer", "renderer", rows, pictures=3)


def write_summary(out: Path, kind: Kind, **values: object) -> None:
    """How a run ended, beside its metrics."""
    required = {"kind": kind, "checkpoint": "", "snapshot": "frozen", "step": 40, "samples_per_second": 12.0, "metrics_at_start": {}, "metrics": {}}
    (out / "state" / "summary.json").write_text(TrainingSummary.model_validate(required | values).model_dump_json())


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_clip(tmp_path_factory.mktemp("video") / "source.mp4", seconds=1.0)


@pytest.fixture(scope="session")
def dub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_clip(tmp_path_factory.mktemp("video") / "dub.mp4", seconds=1.4, seed=3)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech(tmp_path_factory.mktemp("speech") / "speech.wav")


@pytest.fixture
def bulk_out(tmp_path: Path, clip: Path) -> Path:
    out = tmp_path / "bulk"
    out.mkdir()
    (out / "done.mp4").write_bytes(clip.read_bytes())
    with ResultWriter(str(out)) as results:
        results.add(result_row(job_id=WICKED, status="done", output="done.mp4", duration_s=1.0, frames=25, dubbed_frames=24, frames_per_second=3.5))
        results.add(result_row(job_id="lost", status="done", output="lost.mp4", duration_s=2.0, frames=50, dubbed_frames=50, frames_per_second=3.5))
        results.add(result_row(job_id="faceless", status="failed", reason="no-face", detail="no face in <b>wall.mp4</b>"))
    return out


def result_row(**values: object) -> Row:
    always: Row = {"video": "v.mp4", "speech": "s.wav", "landmark_generator": "0123456789abcdef", "renderer": "fedcba9876543210", "fingerprint": "0" * 16}
    return {**always, **values}
