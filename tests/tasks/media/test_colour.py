"""HDR becomes BT.709 by a rule that can be read off: faces stay as bright as they are, highlights are rolled off."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.media.colour import BT709_TAGS, HLG, PEAK, PQ, WHITE_NITS, ColourTags, ToneMap, refuse_hdr, tone_mapped
from tasks.media.decode import read_frames
from tasks.media.probe import probe

HDR = {"PQ": ColourTags(9, 9, PQ), "HLG": ColourTags(9, 9, HLG)}


def pq(nits: float) -> float:
    """The signal of a light (SMPTE ST 2084)."""
    power = (nits / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def grey(signal: float, transfer: int) -> float:
    return float(tone_mapped(np.full((1, 3), signal), transfer).mean())


def write_hdr(path: Path, signal: np.ndarray, colour: ColourTags) -> Path:
    """Five ten-bit frames of an HDR signal (48, 64, 3), red green blue."""
    wide = av.VideoFrame.from_ndarray(np.rint(signal * 65535).astype(np.uint16), format="rgb48le")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none", "crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.color_range, stream.colorspace, stream.color_primaries, stream.color_trc = 1, colour.matrix, colour.primaries, colour.transfer
        for number in range(5):
            frame = VideoReformatter().reformat(wide, format="yuv420p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG)
            frame.colorspace, frame.color_primaries, frame.color_trc = colour.matrix, colour.primaries, colour.transfer
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def grey_picture(signal: float) -> np.ndarray:
    return np.full((48, 64, 3), signal)


def test_up_to_the_knee_light_is_kept() -> None:
    for nits in (1, 10, 50, 100, 120):
        assert grey(pq(nits), PQ) ** 2.4 * WHITE_NITS == pytest.approx(nits, rel=0.01)


def test_highlights_are_rolled_off_and_end_at_white() -> None:
    levels = [grey(pq(nits), PQ) for nits in (120, 150, 203, 300, 500, 800, 1000)]
    assert levels == sorted(set(levels))
    assert 0.85 < levels[2] < 0.95  # HDR's reference white leaves room above
    assert levels[-1] == pytest.approx(1, abs=1e-3)
    assert grey(pq(4000), PQ) == pytest.approx(1, abs=1e-3)
    slope = (grey(pq(124), PQ) ** 2.4 - grey(pq(122), PQ) ** 2.4) * WHITE_NITS / 2
    assert slope == pytest.approx(1, abs=0.05)  # the curve leaves the straight line without a kink


def test_hlg_and_pq_agree_on_white_and_peak() -> None:
    assert grey(0.75, HLG) == pytest.approx(grey(pq(WHITE_NITS), PQ), abs=0.005)
    assert grey(1.0, HLG) == pytest.approx(grey(pq(PEAK * WHITE_NITS), PQ), abs=0.005)


def test_hues_stay() -> None:
    """A colour within BT.709, given in BT.2020 primaries, keeps the ratios of its light, also where it is rolled off."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    for nits in (60.0, 600.0):
        light = np.array([1.0, 0.6, 0.4])
        signal = np.array([[pq(value * nits) for value in to_bt2020 @ light]])
        mapped = tone_mapped(signal, PQ)[0] ** 2.4
        assert mapped / mapped[0] == pytest.approx(light, abs=0.01)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_table_is_the_curve(transfer: int) -> None:
    signal = np.repeat(np.linspace(0, 1, 256), 3).reshape(16, 16, 3)
    frame = av.VideoFrame.from_ndarray(np.rint(signal * 65535).astype(np.uint16), format="gbrp16le")
    mapped = ToneMap(transfer, 16, 16).mapped(frame)[:, :, ::-1]
    expected = tone_mapped(signal.reshape(-1, 3), transfer).reshape(16, 16, 3) * 255
    assert np.abs(mapped - expected)[signal > 0.05].max() < 1.6


@pytest.mark.parametrize(("kind", "signal", "level"), [("PQ", pq(100), 190), ("PQ", pq(1000), 255), ("HLG", 0.5, 143), ("HLG", 0.75, 233)])
def test_hdr_video_is_read_as_bt709(tmp_path: Path, kind: str, signal: float, level: int) -> None:
    path = write_hdr(tmp_path / "v.mp4", grey_picture(signal), HDR[kind])
    pictures = [frame.picture for frame in read_frames(path, 25)]
    assert len(pictures) == 5
    assert np.abs(pictures[2].astype(int) - level).max() <= 3
    assert probe(path).colour == HDR[kind]
    assert probe(path).colour.to_write == BT709_TAGS


@pytest.mark.parametrize("kind", ["PQ", "HLG"])
def test_colours_of_hdr_video_are_right(tmp_path: Path, kind: str) -> None:
    patches = np.random.default_rng(0).uniform(0.25, 0.6, (3, 4, 3))
    signal = patches.repeat(16, axis=0).repeat(16, axis=1)
    picture = next(read_frames(write_hdr(tmp_path / "v.mp4", signal, HDR[kind]), 25)).picture[8::16, 8::16, ::-1]
    expected = tone_mapped(patches.reshape(-1, 3), HDR[kind].transfer).reshape(3, 4, 3) * 255
    assert np.abs(picture - expected).mean() < 3
    assert np.abs(picture - expected).max() < 16


def test_hdr_can_be_refused(tmp_path: Path) -> None:
    info = probe(write_hdr(tmp_path / "v.mp4", grey_picture(0.5), HDR["HLG"]))
    with pytest.raises(MediaError, match="HLG") as caught:
        refuse_hdr("v.mp4", info.colour)
    assert caught.value.reason is Reason.BAD_SETTINGS
    refuse_hdr("v.mp4", BT709_TAGS)
    refuse_hdr("v.mp4", ColourTags(9, 9, 14))  # BT.2020 of ordinary range
