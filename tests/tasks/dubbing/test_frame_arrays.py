from pathlib import Path

import numpy as np
import pytest

from schemas.errors import StoreError
from tasks.dubbing import frame_arrays
from tasks.dubbing.frame_arrays import GrowingArray, array_of, let_go, pieces_of, rows_of


@pytest.mark.parametrize("held_bytes", [0, 10**9])
def test_rows_come_back_in_order_held_or_mapped(held_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_arrays, "HELD_BYTES", held_bytes)
    pieces = [np.random.default_rng(size).random((size, 3, 2)) for size in (1, 0, 40, 7)]
    whole = array_of(pieces, (3, 2), np.float64)
    assert isinstance(whole, np.memmap) == (held_bytes == 0)
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_some_rows_are_read_while_others_come() -> None:
    rows = GrowingArray((2,), np.float32)
    rows.append(np.arange(10).reshape(5, 2))
    np.testing.assert_array_equal(rows.read(1, 3), [[2, 3], [4, 5]])
    rows.append(np.array([[7.0, 8.0]]))
    assert len(rows) == 6
    np.testing.assert_array_equal(rows.read(5, 6), [[7, 8]])


def test_no_rows_are_an_empty_array() -> None:
    assert array_of([], (4,), np.int32).shape == (0, 4)


def test_a_full_disk_is_told_in_a_sentence() -> None:
    rows = GrowingArray((2,), np.float32)
    rows._file.close()
    rows._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    with pytest.raises(StoreError, match="no room for temporary files"):
        rows.append(np.zeros((1, 2)))


@pytest.mark.parametrize("held_bytes", [0, 10**9])
def test_what_was_let_go_of_is_still_there(held_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_arrays, "HELD_BYTES", held_bytes)
    rows = np.random.default_rng(0).random((5000, 8))
    view = array_of([rows], (8,), np.float64)[:, 2:4]
    for _ in range(2):
        np.testing.assert_array_equal(view, rows[:, 2:4])
        let_go(view)


@pytest.mark.parametrize("held_bytes", [0, 10**9])
def test_an_array_is_read_in_pieces_and_its_rows_one_here_one_there(held_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_arrays, "HELD_BYTES", held_bytes)
    rows = np.random.default_rng(0).random((1000, 3))
    whole = array_of([rows], (3,), np.float64)
    pieces = list(pieces_of(whole, 300))
    assert [len(piece) for piece in pieces] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate(pieces), rows)
    places = np.random.default_rng(1).integers(0, 1000, 250)
    np.testing.assert_array_equal(rows_of(whole, places), rows[places])
    assert [piece.shape for piece in pieces_of(whole[:0])] == [(0, 3)]
    assert rows_of(whole, places[:0]).shape == (0, 3)
