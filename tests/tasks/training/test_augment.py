from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.face_points import CONTENT_INDICES
from schemas.settings import LandmarkGeneratorTraining, RendererTraining
from tasks.corpus.store import CorpusStore
from tasks.evaluation.lips import INNER_LOWER_LIP, INNER_UPPER_LIP
from tasks.faces.sketch import draw_sketch
from tasks.training.augment import NO_AUGMENTATION, Augmentation, carried_along, colour_change, jittered, mirrored
from tasks.training.footage import Footage, read_lessons
from tasks.training.pictures import FacePictures
from tasks.training.samples import LandmarkSamples, RendererSamples, Samples
from tasks.training.windows import WindowChooser, Windows
from tests.training_corpus import SNAPSHOT

EVERYTHING = Augmentation(flip_share=0.5, reference_jitter_frames=3, silence_share=0.4, colour_jitter=0.3)


@pytest.fixture(scope="module")
def footage(corpus: CorpusStore) -> Footage:
    """The small corpus, in which every third frame has closed lips."""
    read = read_lessons(corpus, corpus.snapshot(SNAPSHOT)).train
    content = read.content.copy()
    content[::3, :, INNER_LOWER_LIP] = content[::3, :, INNER_UPPER_LIP]
    return Footage(**{**vars(read), "content": content})


def samples_of(kind: str, corpus: CorpusStore, footage: Footage, augmentation: Augmentation, references: int = 3) -> Samples:
    if kind == "landmarks":
        return LandmarkSamples(footage, references, augmentation)
    return RendererSamples(footage, references, 128, FacePictures(corpus, footage), augmentation)


