"""Frames at a constant rate: which picture each shows, from anywhere, in either direction, from whole and broken files."""

import gc
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import skimage

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.media import decode
from tasks.media.decode import LONGEST_GAP_S, read_frames, read_frames_backwards, read_picture
from tasks.media.probe import probe
from tests.damage import mp4_boxes
from tests.tasks.media.moving_pictures import empty_packet, number_of, numbered_picture, numbers_of, steady, without_length, write_pictures

VARIABLE_TIMES_S = [0.0, 0.03, 0.07, 0.10, 0.50, 0.52, 0.53, 0.55, 1.21, 1.25]


def ffmpeg_numbers(path: Path, fps: int) -> list[int]:
    """What ffmpeg's own fps filter shows."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-vf", f"setpts=PTS-STARTPTS,fps={fps}", "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-pix_fmt", "gray", "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    return [number_of(picture) for picture in np.frombuffer(raw, np.uint8).reshape(-1, 48, 64)]


@pytest.mark.parametrize("source_fps", [15, 24, 25, 30, 50])
def test_other_rates_are_brought_to_25_as_ffmpeg_does(tmp_path: Path, source_fps: int) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(45, source_fps))
    frames = list(read_frames(path, 25))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [frame.time_s for frame in frames] == [index / 25 for index in range(len(frames))]
    assert numbers_of(frames) == ffmpeg_numbers(path, 25)


def test_gaps_of_a_variable_rate_are_filled_with_the_picture_before(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mp4", VARIABLE_TIMES_S)
    shown = numbers_of(read_frames(path, 25))
    assert shown == ffmpeg_numbers(path, 25)
    assert shown[:14] == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 6]  # 0.50, 0.52 and 0.53 s are all nearest to frame 13


def test_exact_rates(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(30, Fraction(30000, 1001)))
    frames = list(read_frames(path, Fraction(30000, 1001)))
    assert numbers_of(frames) == list(range(30))
    assert frames[29].time_s == 29 * 1001 / 30000


def test_times_count_from_the_streams_start(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mkv", steady(20, 25, start_s=5))
    assert numbers_of(read_frames(path, 25)) == list(range(20))


def test_one_picture_is_at_least_one_frame(tmp_path: Path) -> None:
    assert numbers_of(read_frames(write_pictures(tmp_path / "v.mp4", [0]), 1)) == [0]


CODINGS = {
    "open-groups.mp4": {"codec": "libx264", "x264_params": "open-gop=1:keyint=8:bframes=3:scenecut=0"},
    "closed-groups.mkv": {"codec": "libx264", "x264_params": "keyint=12:bframes=3"},
    "ten-bit.mp4": {"codec": "libx265", "pixels": "yuv420p10le", "x265_params": "open-gop=1:keyint=8:bframes=3:log-level=none"},
    "transport.ts": {"codec": "libx264", "x264_params": "keyint=12"},
    "full-colour.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "vp9.webm": {"codec": "libvpx-vp9"},
}


@pytest.mark.parametrize("name", CODINGS)
def test_from_anywhere_and_backwards_the_frames_are_the_same(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pictures(tmp_path / name, steady(56, 5), **CODINGS[name])
    whole = list(read_frames(path, 10))
    assert numbers_of(whole)[:110] == [number // 2 for number in range(110)]
    for start in (0, 21, 33, 47, 64, 101, 200):
        part = list(read_frames(path, 10, start, start + 6))
        assert [frame.index for frame in part] == [frame.index for frame in whole[start : start + 6]]
        assert all(np.array_equal(one.picture, other.picture) for one, other in zip(part, whole[start:], strict=False))
    monkeypatch.setattr(decode, "PIECE_FRAMES", 30)
    backwards = list(read_frames_backwards(path, 10, 7, 300))
    assert [frame.index for frame in backwards] == [frame.index for frame in reversed(whole[7:])]
    assert all(np.array_equal(one.picture, other.picture) for one, other in zip(backwards, reversed(whole[7:]), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_forth_and_back_from_any_frame_is_the_full_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Groups of pictures shorter and longer than a piece, shown at other rates than stored."""
    random = np.random.default_rng(seed)
    coding = f"keyint={random.integers(1, 60)}:bframes={random.integers(0, 4)}:open-gop={random.integers(0, 2)}:scenecut=0"
    path = write_pictures(tmp_path / "v.mp4", steady(56, Fraction(int(random.integers(6, 40)))), x264_params=coding)
    monkeypatch.setattr(decode, "PIECE_FRAMES", int(random.integers(1, 40)))
    monkeypatch.setattr(decode, "SEEK_WORTH_S", 0)
    fps = Fraction(int(random.integers(5, 50)))
    whole = [frame.picture for frame in read_frames(path, fps)]
    start, stop = sorted(random.integers(0, len(whole) + 3, 2).tolist())
    forth = [frame.picture for frame in read_frames(path, fps, start, stop)]
    back = [frame.picture for frame in read_frames_backwards(path, fps, start, stop)]
    assert len(forth) == len(back) == len(whole[start:stop])
    assert all(np.array_equal(one, other) for one, other in zip(forth + back[::-1], whole[start:stop] * 2, strict=True))


