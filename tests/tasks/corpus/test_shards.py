from pathlib import Path

import pytest

from tasks.corpus.shards import ShardWriter


def names(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "faces").iterdir())


def write(store: Path, batch: str, clips: int, shard_mb: int) -> None:
    with ShardWriter(str(store), batch, shard_mb) as shards:
        for clip in range(clips):
            shards.write(f"clip{clip}", ".png", [bytes(600_000)] * 2)


def test_leftovers_of_a_run_with_smaller_shards_are_removed(tmp_path: Path) -> None:
    write(tmp_path, "aa", 3, shard_mb=1)
    write(tmp_path, "bb", 2, shard_mb=1)
    assert names(tmp_path) == ["aa-000.tar", "aa-001.tar", "aa-002.tar", "bb-000.tar", "bb-001.tar"]
    write(tmp_path, "aa", 3, shard_mb=100)
    assert names(tmp_path) == ["aa-000.tar", "bb-000.tar", "bb-001.tar"]
    write(tmp_path, "bb", 0, shard_mb=1)
    assert names(tmp_path) == ["aa-000.tar"]


def test_a_run_that_fails_removes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "aa", 2, shard_mb=1)
    with pytest.raises(RuntimeError), ShardWriter(str(tmp_path), "aa", 1):
        raise RuntimeError
    assert names(tmp_path) == ["aa-000.tar", "aa-001.tar"]
