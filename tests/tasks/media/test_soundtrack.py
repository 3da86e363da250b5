"""What a video's sound is made of: the file's own coded sound where it fits, else AAC of exactly the video's length."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.audio import read_sound
from tasks.media.encode import VideoWriter
from tasks.media.soundtrack import CopiedTrack
from tests.tasks.media.moving_pictures import numbered_picture
from tests.tasks.media.spoilt_sound import spoil_sound

RATE = 44100
CLICK_S = 0.25


def clicks(seconds: float, channels: int = 2) -> np.ndarray:
    """A quiet tone with a loud click a quarter of a second after its beginning."""
    samples = np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE) * 0.1
    samples[round(CLICK_S * RATE) :][:20] = 0.9
    return np.repeat(samples[:, None], channels, axis=1).astype(np.float32)


def make_sound(path: Path, seconds: float, codec: str, channels: int = 2, begins_s: float = 0.0, cut_at: int | None = None) -> Path:
    """A coded sound; `begins_s`: its first time on the file's clock; `cut_at`: sample at which half a second is left out of the times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout={1: "mono", 2: "stereo", 6: "5.1"}[channels])
        samples = clicks(seconds, channels)
        for at in range(0, len(samples), 1024):
            block = np.ascontiguousarray(samples[at : at + 1024].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=stream.layout.name)
            late = RATE // 2 if cut_at is not None and at >= cut_at else 0
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), at + round(begins_s * RATE) + late
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write(path: Path, soundtrack: Path, frames: int = 25, **options: object) -> Path:
    with VideoWriter(str(path), 64, 48, Fraction(25), soundtrack=soundtrack, total_frames=frames, **options) as writer:
        for number in range(frames):
            writer.write(numbered_picture(number % 50))
    return path


def payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def click_s(path: Path) -> float:
    """When the click is heard, on the file's own clock."""
    sound = read_sound(path, start_s=0.0)
    return float(np.abs(sound.samples).max(axis=1).argmax() / sound.sample_rate)


@pytest.mark.parametrize(("name", "begins_s"), [("s.m4a", 0.0), ("s.mp4", 0.0), ("s.mkv", 0.0), ("s.aac", 0.0), ("s.ts", 3.0), ("late.m4a", 0.5)])
def test_aac_of_the_videos_length_is_copied_and_begins_with_the_picture(tmp_path: Path, name: str, begins_s: float) -> None:
    source = make_sound(tmp_path / name, 1.0, "aac", begins_s=begins_s)
    out = write(tmp_path / "v.mp4", source)
    copied, original = payloads(out), payloads(source)
    if source.suffix in {".aac", ".ts"}:  # each packet has a header there that MP4 keeps once
        original = [packet[7:] for packet in original]
    assert copied == original
    heard, meant = read_sound(out), read_sound(source)
    assert np.array_equal(heard.samples[: len(meant.samples)], meant.samples)
    first_sample_s = float(np.abs(meant.samples).max(axis=1).argmax() / meant.sample_rate)
    assert click_s(out) == pytest.approx(first_sample_s, abs=0.002)
    with av.open(str(out)) as container:
        assert container.streams.video[0].start_time == 0


@pytest.mark.parametrize(("seconds", "codec"), [(3.0, "aac"), (0.4, "aac"), (1.0, "libmp3lame"), (1.0, "flac"), (3.0, "libopus")])
def test_what_does_not_fit_is_coded_to_exactly_the_videos_length(tmp_path: Path, seconds: float, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if codec == "libopus":
        monkeypatch.setattr("tests.tasks.media.test_soundtrack.RATE", 48000)
    source = make_sound(tmp_path / "s.mka", seconds, codec)
    out = write(tmp_path / "v.mp4", source)
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, float(stream.duration * stream.time_base)) == ("aac", pytest.approx(1.0, abs=0.025))
    assert payloads(out) != payloads(source)
    heard = read_sound(out, start_s=0.0).samples
    assert click_s(out) == pytest.approx(CLICK_S, abs=0.005)
    tail = heard[round(0.6 * len(heard)) : round(0.95 * len(heard))]
    assert (np.abs(tail).max() < 0.01) == (seconds < 0.5)  # continued by silence, or by the tone


def test_a_wav_file_of_many_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", clicks(2.0, 6), RATE)
    heard = read_sound(write(tmp_path / "v.mp4", tmp_path / "s.wav"))
    assert heard.samples.shape[1] == 6


def test_aac_with_a_gap_is_not_copied(tmp_path: Path) -> None:
    """Lips follow the samples, one after the other; a copy would keep the gap between them."""
    source = make_sound(tmp_path / "s.mkv", 1.0, "aac", cut_at=8192)
    out = write(tmp_path / "v.mp4", source)
    assert payloads(out) != payloads(source)
    assert click_s(out) == pytest.approx(CLICK_S, abs=0.005)


def test_a_copied_sound_does_not_run_ahead_of_the_pictures(tmp_path: Path) -> None:
    """A packet lasts 23 ms, a picture of 100 a second 10 ms: most pictures come with no packet, and none is lost."""
    source = make_sound(tmp_path / "s.m4a", 1.0, "aac")
    with av.open(str(tmp_path / "v.mp4"), "w") as container, av.open(str(source)) as opened:
        track = CopiedTrack(container, opened)
        ends_s = [*(Fraction(number, 100) for number in range(50)), None]
        given = [[(packet.pts * packet.time_base, bytes(packet)) for packet in track.packets(end_s)] for end_s in ends_s]
    assert [content for packets in given for _, content in packets] == payloads(source)
    for begin_s, end_s, packets in zip([Fraction(-1), *ends_s], ends_s[:-1], given, strict=False):
        assert all(begin_s <= time_s < end_s for time_s, _ in packets)
    assert [] in given


def test_without_a_length_it_keeps_its_own(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "s.mka", 1.5, "flac")
    with VideoWriter(str(tmp_path / "v.mp4"), 64, 48, Fraction(25), soundtrack=source) as writer:
        writer.write(numbered_picture(0))
    assert read_sound(tmp_path / "v.mp4").duration_s == pytest.approx(1.5, abs=0.05)


def test_a_soundtrack_without_sound_is_said_before_any_work(tmp_path: Path) -> None:
    with VideoWriter(str(tmp_path / "mute.mp4"), 64, 48, Fraction(25)) as writer:
        writer.write(numbered_picture(0))
    spoil_sound(make_sound(tmp_path / "spoilt.mp4", 1.0, "aac"))
    for name, reason in (("mute.mp4", Reason.NO_AUDIO), ("spoilt.mp4", Reason.NO_AUDIO), ("none.wav", Reason.MISSING)):
        with pytest.raises(MediaError) as caught:
            write(tmp_path / "v.mp4", tmp_path / name)
        assert caught.value.reason is reason
    assert {entry.name for entry in tmp_path.iterdir()} == {"mute.mp4", "spoilt.mp4"}