def test_a_video_of_unsaid_length_is_read_backwards_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = without_length(write_pictures(tmp_path / "v.mp4", steady(56, 25), x264_params="keyint=12"), tmp_path / "v.mkv")
    assert probe(path).duration_s is None
    monkeypatch.setattr(decode, "PIECE_FRAMES", 8)
    assert numbers_of(read_frames_backwards(path, 25, 0, 56)) == list(range(55, -1, -1))


def test_reading_backwards_holds_no_more_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One group of pictures, seven times as long as a piece: it is decoded anew for each piece, never held as a whole."""
    path = write_pictures(tmp_path / "v.mp4", steady(56, 25), x264_params="keyint=60:scenecut=0")
    monkeypatch.setattr(decode, "PIECE_BYTES", 8 * 64 * 48 * 3 // 2)
    held: list[int] = []
    honest = decode._read_decoded

    def counted(*asked: object) -> list:
        piece = list(honest(*asked))
        held.append(len(piece))
        return piece

    monkeypatch.setattr(decode, "_read_decoded", counted)
    assert numbers_of(read_frames_backwards(path, 25, 0, 56)) == list(range(55, -1, -1))
    assert max(held) == 8


BACKWARDS_IN_LITTLE_MEMORY = """
import gc, resource, sys
from tasks.media import decode

gc.disable()
decode.PIECE_FRAMES = 8
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
frames = decode.read_frames_backwards(sys.argv[1], 25, 0, 56)
for _ in range(16):
    next(frames)
before = peak_mb()
for _ in frames:
    pass
