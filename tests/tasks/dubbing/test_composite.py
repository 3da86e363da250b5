import cv2
import numpy as np
import pytest

from tasks.dubbing.composite import JAW, UPPER_OUTLINE, Contours, blend_mask, paste_face
from tasks.faces.crop import Box

BOX = Box(60, 40, 160, 160)


def contours(jaw_y: float = 0.9) -> Contours:
    """A face as wide as 0.1..0.9 of its box whose chin is at `jaw_y`."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.4 * np.cos(angle), 0.5 + (jaw_y - 0.5) * np.sin(angle)])
    content = np.concatenate([jaw, np.full((2, 40), 0.6)], axis=1).astype(np.float32)
    pose = np.full((2, 74), 0.5, np.float32)
    pose[:, :8] = [[0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9], [0.2, 0.3, 0.4, 0.5, 0.5, 0.4, 0.3, 0.2]]
    return Contours(pose, content, content)


def test_only_the_face_below_the_eyes_changes() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 220, 3), dtype=np.uint8)
    before = picture.copy()
    pasted = paste_face(picture, np.full((128, 128, 3), 200, np.uint8), BOX, contours())
    assert np.array_equal(picture, before)
    outside = np.ones(picture.shape[:2], bool)
    outside[40:160, 60:160] = False
    assert np.array_equal(pasted[outside], picture[outside])
    assert np.array_equal(pasted[40:84, 60:160], picture[40:84, 60:160])  # eyes and brows
    assert (pasted[115:130, 100:120] == 200).all()  # mouth


def test_the_mask_is_soft_and_nothing_at_the_edge_of_the_box() -> None:
    mask = blend_mask(contours(jaw_y=1.0), 300, 360)
    assert mask.min() >= 0
    assert mask.max() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(mask, axis=0)).max() < 0.12
    assert mask[:, 0].max() < 0.01
    assert mask[0].max() == 0


def test_the_mask_holds_the_sources_jaw_and_the_new_one() -> None:
    opened, closed = contours(0.95), contours(0.7)
    mask = blend_mask(Contours(opened.pose, opened.source_content, closed.content), 200, 200)
    assert mask[175, 100] > 0.8


def test_a_face_smaller_than_the_generated_picture_is_pasted_too() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    pasted = paste_face(picture, np.full((128, 128, 3), 100, np.uint8), Box(20, 20, 44, 50), contours())
    assert pasted[40, 32].tolist() == [100, 100, 100]


def test_what_is_around_the_face_stays_the_sources_own() -> None:
    face = contours(0.8)
    mask = blend_mask(face, 200, 200)
    inside = np.zeros((200, 200), np.uint8)
    outline = np.concatenate([face.pose[:, UPPER_OUTLINE], face.content[:, JAW]], axis=1).T * 200
    cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(outline).astype(np.int32)), 1)
    assert mask[inside == 0].max() < 0.35
    assert mask[cv2.dilate(inside, np.ones((17, 17), np.uint8)) == 0].max() < 0.05