@pytest.mark.parametrize("kind", ["landmarks", "renderer"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(-3, 2**40), step=st.integers(0, 10**6), batch_size=st.integers(2, 9), workers=st.integers(1, 4))
def test_batches_follow_from_seed_step_and_size_whoever_makes_them(
    kind: str, corpus: CorpusStore, footage: Footage, seed: int, step: int, batch_size: int, workers: int
) -> None:
    whole = samples_of(kind, corpus, footage, EVERYTHING).batch(seed, step, batch_size)
    resumed = samples_of(kind, corpus, footage, EVERYTHING)  # which never saw the steps before
    parts = [resumed.batch(seed, step, batch_size, rank, workers) for rank in range(workers)]
    for tensor, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(tensor, torch.cat(list(pieces)))


@pytest.mark.parametrize("kind", ["landmarks", "renderer"])
def test_each_augmentation_changes_something(kind: str, corpus: CorpusStore, footage: Footage) -> None:
    plain = samples_of(kind, corpus, footage, NO_AUGMENTATION).batch(0, 0, 16)
    switches = {"flip_share": 0.5, "reference_jitter_frames": 3, "silence_share": 0.9} | ({"colour_jitter": 0.3} if kind == "renderer" else {})
    for name, value in switches.items():
        changed = samples_of(kind, corpus, footage, Augmentation(**{name: value})).batch(0, 0, 16)
        assert any(not torch.equal(one, other) for one, other in zip(plain, changed, strict=True)), name


def test_flipped_landmarks_are_those_of_a_mirror(footage: Footage) -> None:
    plain, flipped = (LandmarkSamples(footage, 3, Augmentation(flip_share=share)).batch(0, 0, 8) for share in (0, 1))
    assert torch.equal(plain.mels, flipped.mels)
    corner, other = CONTENT_INDICES.index(61), CONTENT_INDICES.index(291)
    assert torch.equal(flipped.content[..., 0, corner], 1 - plain.content[..., 0, other])
    assert torch.equal(flipped.content[..., 1, corner], plain.content[..., 1, other])
    for one, turned in zip(plain[1:], flipped[1:], strict=True):
        np.testing.assert_allclose(mirrored(turned.numpy()), one, atol=1e-7)


def test_flipped_pictures_and_sketches_are_mirrored_and_sketches_are_those_of_mirrored_landmarks(corpus: CorpusStore, footage: Footage) -> None:
    plain, flipped = (samples_of("renderer", corpus, footage, Augmentation(flip_share=share)).batch(0, 0, 4) for share in (0, 1))
    for one, turned in zip(plain[:4], flipped[:4], strict=True):
        assert torch.equal(turned, one.flip(-1))
    assert torch.equal(plain.mel, flipped.mel)
    drawn = draw_sketch(mirrored(footage.pose[0]), mirrored(footage.content[0]), (120, 100))
    turned = cv2.flip(draw_sketch(footage.pose[0], footage.content[0], (120, 100)), 1)
    assert (drawn == turned).mean() > 0.99


@given(st.integers(0, 2**32), st.integers(1, 25))
@settings(deadline=None)
def test_jittered_references_stay_near_in_the_clip_and_out_of_the_window(seed: int, most: int) -> None:
    random = np.random.default_rng(seed)
    frames, starts = np.array([9, 30, 60]), np.array([2, 0, 55])
    references = np.array([[0, 1, 7, 8], [5, 6, 20, 29], [0, 30, 53, 54]])
    windows = Windows(np.arange(3), starts, references, np.zeros(3, bool))
    moved = jittered(random, windows, frames, most)
    assert (np.abs(moved - references) <= most).all()
    assert ((moved >= 0) & (moved < frames[:, None])).all()
    assert ((moved < starts[:, None]) | (moved >= starts[:, None] + 5)).all()


def test_jitter_takes_content_from_beside_the_pose(footage: Footage) -> None:
    plain, moved = (LandmarkSamples(footage, 8, Augmentation(reference_jitter_frames=frames)).batch(0, 0, 2) for frames in (0, 2))
    assert torch.equal(plain.reference_pose, moved.reference_pose)
    windows = WindowChooser(footage).choose(0, 0, 2, 8)
    for sample in range(2):
        clip = windows.clips[sample]
        for reference, content in zip(windows.references[sample], moved.reference_content[sample], strict=True):
            row = footage.first_frame[clip] + reference
            near = footage.content[max(row - 2, footage.first_frame[clip]) : row + 3]
            assert (near == content.numpy()).all(axis=(1, 2)).any()
    assert not torch.equal(plain.reference_content, moved.reference_content)


def test_in_silence_the_mouth_of_the_middle_frame_stays(corpus: CorpusStore, footage: Footage) -> None:
    silence = Augmentation(silence_share=1.0)
    windows = WindowChooser(footage, 1.0).choose(0, 0, 6, 2)
    assert windows.silent.any()
    landmarks = LandmarkSamples(footage, 2, silence).batch(0, 0, 6)
    faces = samples_of("renderer", corpus, footage, silence, references=2).batch(0, 0, 6)
    for sample in np.flatnonzero(windows.silent):
        row = footage.first_frame[windows.clips[sample]] + windows.starts[sample]
        assert (landmarks.mels[sample] == -4).all()
        assert (faces.mel[sample] == -4).all()
        still = footage.content[row + 2]
        np.testing.assert_allclose(landmarks.content[sample, 2], still, atol=1e-6)
        sway = footage.pose[row : row + 5, 0].mean(axis=1) - footage.pose[row + 2, 0].mean()  # the drawn heads only sway
        np.testing.assert_allclose(landmarks.content[sample, :, 0], still[0] + sway[:, None], atol=1e-5)
        np.testing.assert_allclose(landmarks.content[sample, :, 1], np.tile(still[1], (5, 1)), atol=1e-5)
        sketch = draw_sketch(footage.pose[row + 3], landmarks.content[sample, 3].numpy(), (120, 100))
        np.testing.assert_array_equal(faces.sketches[sample, 3].permute(1, 2, 0), sketch)


def test_content_is_carried_by_turns_scales_and_moves_of_the_head_in_pixels() -> None:
    random = np.random.default_rng(0)
    head, mouth = (random.random((points,)) * 200 + 1j * random.random(points) * 200 for points in (74, 57))
    moves = [(1.3 * np.exp(0.2j), 40 - 9j), (0.9, 5j), (1, 0), (np.exp(-0.4j), 3), (1.1 * np.exp(0.1j), -20 + 30j)]
    boxes = np.array([[-300, -200, 500 + 30 * frame, 400 - 20 * frame] for frame in range(5)], np.float32)

    def shares(points: np.ndarray) -> np.ndarray:
        placed = [scale * points + move for scale, move in moves]
        return np.stack([[(p.real - x0) / (x1 - x0), (p.imag - y0) / (y1 - y0)] for p, (x0, y0, x1, y1) in zip(placed, boxes, strict=True)]).astype(np.float32)

    speaking = shares(mouth)
    speaking[[0, 1, 3, 4]] += 0.1  # what the mouth did in the other frames does not matter
    np.testing.assert_allclose(carried_along(speaking[None], shares(head)[None], boxes[None])[0], shares(mouth), atol=1e-5)


def test_one_change_of_colour_for_all_pictures_of_a_sample(corpus: CorpusStore, footage: Footage) -> None:
    plain, changed = (samples_of("renderer", corpus, footage, Augmentation(colour_jitter=jitter)).batch(0, 0, 4) for jitter in (0, 0.3))
    assert torch.equal(plain.sketches, changed.sketches)
    for sample in range(4):
        skins = {tuple(picture[:, 2, 2].tolist()) for picture in (changed.face[sample], *changed.reference_faces[sample])}
        assert len(skins) == 1, "the background is one colour in every picture"
        assert skins != {tuple(plain.face[sample][:, 2, 2].tolist())}


def test_colours_change_as_they_are_named() -> None:
    skin = np.array([[[90, 120, 160]]], dtype=np.uint8)
    assert cv2.transform(skin, colour_change(1, 1, 1)).tolist() == skin.tolist()
    assert cv2.transform(skin, colour_change(1.1, 1, 1)).tolist() == [[[99, 132, 176]]]
    grey = round(0.114 * 90 + 0.587 * 120 + 0.299 * 160)
    assert cv2.transform(skin, colour_change(1, 1, 0)).tolist() == [[[grey] * 3]]
    assert cv2.transform(skin, colour_change(1, 0, 1)).tolist() == [[[128] * 3]]
    assert cv2.transform(skin, colour_change(2, 1, 1)).max() == 255, "what is too bright is white, and does not turn dark"


def test_settings_say_what_is_changed(tmp_path: Path) -> None:
    shared = {"store": str(tmp_path), "out": str(tmp_path), "flip_share": 0.5, "reference_jitter_frames": 2, "silence_share": 0.1}
    assert Augmentation.of(LandmarkGeneratorTraining(**shared)) == Augmentation(0.5, 2, 0.1)
    assert Augmentation.of(RendererTraining(**shared, colour_jitter=0.2)) == Augmentation(0.5, 2, 0.1, 0.2)
