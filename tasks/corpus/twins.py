"""Near twins: the same footage in another coding, recognised by the fingerprints of its faces and its sound."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import AUDIO_HASHES, FACE_HASHES
from tasks.corpus.fingerprints import SAME_FACE_BITS, SAME_SOUND_BITS

IntArray = npt.NDArray[np.int64]
WordArray = npt.NDArray[np.uint64]

COLUMNS = ("clip_id", "duration_s", "face_px", "sharpness", "face_hash", "audio_hash")
"""Of `clips`: what twins are found and chosen by."""
TWIN_LENGTH_S = 0.22
"""Twins differ in length by no more, 5 frames: another frame rate or an encoder's padding moves an end by a few."""
NEIGHBOURS = 32
"""A clip is compared with so many that share a piece of its fingerprint, so that a million clips of one face take no billion steps.
In larger company twins are still neighbours where two pieces agree, of which there are 54 tries."""
SIZE_STEP = 1.1
"""Faces whose sizes differ by less than this factor count as equally large: coding again moves a box by a pixel."""


def find_twins(clips: pa.Table) -> IntArray:
    """(n,) for each row of `clips` the row that stands for it: the preferred one of its twins, or itself where it has none.

    Twins have about the same length, faces and sound; twins of twins belong together. Preferred is the larger face in the source,
    since it holds more detail; of equally large ones the sharper, which a coarse coding is not; of equally sharp ones the lower
    clip_id. The choice depends on the rows' content alone, not on their order. Clips whose faces or whose sound have an empty
    fingerprint (an even picture, silence) have no twins: it would be the same for all of them.
    """
    faces, sound = _words(clips, "face_hash", FACE_HASHES), _words(clips, "audio_hash", AUDIO_HASHES)
    told = np.flatnonzero(faces.any(axis=1) & sound.any(axis=1))
    length_s = clips["duration_s"].to_numpy()[told]
    groups = np.arange(len(clips))
    groups[told] = told[_groups_of_twins(faces[told], sound[told], length_s)]
    order = _preference(clips)
    preferred = np.full(len(clips), -1, dtype=np.int64)
    preferred[groups[order[::-1]]] = order[::-1]  # the most preferred is written last
    return preferred[groups]


def lowest_of_each_group(count: int, pairs: IntArray) -> IntArray:
    """(count,) for each of the numbers 0 … count - 1 the lowest of those that pairs (n, 2) connect it with."""
    lowest = np.arange(count)
    _connect(lowest, pairs)
    return lowest


def _connect(lowest: IntArray, pairs: IntArray) -> None:
    """Joins the groups of `lowest` (as lowest_of_each_group gives them) that pairs (n, 2) connect, in place."""
    while len(pairs := _of_two_groups(lowest[pairs])):
        np.minimum.at(lowest, pairs.max(axis=1), pairs.min(axis=1))
        while (lowest != (further := lowest[lowest])).any():
            lowest[:] = further


def _of_two_groups(pairs: IntArray) -> IntArray:
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _words(clips: pa.Table, name: str, width: int) -> WordArray:
    column = clips[name].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.uint64).reshape(-1, width)


def _preference(clips: pa.Table) -> IntArray:
    """Rows, the most preferred first."""
    steps = np.round(np.log(np.maximum(clips["face_px"].to_numpy(), 1.0)) / np.log(SIZE_STEP))
    looks = pa.table({"size": steps, "sharpness": clips["sharpness"], "clip_id": clips["clip_id"]})
    order = pc.sort_indices(looks, sort_keys=[("size", "descending"), ("sharpness", "descending"), ("clip_id", "ascending")])
    return np.asarray(order.to_numpy(), dtype=np.int64)


def _groups_of_twins(faces: WordArray, sound: WordArray, length_s: npt.NDArray[np.float64]) -> IntArray:
    """(n,) for each row the lowest of its twins and their twins; nearly all are found: those whose fingerprints have no two bytes in
    common are passed over, one in twenty where 30 bits of the faces and 43 of the sound differ at random."""
    lowest = np.arange(len(faces))
    for pairs in _candidates(faces, sound):
        # Connected ones are not compared again: of a hundred thousand like copies each would be a twin of each.
        apart = pairs[lowest[pairs[:, 0]] != lowest[pairs[:, 1]]]
        alike = apart[np.abs(length_s[apart[:, 0]] - length_s[apart[:, 1]]) <= TWIN_LENGTH_S]
        alike = alike[_differing_bits(faces, alike, SAME_FACE_BITS) <= SAME_FACE_BITS]
        _connect(lowest, alike[_differing_bits(sound, alike, SAME_SOUND_BITS) <= SAME_SOUND_BITS])
    return lowest


def _candidates(faces: WordArray, sound: WordArray) -> Iterator[IntArray]:
    """Pairs (n, 2) of rows that share two bytes of a fingerprint; those that share two of the other one, too, come first."""
    face_bytes, sound_bytes = faces.view(np.uint8), sound.view(np.uint8)
    for first, second in ((face_bytes, sound_bytes), (sound_bytes, face_bytes)):
        for place in range(first.shape[1] - 1):
            shared, beside = _two_bytes(first, place), _two_bytes(second, place % (second.shape[1] - 1))
            order = np.argsort((shared << np.uint32(16)) | beside, kind="stable")
            yield from _neighbours(order, shared[order])


def _two_bytes(fingerprints: npt.NDArray[np.uint8], place: int) -> npt.NDArray[np.uint32]:
    pieces: npt.NDArray[np.uint32] = fingerprints[:, place].astype(np.uint32) << np.uint32(8)
    return pieces | fingerprints[:, place + 1]


def _neighbours(order: IntArray, shared: npt.NDArray[np.uint32]) -> Iterator[IntArray]:
    """Pairs of rows, near each other in that order, whose piece is the same."""
    places = np.arange(len(order))
    for distance in range(1, NEIGHBOURS + 1):
        places = places[: np.searchsorted(places, len(order) - distance)]
        places = places[shared[places] == shared[places + distance]]  # in an ordered row, later ones differ where this one does
        if not len(places):
            return
        yield np.stack([order[places], order[places + distance]], axis=1)


def _differing_bits(words: WordArray, pairs: IntArray, enough: int) -> IntArray:
    """(n,) bits that differ, counted word by word until there are more than `enough`."""
    bits = np.zeros(len(pairs), dtype=np.int64)
    for column in words.T:
        open_pairs = np.flatnonzero(bits <= enough)
        bits[open_pairs] += _set_bits(column[pairs[open_pairs, 0]] ^ column[pairs[open_pairs, 1]])
    return bits


def _set_bits(words: WordArray) -> IntArray:
    """(n,) how many bits of each word are set: sums of neighbouring bits, then of pairs, fours and bytes."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bytewise = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((bytewise * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
