"""What is written reads back: pictures, times, sound, sizes, words; and nothing is left of what failed."""

import resource
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import skimage.data

from schemas.errors import SettingsError, StoreError
from tasks.audio import read_sound
from tasks.media.colour import ColourTags
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tasks.media.probe import probe
from tests.tasks.media.moving_pictures import numbered_picture, numbers_of


def tone(seconds: float, rate: int = 44100, channels: int = 2) -> Sound:
    """A quiet tone of 440 Hz that begins with a loud click."""
    samples = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate) * 0.1
    samples[:20] = 0.9
    return Sound(np.repeat(samples[:, None], channels, axis=1).astype(np.float32), rate)


def write_numbers(
    path: Path, count: int = 25, fps: Fraction | int = 25, sound: Sound | None = None, size: tuple[int, int] = (64, 48), **options: object
) -> Path:
    with VideoWriter(str(path), *size, Fraction(fps), sound, **options) as writer:
        for number in range(count):
            writer.write(numbered_picture(number, *size))
    return path


def write_noise(path: Path, count: int = 10, crf: int = 10) -> int:
    """Pictures that no coder can make small; the file's size in bytes."""
    random = np.random.default_rng(0)
    with VideoWriter(str(path), 64, 48, Fraction(25), None, crf=crf, preset="ultrafast") as writer:
        for _ in range(count):
            writer.write(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    return path.stat().st_size


@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001), Fraction(24000, 1001), Fraction(519168, 19667)])
def test_every_picture_at_its_exact_time(tmp_path: Path, fps: Fraction | int) -> None:
    path = write_numbers(tmp_path / "v.mp4", 40, fps, tone(1.0))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.start_time, container.streams.audio[0].start_time, stream.frames) == (0, 0, 40)
        assert [frame.pts * frame.time_base for frame in container.decode(stream)] == [number / Fraction(fps) for number in range(40)]
    assert probe(path).fps == fps
    assert numbers_of(read_frames(path, fps)) == list(range(40))


def test_it_is_what_browsers_play(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "v.mp4", sound=tone(1.0))
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0].codec_context, container.streams.audio[0].codec_context
        assert (video.name, video.pix_fmt, audio.name, audio.profile) == ("h264", "yuv420p", "aac", "LC")
        assert (video.colorspace, video.color_primaries, video.color_trc, video.color_range) == (1, 1, 1, 1)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("size", [(129, 255), (128, 255), (129, 256), (17, 33), (1, 1)])
