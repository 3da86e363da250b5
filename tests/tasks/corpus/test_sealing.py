from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.corpus.sealing import SEAL, is_intact, sealed_table

ROWS = pa.table({"clip_id": ["a", "a", "b"], "number": [1.0, 2.0, 3.0]})


def write(path: Path, rows: pa.Table = ROWS) -> Path:
    with sealed_table(path, ROWS.schema, use_dictionary=["clip_id"]) as writer:
        writer.write_table(rows.slice(0, 2))
        writer.write_table(rows.slice(2))
    return path


def test_a_sealed_table_is_plain_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    assert pq.read_table(path).equals(ROWS)
    assert pq.read_metadata(path).num_row_groups == 2
    assert pq.read_metadata(path).metadata[SEAL.encode()] != b"0" * 64


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.parquet").read_bytes() == write(tmp_path / "b.parquet").read_bytes()


def test_every_flipped_byte_breaks_the_seal_or_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    content = path.read_bytes()
    assert is_intact(path)
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert not is_intact(path)


def test_a_table_without_a_seal_is_not_as_it_was_written(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "a.parquet")
    assert not is_intact(tmp_path / "a.parquet")


def test_after_an_error_nothing_is_sealed(tmp_path: Path) -> None:
    def fail_midway() -> None:
        with sealed_table(tmp_path / "a.parquet", ROWS.schema) as writer:
            writer.write_table(ROWS)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert SEAL.encode() not in (tmp_path / "a.parquet").read_bytes()
