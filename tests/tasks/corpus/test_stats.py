from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.settings import FormatSettings
from schemas.tables import CLIPS
from tasks.corpus.stats import corpus_version
from tasks.corpus.store import CorpusStore


@pytest.fixture
def empty(tmp_path: Path) -> CorpusStore:
    (tmp_path / "clips").mkdir()
    return CorpusStore.create_or_open(str(tmp_path), FormatSettings())


def add_batch(store: CorpusStore, batch: str, clips: int) -> Path:
    plain = {field.name: _plain(field.type) for field in CLIPS}
    rows = [plain | {"clip_id": f"{batch}-{number}"} for number in range(clips)]
    path = Path(store.uri) / "clips" / f"{batch}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=CLIPS), path)
    return path


def _plain(kind: pa.DataType) -> object:
    if pa.types.is_fixed_size_list(kind):
        return [0] * kind.list_size
    return [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else 0


def test_the_version_changes_exactly_with_the_batches_that_hold_clips(empty: CorpusStore) -> None:
    nothing = corpus_version(empty)
    add_batch(empty, "b1", 2)
    one = corpus_version(empty)
    assert (nothing[0], one[0]) == (0, 1)
    assert nothing[1] != one[1]
    add_batch(empty, "b2", 0)
    assert corpus_version(empty) == one, "a batch whose sources were all turned away brings nothing new"
    path = add_batch(empty, "b0", 1)
    assert corpus_version(empty)[0] == 2
    assert corpus_version(empty)[1] not in (one[1], nothing[1])
    path.unlink()
    assert corpus_version(empty) == one