def test_odd_sizes_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    path = write_numbers(tmp_path / "v.mp4", 10, size=size)
    assert (probe(path).width, probe(path).height) == size
    frames = list(read_frames(path, 25))
    assert {frame.picture.shape for frame in frames} == {(height, width, 3)}
    if min(size) > 1:
        assert numbers_of(frames) == list(range(10))
        assert np.abs(frames[5].picture.astype(int) - numbered_picture(5, *size)).mean() < 2
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    shown = subprocess.run(command, capture_output=True, check=True)
    assert (len(shown.stdout), shown.stderr) == (10 * height * width * 3, b"")


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_wide_pixels_stay_wide(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(str(path), *size, Fraction(25), pixel_aspect=Fraction(4, 3)) as writer:
        writer.write(numbered_picture(0, *size))
    info = probe(path)
    assert (info.width, info.height, info.pixel_aspect) == (*size, Fraction(4, 3))


def test_colours_come_back(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = colours.repeat(16, axis=0).repeat(16, axis=1)
    with VideoWriter(str(tmp_path / "v.mp4"), 128, 96, Fraction(25), None, crf=1) as writer:
        writer.write(picture)
    error = (next(read_frames(tmp_path / "v.mp4", 25)).picture.astype(int) - picture)[8::16, 8::16]
    assert np.abs(error).max() <= 4
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.4


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (16000, 1), (48000, 6), (22050, 1), (96000, 2), (8000, 1), (16000, 7)])
def test_sound_begins_with_the_first_picture_and_keeps_its_length(tmp_path: Path, rate: int, channels: int) -> None:
    written = tone(1.3, rate, channels)
    read = read_sound(write_numbers(tmp_path / "v.mp4", sound=written))
    assert written.duration_s == pytest.approx(1.3)
    assert written.duration_s <= read.duration_s + 1e-3
    assert read.duration_s < written.duration_s + 2048 / read.sample_rate + 1e-3
    click_s = np.abs(read.samples[: read.sample_rate // 2]).max(axis=1).argmax() / read.sample_rate
    assert click_s < 0.004


@pytest.mark.parametrize("colour", [ColourTags(), ColourTags(6, 6, 6), ColourTags(5, 5, 6), ColourTags(1, 1, 1, full_range=True), ColourTags(6, 2, 2)])
def test_what_is_passed_through_keeps_its_colours_and_their_tags(tmp_path: Path, colour: ColourTags) -> None:
    source, copy = tmp_path / "source.mp4", tmp_path / "copy.mp4"
    picture = cv2.resize(skimage.data.astronaut()[:, :, ::-1], (256, 240), interpolation=cv2.INTER_AREA)
    with VideoWriter(str(source), 256, 240, Fraction(25), crf=4, colour=colour) as writer:
        for shift in range(5):
            writer.write(np.roll(picture, shift, 1))
    info = probe(source)
    assert info.colour == colour
    with VideoWriter(str(copy), 256, 240, Fraction(25), colour=info.colour) as writer:
        for frame in read_frames(source, 25):
            writer.write(frame.picture)
    assert probe(copy).colour == colour
    for before, after in zip(planes(source), planes(copy), strict=True):
        assert psnr(before[:240], after[:240]) > 41  # luma
        assert psnr(before[240:], after[240:]) > 41  # chroma
        assert abs(before.mean() - after.mean()) < 0.5


def planes(path: Path) -> list[np.ndarray]:
    """Luma above chroma, as they are coded."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray().astype(float) for frame in container.decode(video=0)]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one - other).mean()))


def test_hdr_is_written_as_bt709(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "v.mp4", 3, colour=ColourTags(9, 9, 16))
    assert probe(path).colour == ColourTags()


@pytest.mark.parametrize("name", ["x.avi", "x.mkv", "x", "mp4", "x.mp4.txt"])
def test_only_names_of_mp4_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"ends in \.mp4, \.m4v or \.mov"):
        VideoWriter(str(tmp_path / name), 64, 48, Fraction(25))


@pytest.mark.parametrize(("name", "container"), [("x.MP4", "isom"), ("x.m4v", "isom"), ("x.mov", "qt  ")])
def test_a_name_says_which_container(tmp_path: Path, name: str, container: str) -> None:
    path = write_numbers(tmp_path / name, 5, sound=tone(0.2), size=(65, 49), metadata={"comment": "c"})
    with av.open(str(path)) as opened:
        assert (opened.metadata["major_brand"], opened.metadata["comment"]) == (container, "c")
    assert (probe(path).width, probe(path).height) == (65, 49)
    assert numbers_of(read_frames(path, 25)) == list(range(5))


def test_sound_is_as_it_was(tmp_path: Path) -> None:
    written = tone(2.0)
    read = read_sound(write_numbers(tmp_path / "v.mp4", 50, sound=written))
    assert (read.sample_rate, read.samples.shape[1]) == (44100, 2)
    assert np.abs(read.samples[3000:80000] - written.samples[3000:80000]).max() < 0.02


def test_words_are_kept_under_any_key(tmp_path: Path) -> None:
    words = {"dubmill": '{"fps": "25", "说": "你好"}', "dubmill.speech": "a b", "comment": "c"}
    with av.open(str(write_numbers(tmp_path / "v.mp4", metadata=words))) as container:
        assert words.items() <= container.metadata.items()


def test_quality_is_settable(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    assert write_noise(path, crf=10) > 2 * write_noise(path, crf=45)


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a b.mp4"
    with VideoWriter(str(path), 64, 48, Fraction(25), tone(0.4)) as writer:
        writer.write(numbered_picture(0))
        assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["a b.mp4"]


def write_and_fail(path: Path, error: BaseException) -> None:
    with VideoWriter(str(path), 64, 48, Fraction(25), tone(0.4)) as writer:
        writer.write(numbered_picture(0))
        raise error


def test_nothing_is_left_of_a_failure_and_the_error_is_the_callers(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("what was there")
    for error in (RuntimeError("mine"), OSError("mine"), KeyboardInterrupt("mine")):
        with pytest.raises(type(error), match="mine"):
            write_and_fail(tmp_path / "v.mp4", error)
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_text() == "what was there"


def test_no_picture_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture"), VideoWriter(str(tmp_path / "v.mp4"), 64, 48, Fraction(25), tone(0.4)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"), VideoWriter(str(tmp_path / "v.mp4"), 64, 48, Fraction(25), None) as writer:
        writer.write(numbered_picture(0, 48, 64))


def test_an_unwritable_place_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    places = [tmp_path / "file" / "v.mp4", tmp_path / "folder.mp4", tmp_path / ("n" * 300 + ".mp4")]
    for place in places:
        writer = VideoWriter(str(place), 64, 48, Fraction(25), None)
        with pytest.raises(StoreError) as caught:
            writer.__enter__()
        assert "cannot be written" in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.parametrize("room", [100, 20_000, 38_000])
def test_a_disk_that_fills_up_is_one_sentence(tmp_path: Path, room: int) -> None:
    """Files larger than `room` bytes cannot be written; the whole video would take more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            write_noise(tmp_path / "v.mp4", 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    assert write_noise(tmp_path / "v.mp4", 10) > 38_000
