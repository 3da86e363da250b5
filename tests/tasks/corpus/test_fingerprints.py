"""The same footage in another coding keeps its fingerprint; other footage has another."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from tasks.audio import mel_spectrogram, read_waveform
from tasks.corpus.fingerprints import HASH_BITS, SAME_FACE_BITS, SAME_SOUND_BITS, audio_hash, face_hashes, hamming, hashed_frames
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tests.footage import portrait


def babble(seconds: float, seed: int) -> np.ndarray:
    """Noise through a few resonances that come and go, as speech is."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * 16000)) / 16000
    tones = [np.sin(2 * np.pi * hertz * time_s + random.uniform(0, 6)) for hertz in np.geomspace(120, 6000, 40)]
    loudness = [np.interp(time_s, np.arange(0, seconds + 1, 0.15), random.uniform(0, 1, len(np.arange(0, seconds + 1, 0.15))) ** 3) for _ in tones]
    return (0.03 * sum(tone * level for tone, level in zip(tones, loudness, strict=True))).astype(np.float32)


def faces() -> list[np.ndarray]:
    """The astronaut, nodding a little."""
    return [np.roll(portrait(), shift, axis=0) for shift in (0, 3, 6)]


def test_a_face_coded_again_keeps_its_hash() -> None:
    coarse = [cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR) for face in faces()]
    small = [cv2.resize(face, (96, 96), interpolation=cv2.INTER_AREA) for face in faces()]
    darker = [(0.8 * face).astype(np.uint8) for face in faces()]
    for again in (coarse, small, darker):
        assert hamming(face_hashes(faces()), face_hashes(again)) <= SAME_FACE_BITS / 2


def test_other_pictures_have_other_hashes() -> None:
    mirrored = [face[:, ::-1] for face in faces()]
    cat = [skimage.data.chelsea()[:256, 100:356, ::-1]] * 3
    for others in (mirrored, cat):
        assert hamming(face_hashes(faces()), face_hashes(others)) > SAME_FACE_BITS


def test_a_file_coded_again_is_a_twin(tmp_path: Path) -> None:
    """H.264 and AAC at their usual and at a coarse quality, in two containers, against lossless sound and picture."""
    pictures, waveform = [face for face in faces() for _ in range(20)], babble(2.4, seed=1)
    for name, crf in (("fine.mp4", 12), ("coarse.mov", 35)):
        with VideoWriter(str(tmp_path / name), 256, 256, Fraction(25), Sound(waveform[:, None], 16000), crf=crf) as writer:
            for picture in pictures:
                writer.write(picture)
        shown = [frame.picture for frame in read_frames(tmp_path / name, 25)]
        heard = read_waveform(tmp_path / name, 0.0)[: len(waveform)]
        numbers = hashed_frames(len(shown))
        assert hamming(face_hashes([shown[number] for number in numbers]), face_hashes([pictures[number] for number in numbers])) <= SAME_FACE_BITS
        assert hamming(audio_hash(mel_spectrogram(heard)), audio_hash(mel_spectrogram(waveform))) <= SAME_SOUND_BITS


@pytest.mark.parametrize("seconds", [0.4, 1.0, 3.0, 10.0])
def test_loudness_and_noise_change_few_bits_of_a_sound(seconds: float) -> None:
    waveform = babble(seconds, seed=2)
    noisy = 0.3 * waveform + 0.0005 * np.random.default_rng(0).standard_normal(len(waveform)).astype(np.float32)
    assert hamming(audio_hash(mel_spectrogram(waveform)), audio_hash(mel_spectrogram(noisy))) <= SAME_SOUND_BITS


def test_other_sounds_differ_in_about_half_of_their_bits() -> None:
    hashes = [audio_hash(mel_spectrogram(babble(3.0, seed))) for seed in range(12)]
    bits = [hamming(one, other) for number, one in enumerate(hashes) for other in hashes[:number]]
    assert min(bits) > 1.3 * SAME_SOUND_BITS
    assert np.mean(bits) == pytest.approx(4 * HASH_BITS / 2, abs=8)


def test_silence_has_an_empty_fingerprint() -> None:
    assert audio_hash(mel_spectrogram(np.zeros(16000, dtype=np.float32))) == (0, 0, 0, 0)
    assert audio_hash(mel_spectrogram(np.zeros(100, dtype=np.float32))) == (0, 0, 0, 0)


@pytest.mark.parametrize(("frames", "numbers"), [(5, (0, 2, 4)), (10, (1, 5, 9)), (250, (25, 125, 225))])
def test_hashed_frames_lie_in_the_clip(frames: int, numbers: tuple[int, ...]) -> None:
    assert hashed_frames(frames) == numbers


def test_bits_are_counted_over_all_words() -> None:
    assert hamming((0b1011, 2**63), (0b0001, 0)) == 3
    with pytest.raises(ValueError, match="shorter"):
        hamming((1, 2), (1,))


def test_a_fingerprint_has_three_faces() -> None:
    assert all(0 <= word < 2**HASH_BITS for word in face_hashes(faces()))
    with pytest.raises(ValueError, match="2 pictures"):
        face_hashes(faces()[:2])
