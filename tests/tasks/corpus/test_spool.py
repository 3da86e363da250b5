from itertools import chain

import numpy as np

from tasks.corpus.faces import CutFrame
from tasks.corpus.spool import FrameSpool
from tasks.faces.crop import Box


def frame(seed: int) -> CutFrame:
    random = np.random.default_rng(seed)
    pose, content = random.random((2, 74), np.float32), random.random((2, 57), np.float32)
    box = Box(*random.random(4).tolist())
    return CutFrame(box, pose, content, random.random(), seed % 2 == 0, random.bytes(seed * 100), random.random(), random.random())


def test_what_was_put_comes_back_unchanged_piece_by_piece() -> None:
    pieces = [[frame(1), frame(2)], [frame(3)], [frame(4), frame(5), frame(6)]]
    with FrameSpool() as spool:
        for piece in pieces:
            spool.put(piece)
        back = list(spool.pieces())
    assert [len(piece) for piece in back] == [2, 1, 3]
    for put, got in zip(chain(*pieces), chain(*back), strict=True):
        assert (put.box, put.lip_opening, put.detected, put.picture) == (got.box, got.lip_opening, got.detected, got.picture)
        assert (put.sharpness, put.brightness) == (got.sharpness, got.brightness)
        np.testing.assert_array_equal(put.pose, got.pose)
        np.testing.assert_array_equal(put.content, got.content)
        assert got.pose.dtype == got.content.dtype == np.float32


def test_nothing_put_gives_nothing() -> None:
    with FrameSpool() as spool:
        assert list(spool.pieces()) == []
