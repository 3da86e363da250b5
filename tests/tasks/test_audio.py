"""Waveforms, mel spectrograms and measures of sound, against the numeric contract and against ffmpeg and librosa themselves."""

import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import librosa
import numpy as np
import pytest
import soundfile

from schemas.errors import MediaError
from schemas.reasons import Reason
from tasks.audio import SAMPLE_RATE, decode_flac, encode_flac, loudness_db, mel_spectrogram, read_sound, read_waveform, silence_share
from tasks.media.encode import VideoWriter
from tests.footage import speech_like_sound

REFERENCES = {
    "c07": "data/corpus/c07_woman_hdtf_512_a.mp4",
    "c09": "data/corpus/c09_man_map_844.mp4",
    "c19": "data/corpus/c19_woman_speech_512_5s.mp4",
    "c28": "reference/iplap/c28.mp4",
}


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments], check=True)


def sung(seconds: float = 2.0, rate: int = 44100, channels: int = 2) -> np.ndarray:
    """(n, channels): tones that differ between the channels, and some noise."""
    time_s = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * 220 * (1 + channel) * time_s) * 0.3 for channel in range(channels)]
    return (np.stack(tones, axis=1) + np.random.default_rng(0).standard_normal((len(time_s), channels)) * 0.03).astype(np.float32)


def contract_waveform(path: Path, wav: Path) -> np.ndarray:
    """The contract by other hands: ffmpeg to a WAV file, librosa from there."""
    ffmpeg("-i", path, "-vn", wav)
    return librosa.load(wav, sr=16000)[0]


