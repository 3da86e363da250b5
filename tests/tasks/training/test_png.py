"""The quick way of decoding pictures gives what OpenCV gives, or nothing; zlib stands in for ISA-L, which not every machine has."""

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.training import png


@pytest.fixture(params=["quick", "installed", "none"])
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "installed":
        monkeypatch.setattr(png, "INFLATE", zlib.decompress if request.param == "quick" else None)
    return request.param


def picture(height: int = 40, width: int = 24) -> np.ndarray:
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8), (width, height))
    return cv2.add(smooth, np.random.default_rng(1).integers(0, 9, smooth.shape, np.uint8))


FILTERS = {
    "sub": [], "none": [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY], "all": [cv2.IMWRITE_PNG_COMPRESSION, 9],
    "stored": [cv2.IMWRITE_PNG_COMPRESSION, 0],
}  # fmt: skip


@pytest.mark.parametrize("parameters", FILTERS.values(), ids=FILTERS)
@pytest.mark.usefixtures("inflate")
def test_pictures_are_those_of_opencv(parameters: list[int]) -> None:
    np.testing.assert_array_equal(png.decode_picture(cv2.imencode(".png", picture(), parameters)[1].tobytes()), picture())


@pytest.mark.parametrize("other", ["grey", "alpha", "deep", "jpeg", "webp"])
@pytest.mark.usefixtures("inflate")
def test_other_kinds_of_pictures_are_left_to_opencv(other: str) -> None:
    changed = {"grey": lambda p: p[:, :, 0], "alpha": lambda p: np.dstack([p, p[:, :, 0]]), "deep": lambda p: p.astype(np.uint16) * 257}
    coded = cv2.imencode({"jpeg": ".jpg", "webp": ".webp"}.get(other, ".png"), changed.get(other, np.copy)(picture()))[1].tobytes()
    np.testing.assert_array_equal(png.decode_picture(coded), cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("filters", [[0] * 40, [1] * 40, [0, 1, 2, 3, 4] * 8])
def test_the_filters_of_rows_are_undone_or_left_to_opencv(filters: list[int]) -> None:
    rows = np.random.default_rng(2).integers(0, 256, (40, 1 + 24 * 3), np.uint8)
    rows[:, 0] = filters
    coded = cv2.imencode(".png", picture())[1].tobytes()
    content = zlib.compress(rows.tobytes())
    chunk = b"IDAT" + content
    whole = coded[:33] + len(content).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + coded[-12:]
    ours = png._decode_plain_png(whole, zlib.decompress)
    assert (ours is None) == (2 in filters)
    if ours is not None:
        np.testing.assert_array_equal(ours, cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR))


@given(st.data())
def test_damage_never_gives_another_picture_quickly(data: st.DataObject) -> None:
    coded = bytearray(cv2.imencode(".png", picture())[1].tobytes())
    if data.draw(st.booleans()):
        coded = coded[: data.draw(st.integers(0, len(coded) - 1))]
    else:
        coded[data.draw(st.integers(0, len(coded) - 1))] ^= data.draw(st.integers(1, 255))
    decoded = png._decode_plain_png(bytes(coded), zlib.decompress)
    assert decoded is None or decoded.shape != picture().shape or (decoded == picture()).all()


@pytest.mark.parametrize("nothing", [b"", b"no picture", png.SIGNATURE, png.SIGNATURE + b"\0" * 60])
@pytest.mark.usefixtures("inflate")
def test_what_is_no_picture_is_none(nothing: bytes) -> None:
    assert png.decode_picture(nothing) is None
