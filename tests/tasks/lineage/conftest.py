"""A corpus, models that learnt from it, and dubs that these made: small, and as the real ones say of themselves."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import write_tensors
from schemas.checkpoints import HEADER_KEY, Ancestor, CheckpointHeader, Kind, LandmarkGeneratorSize, RendererSize
from schemas.jobs import BatchPlan, PlannedSource
from schemas.settings import SCHEMA_VERSION, CropSettings, SnapshotSettings
from schemas.tables import DUB_RESULTS, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.dubbing.results import ResultWriter
from tasks.file_hash import file_hash
from tests.training_corpus import BATCH, make_training_corpus

SOURCES = {"/footage/anna/1.mp4": "anna", "/footage/anna/2.mp4": "anna", "/footage/ben.mp4": "ben", "/footage/carla.mp4": "carla"}
TURNED_AWAY = "/footage/nobody.mp4"
SIZES = {"landmark-generator": LandmarkGeneratorSize(), "renderer": RendererSize()}
EVERYTHING = SnapshotSettings(name="first", min_frames=5, min_face_px=0, min_detected_share=0, max_yaw_deg=180, twins="all", val_share=0, test_share=0)


def sha256_of_source(index: int) -> str:
    """What the SHA-256 of the source of that clip would be: its clip_id begins with it."""
    return f"{index:016x}{'5' * 48}"


def make_store(folder: Path) -> CorpusStore:
    """A store with a clip of each of SOURCES; the snapshot `first` leaves the last one out: it is shorter than the others."""
    store = make_training_corpus(folder, {"train": [10, 20, 30, 5]})
    path = Path(layout.table_location(store.uri, layout.CLIPS, BATCH))
    table = pq.read_table(path)
    for name, values in (("source", list(SOURCES)), ("speaker", list(SOURCES.values()))):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(values, pa.string()))
    pq.write_table(table, path)
    sources = tuple(PlannedSource(uri=uri, size=1, version="1", speaker=speaker) for uri, speaker in SOURCES.items())
    finish_plan(store, BatchPlan(batch=BATCH, sources=sources, format=store.format, schema_version=SCHEMA_VERSION))
    Path(layout.snapshot_location(store.uri, "frozen")).unlink()
    freeze_snapshot(store, EVERYTHING.replaced(min_frames=6))
    return store


def finish_plan(store: CorpusStore, plan: BatchPlan) -> None:
    """Writes a plan, and that its batch turned away one source more."""
    places.write_bytes(layout.plan_location(store.uri, plan.batch), plan.model_dump_json().encode())
    reject = {"source": TURNED_AWAY, "clip_id": None, "stage": "decode", "reason": "no-face", "detail": "nobody", "retryable": False}
    with places.writing(layout.table_location(store.uri, layout.REJECTS, plan.batch)) as path:
        pq.write_table(pa.Table.from_pylist([reject], schema=REJECTS), path)


def take_out(store: CorpusStore, speaker: str) -> str:
    """Replaces the snapshot `first` by one without a speaker, as `corpus forget` does; gives its name."""
    first = store.snapshot("first")
    left = first.replaced(name="first-without-0a1b2c3d", clips=tuple(clip for clip in first.clips if clip.speaker != speaker), checksum="0" * 64)
    places.write_bytes(layout.snapshot_location(store.uri, left.name), left.model_dump_json().encode())
    places.remove(layout.snapshot_location(store.uri, "first"))
    return left.name


@dataclass
class House:
    """Where everything is."""

    folder: Path
    store: CorpusStore

    @property
    def places(self) -> dict[str, list[str]]:
        """The arguments of a search that looks everywhere."""
        return {"stores": [self.store.uri], "models": [str(self.folder / "models")], "dubs": [str(self.folder / "dubs")]}

    def weights(self, kind: Kind, name: str, **header: object) -> Path:
        """Writes a weights file `models/<name>` that says so of itself; by default it learnt from the snapshot `first`."""
        snapshot = self.store.snapshot("first")
        learnt = {"snapshot": snapshot.name, "snapshot_checksum": snapshot.checksum, "store": self.store.uri, "step": 100}
        said = CheckpointHeader.model_validate({"kind": kind, "architecture": SIZES[kind], "crop": CropSettings()} | learnt | header)
        path = self.folder / "models" / name
        write_tensors(str(path), {name: torch.zeros(1)}, {HEADER_KEY: said.model_dump_json()})
        return path

    def published(self, kind: Kind, **header: object) -> Path:
        """The same as a published version, in a folder that is named by its content."""
        made = self.weights(kind, f"{kind}.safetensors", **header)
        path = made.parent / kind / file_hash(made)[:12] / made.name
        path.parent.mkdir(parents=True)
        return made.rename(path)

    def dub(self, job_id: str, models: dict[str, Path | str], **said: object) -> str:
        """Writes the row of a dub by weights, or by what is told of them; gives its output."""
        output = f"{self.folder}/dubs/{job_id}.mp4"
        row = dict.fromkeys(DUB_RESULTS.names) | {"job_id": job_id, "video": "/elsewhere.mp4", "speech": "/s.wav", "output": output, "status": "done"}
        for network, weights in models.items():
            digest = file_hash(weights) if isinstance(weights, Path) else weights
            row |= {network: digest[:16], f"{network}_sha256": digest, f"{network}_snapshot": "first"}
        with ResultWriter(str(self.folder / "dubs")) as writer:
            writer.add(row | {"fingerprint": "", "video_sha256": "e" * 64, "speech_sha256": "f" * 64} | said)
        return output


def grown_from(weights: Path, origin: str = "trained", snapshot: str | None = "first") -> Ancestor:
    """Weights as those tell of them that began with them."""
    return Ancestor(version=file_hash(weights)[:12], origin=origin, step=100, snapshot=snapshot)


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "models").mkdir()
    (tmp_path / "dubs").mkdir()
    return House(tmp_path, make_store(tmp_path / "corpus"))