def contract_mel(waveform: np.ndarray) -> np.ndarray:
    """The contract by librosa alone."""
    emphasised = librosa.effects.preemphasis(waveform.astype(np.float64), coef=0.97, zi=[0.0])
    magnitude = np.abs(librosa.stft(emphasised, n_fft=800, hop_length=200, win_length=800))
    mel = librosa.feature.melspectrogram(S=magnitude, sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    decibels = 20 * np.log10(np.maximum(1e-5, mel)) - 20
    return np.clip(8 * ((decibels + 100) / 100) - 4, -4, 4).T


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (16000, 1), (48000, 1), (22050, 2), (8000, 1), (48000, 6)])
def test_waveforms_are_the_contracts(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a b.wav"
    soundfile.write(path, sung(2.0, rate, channels), rate)
    waveform, expected = read_waveform(path), contract_waveform(path, tmp_path / "own.wav")
    assert waveform.dtype == np.float32
    assert waveform.shape == expected.shape
    assert np.abs(waveform - expected).max() < 1e-4


@pytest.mark.parametrize("ending", ["mp3", "ogg", "flac", "m4a", "opus", "mp4", "mkv", "wma"])
def test_any_container(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / "s.wav", sung(1.0), 44100)
    ffmpeg("-i", tmp_path / "s.wav", tmp_path / f"s.{ending}")
    waveform, expected = read_waveform(tmp_path / f"s.{ending}"), contract_waveform(tmp_path / f"s.{ending}", tmp_path / "own.wav")
    # At the end ffmpeg's program cuts an AAC file's last, padded block; the original kept it.
    assert 0 <= len(waveform) - len(expected) < 400
    assert np.abs(waveform[: len(expected)] - expected)[:-200].max() < 2e-3


def test_a_long_sound_is_resampled_as_in_one_piece(tmp_path: Path) -> None:
    samples = sung(40.0, 44100, 1)
    soundfile.write(tmp_path / "s.wav", samples, 44100, subtype="PCM_16")
    expected = librosa.resample(np.round(samples[:, 0] * 32768).astype(np.float32) / 32768, orig_sr=44100, target_sr=16000)
    waveform = read_waveform(tmp_path / "s.wav")
    assert waveform.shape == expected.shape
    assert np.abs(waveform - expected).max() < 1e-4


def write_clicks(path: Path, times_s: list[float], piece_s: float = 1.0) -> Path:
    """Pieces of silence, each of which begins with a click, at times of the file's clock."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        samples = np.zeros((1, round(piece_s * 16000)), dtype=np.int16)
        samples[0, 0] = 30000
        for time_s in times_s:
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), round(time_s * 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def clicks(waveform: np.ndarray) -> list[int]:
    return np.flatnonzero(waveform > 0.5).tolist()


@contextmanager
def memory_below(megabytes: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


def test_sound_that_starts_late_is_padded_not_shifted(tmp_path: Path) -> None:
    path = write_clicks(tmp_path / "s.mkv", [0.5])
    assert read_waveform(path)[0] > 0.9
    padded = read_waveform(path, start_s=0.0)
    assert (len(padded), clicks(padded)) == (24000, [8000])
    assert clicks(read_waveform(path, start_s=0.25)) == [4000]


def test_sound_after_a_gap_stays_in_time(tmp_path: Path) -> None:
    path = write_clicks(tmp_path / "s.mkv", [0.5, 3.5, 5.0])
    assert clicks(read_waveform(path, start_s=0.0)) == [8000, 56000, 80000]
    assert clicks(read_sound(path, start_s=0.0).samples[:, 0]) == [8000, 56000, 80000]
    assert clicks(read_waveform(path, start_s=1.0)) == [40000, 64000]
    assert clicks(read_waveform(path)) == [0, 16000, 32000]  # the original knows no times


def test_sound_after_an_overlap_stays_in_time(tmp_path: Path) -> None:
    path = write_clicks(tmp_path / "s.mkv", [0.0, 0.5, 1.5, 1.6])
    waveform = read_waveform(path, start_s=0.0)
    assert (len(waveform), clicks(waveform)) == (41600, [0, 24000])


def test_times_that_are_rounded_do_no_harm(tmp_path: Path) -> None:
    times_s = [index + (0.015 if index % 2 else 0) for index in range(6)]
    assert clicks(read_waveform(write_clicks(tmp_path / "s.mkv", times_s), start_s=0.0)) == [16000 * index for index in range(6)]


@pytest.mark.parametrize("times_s", [[7200], [0, 7200]])
def test_a_broken_clock_does_not_fill_the_memory(tmp_path: Path, times_s: list[float]) -> None:
    path = write_clicks(tmp_path / "s.mkv", times_s, piece_s=0.1)
    with memory_below(10):
        assert len(read_waveform(path, start_s=0.0)) == 1600 * (len(times_s) - 1)
        assert len(read_sound(path, start_s=0.0).samples) == 1600 * (len(times_s) - 1)
    assert len(read_waveform(path)) == 1600 * len(times_s)


def test_gaps_together_are_no_longer_than_the_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clicks(tmp_path / "s.mkv", [0, 20, 40, 60], piece_s=0.1)
    monkeypatch.setattr("tasks.media.sound.LONGEST_SILENCE_S", 30)
    assert len(clicks(read_waveform(path, start_s=0.0))) == 4
    wild = path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x8a\x88")  # no duration is said
    path.write_bytes(wild)
    assert clicks(read_waveform(path, start_s=0.0)) == [0, 20 * 16000]


def test_a_long_sound_is_in_memory_once(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", sung(300.0, 8000, 2), 8000)
    read_waveform(tmp_path / "s.wav", 0.0)
    for start_s in (None, 0.0):
        with memory_below(1.4 * 300 * SAMPLE_RATE * 4 / 1e6):
            waveform = read_waveform(tmp_path / "s.wav", start_s)
    with memory_below(10):
        assert (loudness_db(waveform), silence_share(waveform)) == (pytest.approx(-16.39, abs=0.05), 0)


def test_no_more_of_a_sound_is_read_than_is_wanted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", sung(60.0, 44100, 2), 44100)
    whole = read_sound(tmp_path / "s.wav").samples
    with memory_below(3):
        assert np.array_equal(read_sound(tmp_path / "s.wav", stop_s=0.5).samples, whole[:22050])
        assert np.array_equal(read_sound(tmp_path / "s.wav", 0.25, 0.5).samples, whole[11025:22050])
        assert read_sound(tmp_path / "s.wav", 1.0, 0.5).samples.shape == (0, 2)


def write_changing_sound(path: Path, *kinds: tuple[int, int]) -> Path:
    """One second of ADTS for each rate and number of channels, one after the other."""
    content = b""
    for rate, channels in kinds:
        soundfile.write(path.with_suffix(".wav"), sung(1.0, rate, channels), rate)
        ffmpeg("-i", path.with_suffix(".wav"), "-c:a", "aac", path)
        content += path.read_bytes()
    path.write_bytes(content)
    return path


MONO_THEN_STEREO = [(44100, 1), (44100, 2)]
STEREO_THEN_MONO = [(44100, 2), (44100, 1), (44100, 2)]
OTHER_RATES = [(44100, 2), (22050, 2), (48000, 6), (16000, 1)]
"""ADTS has no times: with other rates ffmpeg's guesses are wrong, so that they are read without."""


@pytest.mark.parametrize(
    ("kinds", "start_s"),
    [
        (MONO_THEN_STEREO, None),
        (MONO_THEN_STEREO, 0.0),
        (STEREO_THEN_MONO, None),
        (STEREO_THEN_MONO, 0.0),
        (OTHER_RATES, None),
        ([(48000, 6), (16000, 1)], None),
    ],
)
def test_sound_that_changes_on_the_way_is_brought_to_the_firsts_kind(tmp_path: Path, kinds: list[tuple[int, int]], start_s: float | None) -> None:
    path = write_changing_sound(tmp_path / "s.aac", *kinds)
    waveform, sound = read_waveform(path, start_s), read_sound(path, start_s)
    assert len(waveform) == pytest.approx(len(kinds) * SAMPLE_RATE, abs=0.1 * len(kinds) * SAMPLE_RATE)
    assert (sound.sample_rate, sound.samples.shape[1]) == kinds[0]
    assert sound.duration_s == pytest.approx(len(waveform) / SAMPLE_RATE, abs=0.01)
    for second in range(len(kinds)):
        assert loudness_db(waveform[second * SAMPLE_RATE + 4000 : (second + 1) * SAMPLE_RATE - 4000]) > -30


def test_an_empty_packet_does_not_end_the_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clicks(tmp_path / "s.mkv", [0, 1, 2])
    honest = av.container.InputContainer.demux

    class WithEmptyPackets:
        """A container that hands out an empty packet before each of its own, as a damaged index makes ffmpeg do."""

        def __init__(self, container: av.container.InputContainer) -> None:
            self._container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def __enter__(self) -> "WithEmptyPackets":
            return self

        def __exit__(self, *_: object) -> None:
            self._container.close()

        def demux(self, stream: av.AudioStream) -> Iterator[av.Packet]:
            for packet in honest(self._container, stream):
                yield av.Packet()
                yield packet

    monkeypatch.setattr("tasks.audio.open_container", lambda path: WithEmptyPackets(av.open(str(path))))
    assert clicks(read_waveform(path)) == [0, 16000, 32000]


def test_sound_before_the_start_is_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", sung(1.0, 16000, 1), 16000)
    assert np.array_equal(read_waveform(tmp_path / "s.wav", start_s=0.25), read_waveform(tmp_path / "s.wav")[4000:])
    assert len(read_waveform(tmp_path / "s.wav", start_s=7.0)) == 0


def test_a_sound_keeps_its_rate_and_channels(tmp_path: Path) -> None:
    samples = sung(0.5, 22050, 2)
    soundfile.write(tmp_path / "s.wav", samples, 22050, subtype="FLOAT")
    sound = read_sound(tmp_path / "s.wav")
    assert sound.sample_rate == 22050
    assert np.array_equal(sound.samples, samples)


def test_no_sound(tmp_path: Path) -> None:
    with VideoWriter(str(tmp_path / "silent.mp4"), 64, 48, Fraction(25), None) as writer:
        writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    for name in ("silent.mp4", "none.wav"):
        for read in (read_waveform, read_sound):
            with pytest.raises(MediaError) as caught:
                read(tmp_path / name)
            assert caught.value.reason == Reason.NO_AUDIO


def test_sound_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.wav").write_text("no sound " * 50)
    reasons = []
    for name in ("t.wav", "none.wav", "."):
        with pytest.raises(MediaError) as caught:
            read_waveform(tmp_path / name)
        reasons.append(caught.value.reason)
    assert reasons == [Reason.NOT_MEDIA, Reason.MISSING, Reason.NOT_MEDIA]


def test_sound_that_is_cut_off_ends_early(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.flac", sung(4.0), 44100)
    content = (tmp_path / "s.flac").read_bytes()
    (tmp_path / "s.flac").write_bytes(content[: len(content) // 2])
    assert 16000 < len(read_waveform(tmp_path / "s.flac")) < 48000


@pytest.mark.parametrize("samples", [16000, 48123, 199, 1])
def test_mel_is_librosas(samples: int) -> None:
    waveform = np.resize(speech_like_sound(2.0), samples)
    mel = mel_spectrogram(waveform)
    assert mel.shape == (1 + samples // 200, 80)
    assert mel.dtype == np.float32
    assert np.abs(mel - contract_mel(waveform)).max() < 1e-4


def test_mel_golden_figures() -> None:
    waveform = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)
    mel = mel_spectrogram(waveform)
    assert int(mel[40].argmax()) == 25
    assert mel[40].max() == pytest.approx(2.55035, abs=1e-4)
    assert mel[40].mean() == pytest.approx(-3.77809, abs=1e-4)
    assert (mel_spectrogram(np.zeros(16000, dtype=np.float32)) == -4).all()


def test_long_mels_are_computed_piece_by_piece_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = speech_like_sound(3.0)
    whole = mel_spectrogram(waveform)
    monkeypatch.setattr("tasks.audio.MEL_BLOCK", 7)
    assert np.abs(mel_spectrogram(waveform) - whole).max() < 1e-6


@pytest.mark.parametrize("clip", REFERENCES)
def test_mel_from_a_file_is_the_originals(shared: Path, clip: str) -> None:
    reference = np.load(shared / f"reference/iplap/{clip}.npz")["mel"]
    mel = mel_spectrogram(read_waveform(shared / REFERENCES[clip]))
    assert mel.shape == reference.shape
    assert np.abs(mel - reference).mean() < 1e-4  # 1e-3 is asked for


def test_loudness() -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(16000) / 16000).astype(np.float32)
    assert loudness_db(tone) == pytest.approx(-3.01, abs=0.01)
    assert loudness_db(tone / 10) == pytest.approx(-23.01, abs=0.01)
    assert loudness_db(np.zeros(100, dtype=np.float32)) == loudness_db(np.zeros(0, dtype=np.float32)) == -100


def test_silence_share() -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(16000) / 16000).astype(np.float32)
    assert silence_share(tone) == 0
    assert silence_share(tone * 0.001) == silence_share(np.zeros(0, dtype=np.float32)) == 1
    assert silence_share(np.concatenate([tone, np.zeros(48000, dtype=np.float32)])) == pytest.approx(0.75)
    assert silence_share(tone[:700]) == 0  # a short last piece counts by its own samples


def test_flac_is_lossless() -> None:
    waveform = (np.random.default_rng(0).integers(-32768, 32768, 20000) / 32768).astype(np.float32)
    coded = encode_flac(waveform)
    assert coded[:4] == b"fLaC"
    assert np.array_equal(decode_flac(coded), waveform)
    assert len(encode_flac(np.zeros(SAMPLE_RATE, dtype=np.float32))) < 10000


def test_flac_clips_what_is_louder_than_full_scale() -> None:
    assert decode_flac(encode_flac(np.array([2.0, -2.0, 0.25], dtype=np.float32))).tolist() == [32767 / 32768, -1.0, 0.25]
