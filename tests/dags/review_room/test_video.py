"""Ranges of a video: whatever a player asks for, it gets bytes that the file has, and a piece at a time."""

from hypothesis import given
from hypothesis import strategies as st

from dags.review_room.video import PIECE_BYTES, ByteRange, chosen_range

SIZE = 10 * PIECE_BYTES


def test_a_player_gets_a_piece_and_asks_for_the_next() -> None:
    assert chosen_range("bytes=0-", SIZE) == ByteRange(0, PIECE_BYTES)
    assert chosen_range(f"bytes={PIECE_BYTES}-", SIZE) == ByteRange(PIECE_BYTES, 2 * PIECE_BYTES)
    assert chosen_range("bytes=10-19", SIZE) == ByteRange(10, 20)
    assert chosen_range("bytes=-5", SIZE) == ByteRange(SIZE - 5, SIZE)
    assert chosen_range("bytes=0-", 3) == ByteRange(0, 3)


def test_headers_that_are_no_single_range_are_ignored() -> None:
    assert {chosen_range(header, SIZE) for header in ("", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=x-")} == {None}


def test_nothing_beyond_the_end_is_given() -> None:
    for header in (f"bytes={SIZE}-", f"bytes={10**17}-", "bytes=-0"):
        piece = chosen_range(header, SIZE)
        assert piece is not None
        assert piece.start >= piece.end


@given(header=st.one_of(st.text(max_size=30), st.from_regex(r"bytes=\d{0,18}-\d{0,18}", fullmatch=True)), size=st.integers(0, 2**40))
def test_what_is_given_is_within_the_file(header: str, size: int) -> None:
    piece = chosen_range(header, size)
    if piece is not None and piece.start < piece.end:
        assert piece.start >= 0
        assert piece.end <= size
        assert piece.end - piece.start <= PIECE_BYTES
