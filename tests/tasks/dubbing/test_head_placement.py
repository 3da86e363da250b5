"""Mouths that were generated beside the head come back onto it; how they open stays as it was generated."""

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.face_points import CONTENT_POSITIONS, LOWER_LIP, POSE_POSITIONS, UPPER_LIP
from tasks.dubbing.head_placement import HEIGHT_OVER, JAW, MOUTH, held_to_head, placement, plane_of, points_of

FACE = np.array(json.loads((Path(__file__).parents[1] / "faces/astronaut_points.json").read_text()))
SHARES = ((FACE - FACE.min(axis=0)) / np.ptp(FACE, axis=0).max()).T.astype(np.float32)
POSE, CONTENT = SHARES[:, list(POSE_POSITIONS)], SHARES[:, list(CONTENT_POSITIONS)]
FRAMES = 100
CHIN = 8


def still(points: np.ndarray) -> np.ndarray:
    return np.repeat(points[None], FRAMES, axis=0)


def speaking() -> np.ndarray:
    """The face's own content (FRAMES, 2, 57) with a lower lip and chin that go up and down, four times a second."""
    content, open_share = still(CONTENT), (1 - np.cos(np.arange(FRAMES) * 2 * np.pi * 4 / 25)) / 40
    content[:, 1, LOWER_LIP] += open_share
    content[:, 1, CHIN] += open_share
    return content


def openings(content: np.ndarray) -> np.ndarray:
    return np.hypot(*(content[:, :, UPPER_LIP] - content[:, :, LOWER_LIP]).T)


@pytest.mark.parametrize("shift", [(0.05, 0.0), (0.0, 0.04), (-0.03, 0.06)])
def test_a_mouth_beside_the_head_comes_back_and_speaks_as_before(shift: tuple[float, float]) -> None:
    slid = speaking() + np.array(shift, np.float32)[None, :, None]
    held = held_to_head(slid, still(POSE), still(CONTENT))
    np.testing.assert_allclose(held[:, :, MOUTH].mean(axis=0), speaking()[:, :, MOUTH].mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(openings(held), openings(slid), atol=1e-6)
    np.testing.assert_allclose(held[:, :, CHIN], speaking()[:, :, CHIN], atol=4e-3)


def test_the_jaw_opens_at_the_chin_and_stays_at_the_ears() -> None:
    held = held_to_head(speaking(), still(POSE), still(CONTENT))[:, :, JAW]
    moved = np.ptp(held, axis=0).max(axis=0)
    assert moved[CHIN] > 0.04
    np.testing.assert_allclose(held[:, :, [0, 16]], still(CONTENT)[:, :, [0, 16]], atol=1e-6)


def test_it_goes_with_a_head_that_leans() -> None:
    turn = np.exp(1j * np.linspace(0, 0.4, FRAMES))[:, None]
    pose, own = (points_of(plane_of(still(points)) * turn) for points in (POSE, CONTENT))
    upright = speaking()  # as a network makes it that takes no notice
    held = held_to_head(upright, pose, own)
    assert np.abs(plane_of(upright) - plane_of(own)).max() > 0.2
    jaw, middle = plane_of(held[:, :, JAW]), plane_of(held[:, :, MOUTH]).mean(axis=1)
    away = np.abs((jaw - plane_of(own[:, :, JAW])) / turn)
    assert np.delete(away, np.arange(4, 13), axis=1).max() < 0.08
    assert np.abs((middle - plane_of(own[:, :, MOUTH]).mean(axis=1)) / turn[:, 0]).max() < 0.04


def test_what_the_source_says_does_not_come_along() -> None:
    """The source opens and closes its mouth; the generated one is still, and stays it."""
    held = held_to_head(still(CONTENT), still(POSE), speaking())
    assert np.ptp(openings(held)) < 1e-6
    assert np.ptp(held[HEIGHT_OVER:-HEIGHT_OVER, 1, UPPER_LIP]) < 2e-3
    assert np.ptp(held[HEIGHT_OVER:-HEIGHT_OVER, 1, CHIN]) < 2e-3


def test_a_head_is_placed_by_what_no_muscle_moves() -> None:
    centre, turn = placement(still(POSE))
    leaning = np.exp(0.3j)
    centre_then, turn_then = placement(points_of(plane_of(still(POSE)) * leaning + 0.1))
    np.testing.assert_allclose(centre_then, centre * leaning + 0.1, atol=1e-6)
    np.testing.assert_allclose(turn_then, turn * leaning, atol=1e-6)
