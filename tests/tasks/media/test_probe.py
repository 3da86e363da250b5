"""What a file holds, and one clear sentence for each file that holds nothing usable."""

import os
import subprocess
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tasks.media.probe import MediaInfo, _played_rate, probe
from tests.tasks.media.moving_pictures import numbered_picture, steady, write_pictures


def write_wav(path: Path, seconds: float = 0.5, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.sin(np.arange(int(seconds * rate)) / 7) * 9000).astype("<i2").tobytes())
    return path


def refusal(path: Path | str) -> MediaError:
    with pytest.raises(MediaError) as caught:
        probe(path)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return caught.value


def test_a_video_with_sound(tmp_path: Path) -> None:
    sound = Sound(np.zeros((44100, 2), dtype=np.float32), 44100)
    with VideoWriter(str(tmp_path / "a clip.mp4"), 64, 48, Fraction(25), sound) as writer:
        for number in range(25):
            writer.write(numbered_picture(number))
    info = probe(tmp_path / "a clip.mp4")
    assert info == MediaInfo(
        has_video=True,
        has_audio=True,
        width=64,
        height=48,
        fps=Fraction(25),
        duration_s=1.0,
        video_codec="h264",
        audio_codec="aac",
        sample_rate=44100,
        channels=2,
    )


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(15), Fraction(50)])
def test_frame_rates_are_exact(tmp_path: Path, fps: Fraction) -> None:
    with VideoWriter(str(tmp_path / "v.mp4"), 64, 48, fps, None) as writer:
        for number in range(20):
            writer.write(numbered_picture(number))
    assert probe(tmp_path / "v.mp4").fps == fps


def test_a_variable_rate_is_played_at_a_usual_one_near_its_average(tmp_path: Path) -> None:
    times_s = [0.0, 0.04, 0.08, 0.4, 0.44, 0.8, 0.84, 0.88, 0.92, 0.96]
    assert probe(write_pictures(tmp_path / "v.mp4", times_s)).fps == 10


@pytest.mark.parametrize("left_out", [3, 5, 9])
def test_a_camera_that_leaves_out_pictures_is_played_at_the_cameras_rate(tmp_path: Path, left_out: int) -> None:
    times_s = [time for number, time in enumerate(steady(50, 30)) if number % left_out != 2]
    path = write_pictures(tmp_path / "v.mp4", times_s)
    assert probe(path).fps == 30
    assert len(list(read_frames(path, 30))) == 50


@pytest.mark.parametrize("fps", [Fraction(299687, 10000), Fraction(519168, 19667), Fraction(2997, 100), Fraction(17), Fraction(72)])
def test_a_steady_rate_stays_exact_however_odd_it_is(tmp_path: Path, fps: Fraction) -> None:
    with VideoWriter(str(tmp_path / "v.mp4"), 64, 48, fps, None) as writer:
        for number in range(40):
            writer.write(numbered_picture(number))
    assert probe(tmp_path / "v.mp4").fps == fps


@pytest.mark.parametrize(
    ("average", "base", "played"),
    [("25", "50", "25"), ("30000/1001", "60000/1001", "30000/1001"), ("24000/1001", "30000/1001", "24000/1001"), ("12", "90000", "12"), ("3", "30", "5")],
)
def test_fields_and_clocks_are_no_rate(average: str, base: str, played: str) -> None:
    assert _played_rate(Fraction(average), Fraction(base)) == Fraction(played)


def test_slow_motion_is_capped(tmp_path: Path) -> None:
    assert probe(write_pictures(tmp_path / "v.mp4", steady(40, 240))).fps <= 120


def test_a_late_start_is_told(tmp_path: Path) -> None:
    info = probe(write_pictures(tmp_path / "v.ts", steady(10, 25, start_s=3)))
    assert info.start_s == pytest.approx(3, abs=2)
    assert info.start_s > 1


@pytest.mark.parametrize(("rotation", "aspect"), [(None, Fraction(4, 3)), ((90, False, False), Fraction(3, 4)), ((180, False, False), Fraction(4, 3))])
def test_pixels_are_as_wide_as_they_are(tmp_path: Path, rotation: tuple[float, bool, bool] | None, aspect: Fraction) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(3, 25), rotation=rotation, pixel_aspect=Fraction(4, 3))
    assert probe(path).pixel_aspect == aspect


def test_interlaced_video_is_told_from_progressive(tmp_path: Path) -> None:
    fields = write_pictures(tmp_path / "i.mp4", steady(3, 25), x264_params="tff=1")
    whole = write_pictures(tmp_path / "p.mp4", steady(3, 25))
    assert (probe(fields).interlaced, probe(whole).interlaced) == (True, False)


def test_rotation_is_honoured(tmp_path: Path) -> None:
    info = probe(write_pictures(tmp_path / "v.mp4", steady(3, 25), rotation=(90, False, False)))
    assert (info.width, info.height, info.rotation_deg) == (48, 64, 90)


def test_sound_alone(tmp_path: Path) -> None:
    info = probe(write_wav(tmp_path / "s.wav"))
    assert (info.has_audio, info.has_video, info.sample_rate, info.channels, info.duration_s) == (True, False, 16000, 1, 0.5)


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    sound, cover, out = write_wav(tmp_path / "s.wav"), tmp_path / "c.png", tmp_path / "s.mp3"
    cv2.imwrite(str(cover), numbered_picture(20))
    mapping = ["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", sound, "-i", cover, *mapping, out], check=True)
    info = probe(out)
    assert (info.has_audio, info.has_video) == (True, False)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff", "bmp"])
