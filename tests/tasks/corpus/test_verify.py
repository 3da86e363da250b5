import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import StoreError
from schemas.jobs import IngestSummary
from schemas.settings import SnapshotSettings
from tasks.corpus.sealing import sealed_table
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
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


def test_only_the_batches_that_are_asked_for_are_read_back(store: Path) -> None:
    frozen(store)
    batches = CorpusStore.open(str(store)).batches()
    damaged = clips_table(store).stem
    path = store / "audio" / f"{damaged}.parquet"
    flip(path, path.stat().st_size // 2)
    assert verify_store(str(store), silent, [batch for batch in batches if batch != damaged]) == []
    (fault,) = verify_store(str(store), silent, [damaged])
    assert fault.startswith(f"Batch {damaged}: Its table audio")


def test_a_snapshot_is_looked_at_though_its_batches_are_not_read_back(store: Path) -> None:
    frozen(store)
    clips_table(store).unlink()
    (fault,) = verify_store(str(store), silent, [])
    assert "It names" in fault
    assert "clips that are not in the store" in fault


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes a table and seals it again."""
    table = change(pq.read_table(path).replace_schema_metadata(None))
    with sealed_table(path, table.schema) as writer:
        writer.write_table(table)


def frozen(store: Path, **changes: object) -> Path:
    """Freezes a snapshot of most of the store's clips; gives its file."""
    anything = {"name": "a", "min_frames": 20, "min_face_px": 0, "min_detected_share": 0, "max_yaw_deg": 180}
    freeze_snapshot(CorpusStore.open(str(store)), SnapshotSettings(**(anything | changes)))
    return store / "snapshots" / "a.json"


KINDS = ["settings.json", "plans", "clips", "audio", "landmarks", "rejects", "faces", "snapshots/a.json", "snapshots/a.left-out.parquet"]


def files_of(store: Path, kind: str) -> list[Path]:
    return sorted((store / kind).iterdir()) if (store / kind).is_dir() else [store / kind]


def has_no_meaning(path: Path, position: int) -> bool:
    """Whether a byte lies in the zeros after a picture of a shard or at the shard's end."""
    if path.suffix != ".tar":
        return False
    with tarfile.open(path) as tar:
        return not any(member.offset <= position < member.offset_data + member.size for member in tar)


def is_found(store: Path) -> bool:
    try:
        return faults(store) != ""
    except StoreError:  # its settings
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_wherever_it_is(store: Path, kind: str) -> None:
    frozen(store)
    assert faults(store) == ""
    random = Random(kind)
    for path in files_of(store, kind):
        content = path.read_bytes()
        for _ in range(8):
            position, bit = random.randrange(len(content)), random.randrange(8)
            harmless = has_no_meaning(path, position)
            path.write_bytes(content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :])
            assert harmless or is_found(store), f"bit {bit} of byte {position} of {path}"
        path.write_bytes(content)
    assert faults(store) == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_is_cut_off_or_lost_is_found(store: Path, kind: str, share: float) -> None:
    frozen(store)
    path = max(files_of(store, kind), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert is_found(store)
    path.unlink()
    if kind == "clips":
        return  # a batch without this file is one that was never finished
    assert is_found(store)


def test_a_snapshot_of_clips_that_are_gone(store: Path) -> None:
    named = json.loads(frozen(store).read_bytes())["clips"][0]
    for folder in ("clips", "plans"):
        (store / folder / named["batch"]).with_suffix({"clips": ".parquet", "plans": ".json"}[folder]).unlink()
    assert f"Snapshot a: It names 1 clips that are not in the store, the first of them {named['clip_id']}." in faults(store)


def test_a_plan_of_another_batch(store: Path) -> None:
    path = store / "plans" / f"{clips_table(store).stem}.json"
    plan = json.loads(path.read_bytes())
    plan["sources"][0]["speaker"] = "somebody"
    path.write_text(json.dumps(plan))
    assert "Its plan is not the one that its name was made of." in faults(store)
    assert "have another speaker or split than its plan" in faults(store)


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


@pytest.mark.parametrize("folder", ["audio", "landmarks"])
def test_rows_that_are_too_few(store: Path, folder: str) -> None:
    path = store / folder / clips_table(store).name
    rewritten(path, lambda table: table.slice(0, len(table) - 1))
    assert f"The table {folder} has" in faults(store)


def test_a_shard_in_which_no_clip_lies(store: Path) -> None:
    shutil.copy(shard_of(store), store / "faces" / f"{clips_table(store).stem}-001.tar")
    shutil.copy(shard_of(store), store / "faces" / "0123456789abcdef-000.tar")  # of a run at work
    assert faults(store) == f"Batch {clips_table(store).stem}: No clip lies in the face shard {clips_table(store).stem}-001.tar; a killed run left it behind."


def test_a_source_that_is_lost(store: Path) -> None:
    for path in (store / "rejects").iterdir():
        rewritten(path, lambda table: table.slice(0, 0))
    assert "is neither kept nor turned away" in faults(store)


def test_values_that_are_no_numbers(store: Path) -> None:
    path = store / "landmarks" / clips_table(store).name

    def spoilt(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[2]["pose"][5] = float("nan")
        return pa.Table.from_pylist(rows, schema=table.schema)

    rewritten(path, spoilt)
    assert "hold values that are no numbers" in faults(store)
