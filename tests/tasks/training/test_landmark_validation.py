from pathlib import Path

import numpy as np
import pytest
import torch

from models.landmark_generator import LandmarkGenerator
from schemas.checkpoints import LandmarkGeneratorSize
from schemas.settings import CropSettings, LandmarkGeneratorTraining
from tasks.corpus.store import CorpusStore
from tasks.dubbing.generate import Generator, Networks
from tasks.training.footage import Footage, read_lessons
from tasks.training.landmark_validation import PREVIEW_PX, LandmarkValidation
from tasks.training.previews import STRIP_PX
from tasks.training.spoken_clips import LONGEST_FRAMES, SpeakingNetwork, SpokenClip
from tests.tasks.training.talking_footage import Mouth, Ventriloquist, talking_footage
from tests.training_corpus import SNAPSHOT

CPU = torch.device("cpu")
METRICS = [
    "l1", "velocity", "lmd_px", "articulation", "closure_f1", "closure_precision", "closure_recall", "leak", "silence_opening", "silence_motion",
]  # fmt: skip


def validation_of(footage: Footage, crop_size: int = 128, **changes: object) -> LandmarkValidation:
    settings = LandmarkGeneratorTraining(store="store", out="out", validation_samples=8, validation_clips=4, references=5)
    return LandmarkValidation(footage, settings.replaced(**changes), crop_size, CPU)


def network(seed: int = 0) -> LandmarkGenerator:
    torch.manual_seed(seed)
    return LandmarkGenerator(LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32))


def test_a_mouth_that_follows_its_sound() -> None:
    validation = validation_of(talking_footage([60, 80, 70, 50]))
    metrics = validation.measure(Mouth())
    assert list(metrics) == METRICS
    assert validation.absent == {}
    assert metrics["l1"] == pytest.approx(0, abs=1e-3)
    assert metrics["articulation"] == pytest.approx(1, abs=0.05)
    assert metrics["closure_f1"] > 0.95
    assert abs(metrics["leak"]) < 0.1
    assert (metrics["silence_opening"], metrics["silence_motion"]) == pytest.approx((0, 0), abs=1e-5)


def test_a_mouth_that_mumbles() -> None:
    mumbling = Mouth()
    mumbling.strength = 0.3
    metrics = validation_of(talking_footage([60, 80])).measure(mumbling)
    assert metrics["articulation"] == pytest.approx(0.3, abs=0.02)
    assert metrics["closure_recall"] > 0.95, "it closes when it should"
    assert metrics["velocity"] > 0.01


def test_a_mouth_that_says_what_the_source_says() -> None:
    footage = talking_footage([60, 80, 70, 50])
    metrics = validation_of(footage).measure(Ventriloquist(footage))
    assert (metrics["l1"], metrics["lmd_px"], metrics["velocity"]) == pytest.approx((0, 0, 0), abs=1e-4)
    assert [metrics[name] for name in ("articulation", "closure_precision", "closure_recall", "closure_f1")] == pytest.approx([1, 1, 1, 1])
    assert metrics["leak"] > 0.95
    assert metrics["silence_motion"] == pytest.approx(1)
    assert metrics["silence_opening"] > 0.1


def test_distances_are_in_pixels_of_the_crop() -> None:
    """Mouth points, of which one in forty is a hundredth of the box off, in a crop of 128 and of 256 pixels."""

    class Off(Ventriloquist):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            content = super().forward(*inputs)
            content[:, :, 0, 56] += 0.01
            content[:, :, 0, 0] += 0.5  # of the jaw: no matter for the mouth
            return content

    footage = talking_footage([30, 30])
    for size in (128, 256):
        assert validation_of(footage, size).measure(Off(footage))["lmd_px"] == pytest.approx(0.01 * size / 40, rel=1e-3)