print(round(peak_mb() - before))
"""


def test_memory_does_not_grow_backwards(tmp_path: Path) -> None:
    """The first two pieces give the peak; the other five may not add their 15 MB each, also while the garbage collector rests."""
    path = write_pictures(tmp_path / "v.mp4", steady(56, 25), size=(1280, 960), x264_params="keyint=40", preset="ultrafast")
    told = subprocess.run([sys.executable, "-c", BACKWARDS_IN_LITTLE_MEMORY, str(path)], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 40


def test_a_seek_reads_less_than_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(56, 5), x264_params="keyint=8:bframes=3")
    decoded = []
    honest = decode._timed
    monkeypatch.setattr(decode, "_timed", lambda source, frames: honest(source, (decoded.append(1) or frame for frame in frames)))
    list(read_frames(path, 10, 90, 92))
    assert len(decoded) < 16


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(56, 25))
    gc.collect()
    gc.disable()
    try:
        alive = [sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) for _ in read_frames(path, 25, threads=1)]
    finally:
        gc.enable()
    assert len(alive) == 56
    assert alive[-1] <= alive[5] + 2


def test_a_reader_may_paint_on_a_frame(tmp_path: Path) -> None:
    shown = []
    for frame in read_frames(write_pictures(tmp_path / "v.mp4", steady(6, 5)), 25):
        shown.append(number_of(frame.picture))
        frame.picture[:] = 255
    assert shown == [number // 5 for number in range(len(shown))]


@pytest.mark.parametrize(
    ("rotation", "white_corner", "black_corner"),
    [
        ((0, False, False), (0, 0), (0, -1)),
        ((90, False, False), (-1, 0), (0, 0)),
        ((180, False, False), (-1, -1), (-1, 0)),
        ((270, False, False), (0, -1), (-1, -1)),
        ((0, True, False), (0, -1), (0, 0)),
        ((0, False, True), (-1, 0), (-1, -1)),
    ],
)
def test_frames_are_upright(tmp_path: Path, rotation: tuple, white_corner: tuple[int, int], black_corner: tuple[int, int]) -> None:
    picture = next(read_frames(write_pictures(tmp_path / "v.mp4", steady(3, 25), rotation=rotation), 25)).picture
    assert picture.shape == ((64, 48, 3) if rotation[0] % 180 else (48, 64, 3))
    assert picture[white_corner].min() > 240
    assert picture[black_corner].max() < 15


def test_damaged_packets_are_skipped(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(50, 25), x264_params="keyint=10:bframes=0")
    with av.open(str(path)) as container:
        broken = next(packet for index, packet in enumerate(container.demux(video=0)) if index == 23)
        at, size = broken.pos, broken.size
    content = bytearray(path.read_bytes())
    content[at : at + size] = b"\xff" * size
    path.write_bytes(content)
    shown = numbers_of(read_frames(path, 25))
    assert len(shown) == 50
    assert shown[:20] == list(range(20))
    assert shown[30:] == list(range(30, 50))


@pytest.mark.parametrize("empty", [1, 23, 48])
def test_an_empty_packet_does_not_end_the_video(tmp_path: Path, empty: int) -> None:
    path = write_pictures(tmp_path / "v.mov", steady(50, 25), codec="mjpeg", pixels="yuvj420p")
    empty_packet(path, empty)
    assert numbers_of(read_frames(path, 25)) == [number - (number == empty) for number in range(50)]
    assert numbers_of(read_frames_backwards(path, 25, 20, 50)) == [number - (number == empty) for number in range(49, 19, -1)]


def test_a_stream_that_ends_early_ends_early(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mkv", steady(50, 25), x264_params="keyint=10:bframes=0")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    shown = numbers_of(read_frames(path, 25))
    assert 10 < len(shown) < 45
    assert shown[:-1] == list(range(len(shown) - 1))


def test_a_stream_without_one_good_picture_is_damaged(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(10, 25))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        pieces = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in pieces:
        content[at : at + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        list(read_frames(path, 25))
    assert caught.value.reason == Reason.DAMAGED


def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = write_pictures(tmp_path / "a.h264", steady(5, 25)).read_bytes()
    large = write_pictures(tmp_path / "b.h264", steady(5, 25), size=(128, 96)).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    frames = list(read_frames(tmp_path / "both.h264", 25))
    assert {frame.picture.shape for frame in frames} == {(48, 64, 3)}
    assert numbers_of(frames) == [0, 1, 2, 3, 4] * 2


def test_sound_alone_has_no_frames(tmp_path: Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=0.2", tmp_path / "s.wav"], check=True)
    with pytest.raises(MediaError) as caught:
        next(read_frames(tmp_path / "s.wav", 25))
    assert caught.value.reason == Reason.NO_VIDEO


def test_bgr_is_exact_and_unbiased(tmp_path: Path) -> None:
    """Flat colours survive BT.709 coding within two levels, and on average within a quarter."""
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = colours.repeat(16, axis=0).repeat(16, axis=1)
    frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
    coded = frame.reformat(format="yuv444p", dst_colorspace="ITU709", interpolation="BILINEAR")
    coded.colorspace = 1
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.colorspace = 128, 96, "yuv444p", 1
        container.mux(stream.encode(coded))
        container.mux(stream.encode(None))
    error = next(read_frames(tmp_path / "v.mkv", 25)).picture.astype(int) - picture
    assert np.abs(error).max() <= 4  # the encoder's own rounding included
    assert np.abs(error.mean(axis=(0, 1))).max() < 2


def test_threads_may_be_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(10, 25))
    monkeypatch.setenv("DUBMILL_DECODE_THREADS", "1")
    assert numbers_of(read_frames(path, 25)) == numbers_of(read_frames(path, 25, threads=3)) == list(range(10))


def test_a_clock_that_would_make_days_of_a_few_pictures_is_not_believed(tmp_path: Path) -> None:
    # One tick a second: each picture would be shown for minutes, which a time limit that grows with the footage would allow.
    content = bytearray(write_pictures(tmp_path / "v.mp4", steady(100, 25)).read_bytes())
    for kind, begin, _ in mp4_boxes(bytes(content)):
        if kind in (b"mdhd", b"mvhd"):
            content[begin + 20 : begin + 24] = struct.pack(">I", 1)
    (tmp_path / "slow.mp4").write_bytes(content)
    assert probe(tmp_path / "slow.mp4").duration_s is None
    assert 100 < sum(1 for _ in read_frames(tmp_path / "slow.mp4", 1)) <= 2 * LONGEST_GAP_S


def exif_orientation(orientation: int) -> bytes:
    """A JPEG segment that says how the picture is to be turned."""
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\x00\x00" + tiff


def test_pictures_are_turned_as_exif_asks(tmp_path: Path) -> None:
    coded = cv2.imencode(".jpg", numbered_picture(20))[1].tobytes()
    (tmp_path / "p.jpg").write_bytes(coded[:2] + exif_orientation(6) + coded[2:])  # 6: turned a quarter clockwise
    picture = read_picture(tmp_path / "p.jpg")
    assert picture.shape == (64, 48, 3)
    assert picture[0, -1].min() > 230
    assert picture[-1, -1].max() < 25


def test_a_png_with_an_old_colour_profile_is_read_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    path = Path(skimage.__file__).with_name("data") / "astronaut.png"
    as_opencv_reads_it = cv2.imread(str(path))
    assert "iCCP" in capfd.readouterr().err
    assert np.array_equal(read_picture(path), as_opencv_reads_it)
    assert capfd.readouterr().err == ""


def test_pictures_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "t.png").write_text("no picture")
    (tmp_path / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    reasons = {}
    for name in ("t.png", "d.png", "none.png", "."):
        with pytest.raises(MediaError) as caught:
            read_picture(tmp_path / name)
        reasons[name] = caught.value.reason
    assert reasons == {"t.png": Reason.NOT_MEDIA, "d.png": Reason.DAMAGED, "none.png": Reason.MISSING, ".": Reason.NOT_MEDIA}


@pytest.mark.parametrize(("name", "frames"), [("x04", 160), ("x06", 229), ("x08", 153), ("x15", 54), ("x22", 225)])
def test_real_footage_has_as_many_frames_as_ffmpeg_gives(shared: Path, name: str, frames: int) -> None:
    path = next((shared / "data/hard").glob(f"{name}_*"))
    whole = [frame.picture[::16, ::16].copy() for frame in read_frames(path, 25)]
    assert len(whole) == frames
    part = [frame.picture[::16, ::16] for frame in read_frames(path, 25, frames - 20, frames - 10)]
    assert np.array_equal(part, whole[-20:-10])


def test_real_rotated_footage_is_upright(shared: Path) -> None:
    assert next(read_frames(shared / "data/hard/x21_rotation_tag.mp4", 25)).picture.shape == (1280, 720, 3)
