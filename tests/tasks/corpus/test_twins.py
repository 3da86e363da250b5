import numpy as np
import pyarrow as pa
import pytest

from schemas.tables import AUDIO_HASHES, CLIPS, FACE_HASHES
from tasks.corpus import twins
from tasks.corpus.fingerprints import SAME_FACE_BITS, SAME_SOUND_BITS
from tasks.corpus.twins import COLUMNS, find_twins, lowest_of_each_group


def table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema([CLIPS.field(name) for name in COLUMNS]))


def clip(number: int, **changes: object) -> dict[str, object]:
    random = np.random.default_rng(number)
    faces, sound = (random.integers(1, 2**63, words, dtype=np.uint64).tolist() for words in (FACE_HASHES, AUDIO_HASHES))
    usual = {"clip_id": f"{number:04d}", "duration_s": 4.0, "face_px": 200.0, "sharpness": 50.0}
    return usual | {"face_hash": faces, "audio_hash": sound} | changes


def flipped(words: list[int], bits: int, seed: int = 0) -> list[int]:
    """The same words with so many of their bits the other way round."""
    places = np.random.default_rng(seed).choice(64 * len(words), bits, replace=False).tolist()
    return [word ^ sum(1 << place % 64 for place in places if place // 64 == index) for index, word in enumerate(words)]


def coded_again(row: dict, number: int, face_bits: int, sound_bits: int, **changes: object) -> dict[str, object]:
    """The row of the same footage in another coding."""
    hashes = {"face_hash": flipped(row["face_hash"], face_bits), "audio_hash": flipped(row["audio_hash"], sound_bits)}
    return row | {"clip_id": f"{number:04d}"} | hashes | changes


def are_twins(one: dict, other: dict) -> bool:
    return len(set(find_twins(table([one, other])).tolist())) == 1


def test_clips_of_other_footage_have_no_twins() -> None:
    assert find_twins(table([clip(number) for number in range(300)])).tolist() == list(range(300))


def test_fingerprints_that_differ_a_little_are_the_same_footage() -> None:
    one = clip(1)
    assert are_twins(one, coded_again(one, 2, 0, 0))
    assert are_twins(one, coded_again(one, 2, SAME_FACE_BITS, SAME_SOUND_BITS // 2))
    assert not are_twins(one, coded_again(one, 2, SAME_FACE_BITS + 1, 0)), "another picture under one sound"
    assert not are_twins(one, coded_again(one, 2, 0, SAME_SOUND_BITS + 1)), "another sound under one picture: a dub"


def test_clips_of_other_lengths_are_no_twins() -> None:
    one = clip(1)
    assert are_twins(one, coded_again(one, 2, 0, 0, duration_s=4.2))
    assert not are_twins(one, coded_again(one, 2, 0, 0, duration_s=4.24))


@pytest.mark.parametrize("empty", ["face_hash", "audio_hash"])
def test_silence_and_even_pictures_make_no_twins(empty: str) -> None:
    one = clip(1)
    one[empty] = [0] * len(one[empty])
    assert not are_twins(one, coded_again(one, 2, 0, 0, **{empty: one[empty]}))


@pytest.mark.parametrize(
    ("changes", "preferred"),
    [
        ({"face_px": 400.0, "sharpness": 1.0}, "0002"),
        ({"face_px": 100.0, "sharpness": 99.0}, "0001"),
        ({"face_px": 201.0, "sharpness": 49.0}, "0001"),
        ({"face_px": 199.0, "sharpness": 51.0}, "0002"),
        ({}, "0001"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_larger_face_stands_in_then_the_sharper_then_the_lower_name(changes: dict[str, object], preferred: str, order: int) -> None:
    one = clip(1)
    rows = [clip(7), one, clip(8), coded_again(one, 2, 3, 3, **changes)][::order]
    stand_in = find_twins(table(rows))
    assert {rows[row]["clip_id"] for row, of in zip(stand_in, rows, strict=True) if of["clip_id"] in ("0001", "0002")} == {preferred}
    assert [stand_in[place] == place for place, of in enumerate(rows) if of["clip_id"] in ("0007", "0008")] == [True, True]


def test_twins_are_found_among_many_faces_that_are_alike() -> None:
    """As in a corpus of one speaker: all faces share their pieces, so that company is larger than NEIGHBOURS everywhere."""
    same_face = clip(0)["face_hash"]
    rows = [clip(number, face_hash=flipped(same_face, 2, number)) for number in range(20 * twins.NEIGHBOURS)]
    again = [coded_again(row, 5000 + number, 2, SAME_SOUND_BITS // 4) for number, row in enumerate(rows[:100])]
    stand_in = find_twins(table(rows + again))
    found = np.count_nonzero(stand_in[len(rows) :] == np.arange(100))
    assert found == 100
    assert (stand_in[: len(rows)] == np.arange(len(rows))).all()


def test_what_is_connected_is_one_group() -> None:
    pairs = np.array([(5, 4), (1, 2), (2, 5), (7, 8)])
    assert lowest_of_each_group(9, pairs).tolist() == [0, 1, 1, 3, 1, 1, 6, 7, 7]
    assert lowest_of_each_group(2, np.empty((0, 2), dtype=np.int64)).tolist() == [0, 1]


def test_thousands_of_like_clips_are_compared_a_few_times_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    count_bits = twins._differing_bits

    def counted(words: np.ndarray, pairs: np.ndarray, enough: int) -> np.ndarray:
        compared.append(len(pairs))
        return count_bits(words, pairs, enough)

    monkeypatch.setattr(twins, "_differing_bits", counted)
    rows = [clip(0) | {"clip_id": f"{number:04d}"} for number in range(2000)]
    assert not find_twins(table(rows)).any(), "the first one stands for all"
    assert sum(compared) < 4 * len(rows)
