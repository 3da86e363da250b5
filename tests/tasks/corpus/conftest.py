"""A folder of footage of every kind, and a store made of it, once for all tests of the corpus."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.jobs import BatchPlan, IngestSummary
from schemas.reasons import RETRYABLE, Reason
from schemas.settings import IngestSettings
from schemas.tables import CLIPS, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.ingest import ingest_here
from tasks.progress import silent
from tests.footage import make_talking_clip


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, a gap without a face, a copy, links, and files that are turned away."""
    root = tmp_path_factory.mktemp("footage")
    make_talking_clip(root / "anna" / "one.mp4", seconds=1.2, seed=1)
    make_talking_clip(root / "anna" / "day two" / "gap.MP4", seconds=1.2, seed=2, hidden_frames=range(10, 20))
    shutil.copy(root / "anna" / "one.mp4", root / "bert.mp4")
    make_talking_clip(root / ".hidden.mp4", seconds=0.2)
    make_talking_clip(root / "mute.mp4", seconds=0.4, sound=False)
    make_talking_clip(root / "nobody.mp4", seconds=0.4, hidden_frames=range(10))
    (root / "text.mp4").write_text("this is no video")
    (root / "empty.mkv").touch()
    (root / "notes.txt").write_text("not a source")
    (root / "lost.mov").symlink_to(root / "nowhere.mov")
    return root


def settings_for(footage: Path, store: Path | str, **changes: object) -> IngestSettings:
    """Settings with small batches, so that there are several."""
    return IngestSettings(sources=(str(footage),), store=str(store), batch_sources=3).replaced(**changes)


@pytest.fixture(scope="session")
def made(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IngestSummary]:
    """A store of all the footage and what its ingest said. For reading only."""
    store = tmp_path_factory.mktemp("made") / "store"
    return store, ingest_here(settings_for(footage, store), silent)


@pytest.fixture
def store(made: tuple[Path, IngestSummary], tmp_path: Path) -> Path:
    """A copy of that store, to be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "store"))


def finish_batch(store: str, plan: BatchPlan, *rejects: tuple[str | None, Reason]) -> None:
    """Writes a batch as planning sees it: its plan, no clip, and these rejects (clip_id or none, reason) of its first source."""
    uri = plan.sources[0].uri if plan.sources else ""
    rows = [
        {"source": uri, "clip_id": clip_id, "stage": "decode", "reason": reason.value, "detail": "so it is", "retryable": reason in RETRYABLE}
        for clip_id, reason in rejects
    ]
    places.write_bytes(layout.plan_location(store, plan.batch), plan.model_dump_json().encode())
    for folder, table in ((layout.REJECTS, pa.Table.from_pylist(rows, schema=REJECTS)), (layout.CLIPS, CLIPS.empty_table())):
        with places.writing(layout.table_location(store, folder, plan.batch)) as path:
            pq.write_table(table, path)
