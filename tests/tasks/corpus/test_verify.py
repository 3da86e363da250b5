import io
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import StoreError
from schemas.jobs import IngestSummary
from tasks.corpus.verify import verify_store
from tasks.progress import silent

Made = tuple[Path, IngestSummary]


def faults(store: Path) -> str:
    return "\n".join(verify_store(str(store), silent))


def clips_table(store: Path) -> Path:
    return next(path for path in sorted((store / "clips").iterdir()) if pq.read_metadata(path).num_rows)


def shard_of(store: Path) -> Path:
    return store / "faces" / f"{clips_table(store).stem}-000.tar"


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def test_a_sound_store_has_no_faults(made: Made) -> None:
    assert faults(made[0]) == ""


def test_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no corpus store"):
        verify_store(str(tmp_path), silent)


def test_a_flipped_byte_in_a_picture(store: Path) -> None:
    row = pq.read_table(clips_table(store)).to_pylist()[0]
    flip(shard_of(store), row["faces_offset"][3] + row["faces_size"][3] // 2)
    assert f"The picture {row['clip_id']}.000003.png of the face shard {shard_of(store).name} is damaged." in faults(store)


def test_a_cut_shard(store: Path) -> None:
    path = shard_of(store)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"The face shard {path.name} is damaged" in faults(store)


def test_a_shard_cut_at_the_edge_of_a_picture(store: Path) -> None:
    path = shard_of(store)
    last = pq.read_table(clips_table(store)).to_pylist()[-1]
    path.write_bytes(path.read_bytes()[: last["faces_offset"][-1] - 512])
    assert "is missing" in faults(store)


def test_pictures_in_other_places_than_the_rows_say(store: Path) -> None:
    path = shard_of(store)
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, content in reversed(members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert "is not where the clip's row says" in faults(store)


@pytest.mark.parametrize("folder", ["audio", "landmarks", "rejects", "plans", "faces"])
def test_a_missing_file(store: Path, folder: str) -> None:
    for path in (store / folder).iterdir():
        path.unlink()
    assert faults(store)


@pytest.mark.parametrize("folder", ["clips", "audio", "landmarks", "rejects"])
def test_a_flipped_byte_in_a_table(store: Path, folder: str) -> None:
    path = store / folder / clips_table(store).name
    flip(path, path.stat().st_size // 3)
    assert faults(store)


@pytest.mark.parametrize("folder", ["audio", "landmarks"])
def test_rows_that_are_too_few(store: Path, folder: str) -> None:
    path = store / folder / clips_table(store).name
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert f"The table {folder} has" in faults(store)


def test_a_shard_in_which_no_clip_lies(store: Path) -> None:
    shutil.copy(shard_of(store), store / "faces" / f"{clips_table(store).stem}-001.tar")
    shutil.copy(shard_of(store), store / "faces" / "0123456789abcdef-000.tar")  # of a run at work
    assert faults(store) == f"Batch {clips_table(store).stem}: No clip lies in the face shard {clips_table(store).stem}-001.tar; a killed run left it behind."


def test_a_source_that_is_lost(store: Path) -> None:
    for path in (store / "rejects").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.slice(0, 0), path)
    assert "is neither kept nor turned away" in faults(store)


def test_values_that_are_no_numbers(store: Path) -> None:
    path = store / "landmarks" / clips_table(store).name
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[2]["pose"][5] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    assert "hold values that are no numbers" in faults(store)