def test_clips_are_spoken_as_dubbing_speaks_them(corpus: CorpusStore) -> None:
    lessons = read_lessons(corpus, corpus.snapshot(SNAPSHOT))
    generator, footage = network().eval(), lessons.train
    clip = SpokenClip.of(footage, 1, references=5)
    speaking = SpeakingNetwork(generator, CPU)
    rows = slice(int(footage.first_frame[1]), int(footage.first_frame[1] + footage.frames[1]))
    mel = footage.mel[footage.first_mel[1] : footage.first_mel[1] + footage.mel_frames[1]]
    dubbing = Generator(Networks(generator, None, CropSettings(), CPU, {}))
    references = (clip.reference_pose[0], clip.reference_content[0])
    dubbed = dubbing.speak(footage.pose[rows], range(len(clip.frames)), mel, *references)
    assert speaking.speak(clip, speaking.hear(clip.mel_windows)) == pytest.approx(dubbed, abs=1e-6)
    silent = dubbing.speak(footage.pose[rows], range(len(clip.frames)), np.full((200, 80), -4, np.float32), *references)
    made = speaking.speak(clip, speaking.hear_silence(len(clip.mel_windows)))
    assert made == pytest.approx(silent, abs=1e-6)
    assert np.abs(silent - dubbed).max() > 1e-3


def test_long_clips_are_cut_to_their_middle() -> None:
    clip = SpokenClip.of(talking_footage([300]), 0, references=5)
    assert clip.frames.tolist() == list(range(100, 200))
    assert len(clip.frames) == len(clip.content) == len(clip.mel_windows) - 4 == LONGEST_FRAMES


def test_metrics_do_not_depend_on_the_seed_and_leave_the_network_as_it_was(corpus: CorpusStore) -> None:
    footage = read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train
    generator = network()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    measured = [validation_of(footage, seed=seed).measure(generator) for seed in (0, 1)]
    assert measured[0] == measured[1]
    assert measured[0] != validation_of(footage).measure(network(seed=1))
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert generator.audio_encoder is not None
    assert {name for name, _ in generator.named_modules()} == {name for name, _ in network().named_modules()}


def test_one_short_clip(corpus: CorpusStore) -> None:
    validation = validation_of(read_lessons(corpus, corpus.snapshot(SNAPSHOT)).validation)
    metrics = validation.measure(network())
    assert "leak" not in metrics
    assert "one source" in validation.absent["leak"]
    assert set(metrics) | set(validation.absent) == set(METRICS)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(sentence.endswith(".") for sentence in validation.absent.values())


def test_the_shortest_clips_there_are() -> None:
    validation = validation_of(talking_footage([6, 6]))
    assert np.isfinite(list(validation.measure(network()).values())).all()
    assert validation.preview(network()) is None


def test_foreign_speech_is_of_another_source() -> None:
    validation = validation_of(talking_footage([30, 30, 30], sources=["a", "a", "b"]))
    assert validation._partners == [2, 2, 0]
    assert validation_of(talking_footage([30, 30], sources=["a", "a"]))._partners == [None, None]


def test_a_network_whose_weights_are_no_numbers_is_measured_as_such() -> None:
    broken = network()
    torch.nn.init.constant_(broken.mouth_head.weight, float("nan"))
    metrics = validation_of(talking_footage([30, 30])).measure(broken)
    assert np.isnan(metrics["l1"])
    assert np.isnan(metrics["leak"])


def test_preview_shows_the_real_face_and_two_generated_ones() -> None:
    footage = talking_footage([30, 60, 45])
    footage.sound_shift[1] = 3
    validation = validation_of(footage)
    preview = validation.preview(Ventriloquist(footage))
    assert preview is not None
    assert preview.frames.shape == (45, STRIP_PX + PREVIEW_PX, 3 * PREVIEW_PX, 3), "as long as the shorter of clip and foreign speech"
    assert (preview.batch, preview.clip_id, preview.first_frame) == ("b0", footage.clip_ids[1], 3)
    below = preview.frames[:, STRIP_PX:]  # the names
    real, own, foreign = np.split(below, 3, axis=2)
    assert np.array_equal(real, own)
    assert np.array_equal(real, foreign)
    assert len({frame.tobytes() for frame in real}) > 30
    real, own, foreign = np.split(validation.preview(Mouth()).frames[:, STRIP_PX:], 3, axis=2)
    assert not np.array_equal(own, foreign)


def test_preview_of_one_clip_has_no_foreign_face(corpus: CorpusStore, tmp_path: Path) -> None:
    preview = validation_of(read_lessons(corpus, corpus.snapshot(SNAPSHOT)).validation).preview(network())
    assert preview is not None
    assert preview.frames.shape == (30, STRIP_PX + PREVIEW_PX, 2 * PREVIEW_PX, 3)