def test_pictures(tmp_path: Path, ending: str) -> None:
    cv2.imwrite(str(tmp_path / f"p%03d.{ending}"), numbered_picture(20))
    info = probe(tmp_path / f"p%03d.{ending}")
    assert (info.is_picture, info.has_video, info.width, info.height) == (True, False, 64, 48)


def test_names_that_ffmpeg_reads_more_into(tmp_path: Path) -> None:
    for name in ("concat:a|b.mp4", "-i.mp4", "http:x.mp4", "a%d.mp4", "空 格.mp4"):
        write_pictures(tmp_path / "v.mp4", steady(3, 25)).rename(tmp_path / name)
        assert probe(tmp_path / name).has_video


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(write_pictures(tmp_path / "v.mp4", steady(3, 25)))
    assert probe(tmp_path / "link.mp4").has_video


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.mp4").reason == Reason.MISSING
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "none.mp4")
    assert refusal(tmp_path / "dangling.mp4").reason == Reason.MISSING


def test_text_and_folders_are_not_media(tmp_path: Path) -> None:
    for name in ("t.mp4", "t.txt", "t.png", "t.wav"):
        (tmp_path / name).write_text("This is a letter and not a film.\n" * 40)
        assert refusal(tmp_path / name).reason == Reason.NOT_MEDIA
    assert refusal(tmp_path).reason == Reason.NOT_MEDIA


def test_nothing_waits_on_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(tmp_path / "pipe.mp4").reason == Reason.NOT_MEDIA


def test_playlists_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "v.ts", steady(10, 25))
    playlists = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nv.ts\n#EXT-X-ENDLIST\n",
        "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nhttp://127.0.0.1:9/v.ts\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile v.ts\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    }
    for name, content in playlists.items():
        (tmp_path / name).write_text(content)
        assert refusal(tmp_path / name).reason == Reason.NOT_MEDIA


def test_what_is_cut_off_is_damaged(tmp_path: Path) -> None:
    whole = write_pictures(tmp_path / "v.mp4", steady(30, 25)).read_bytes()  # its index is at its end
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path / "cut.mp4").reason == Reason.DAMAGED
    (tmp_path / "empty.mp4").touch()
    assert refusal(tmp_path / "empty.mp4").reason == Reason.DAMAGED


def test_streams_of_an_unknown_kind(tmp_path: Path) -> None:
    sound = Sound(np.zeros((8000, 1), dtype=np.float32), 16000)
    with VideoWriter(str(tmp_path / "v.mp4"), 64, 48, Fraction(25), sound) as writer:
        for number in range(12):
            writer.write(numbered_picture(number))
    whole = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "picture.mp4").write_bytes(whole.replace(b"avc1", b"zzzz"))
    assert refusal(tmp_path / "picture.mp4").reason == Reason.DAMAGED
    with pytest.raises(MediaError, match="no video stream that can be decoded"):
        next(read_frames(tmp_path / "picture.mp4", 25))
    (tmp_path / "sound.mp4").write_bytes(whole.replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz"))
    info = probe(tmp_path / "sound.mp4")
    assert (info.has_video, info.has_audio) == (True, False)


def test_damage_that_ffmpeg_calls_a_lack_of_permission_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A retryable reason would have the file tried again for ever.
    path = write_pictures(tmp_path / "v.mp4", steady(3, 25))
    monkeypatch.setattr("tasks.media.container.av.open", refuse_as(av.error.PermissionError(1, "Operation not permitted")))
    assert refusal(path).reason == Reason.DAMAGED


def test_a_disk_that_does_not_give_the_content_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pictures(tmp_path / "v.mp4", steady(3, 25))
    monkeypatch.setattr("tasks.media.container.av.open", refuse_as(av.error.OSError(5, "Input/output error")))
    monkeypatch.setattr("tasks.media.container.require_file", lambda path: (Path("/proc/self/mem"), b"RIFF"))  # opens, and cannot be read
    assert refusal(path).reason == Reason.UNREADABLE


def refuse_as(error: Exception) -> Callable[..., object]:
    def refuse(*arguments: object, **options: object) -> object:
        raise error

    return refuse


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_permissions(tmp_path: Path) -> None:
    write_pictures(tmp_path / "v.mp4", steady(3, 25)).chmod(0)
    assert refusal(tmp_path / "v.mp4").reason == Reason.UNREADABLE


def test_real_footage(shared: Path) -> None:
    hard = shared / "data/hard"
    assert refusal(hard / "x20_truncated.mp4").reason == Reason.DAMAGED
    turned = probe(hard / "x21_rotation_tag.mp4")
    assert (turned.width, turned.height, turned.rotation_deg) == (720, 1280, 90)
    facts = {name: probe(next(hard.glob(f"{name}_*"))) for name in ("x04", "x08", "x13", "x14", "x15")}
    assert facts["x04"].fps == facts["x08"].fps == 30
    assert [facts[name].fps for name in ("x13", "x14", "x15")] == [30, 15, 50]
    assert (facts["x13"].video_codec, facts["x13"].audio_codec) == ("vp9", "opus")
    assert probe(next((shared / "data/corpus").glob("c28_*.mpg"))).fps == 25
