"""Coded face pictures: lossless ones come back as they were, and jpeg keeps the colour of every pixel."""

import cv2
import numpy as np
import pytest

from tasks.corpus.faces import encode_picture


def decoded(coded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("coding", ["png", "webp"])
def test_a_lossless_coding_gives_back_every_pixel(coding: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert np.array_equal(decoded(encode_picture(picture, coding)), picture)


def test_jpeg_does_not_share_colour_between_pixels() -> None:
    picture = np.zeros((128, 128, 3), dtype=np.uint8)
    picture[:, ::2] = (0, 0, 255)
    assert np.abs(decoded(encode_picture(picture, "jpeg")).astype(int) - picture).mean() < 2, "red lines of one pixel stay red lines"
