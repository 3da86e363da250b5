"""A pasted face whose border shows has a higher figure than the picture that it was pasted into."""

import itertools

import numpy as np
import pytest

from tasks.dubbing.composite import Contours, seam_mask
from tasks.evaluation.seam import seam_visibility
from tests.training_corpus import _mean_face

SIZE = 128


@pytest.fixture
def contours() -> Contours:
    face = _mean_face()
    return Contours(face[:, :74], face[:, 74:], face[:, 74:])


def skin() -> np.ndarray:
    """(S, S, 3): grey with an even grain."""
    grain = np.random.default_rng(0).normal(128, 4, (SIZE, SIZE, 1))
    return np.repeat(grain, 3, axis=2).astype(np.uint8)


def pasted(contours: Contours, brighter: float, *, hard: bool = False) -> np.ndarray:
    mask = seam_mask(contours)[:, :, None]
    return np.clip(skin() + brighter * ((mask > 0.5) if hard else mask), 0, 255).astype(np.uint8)


def test_the_more_the_new_face_differs_the_more_the_border_shows(contours: Contours) -> None:
    figures = [seam_visibility(pasted(contours, brighter), contours) for brighter in (0, 20, 40, 80)]
    assert all(one is not None and other is not None and one < other for one, other in itertools.pairwise(figures))


def test_a_hard_border_shows_more_than_a_soft_one(contours: Contours) -> None:
    soft, hard = (seam_visibility(pasted(contours, 40, hard=hard), contours) for hard in (False, True))
    assert soft is not None
    assert hard is not None
    assert hard > 1.2 * soft


def test_a_picture_without_any_edge_has_no_figure(contours: Contours) -> None:
    assert seam_visibility(np.full((SIZE, SIZE, 3), 90, np.uint8), contours) is None


def test_edges_of_the_mouth_do_not_count_as_the_faces_own(contours: Contours) -> None:
    drawn = pasted(contours, 40)
    lips = (contours.content[:, -20:].T * SIZE).astype(int)
    drawn[lips[:, 1].min() : lips[:, 1].max(), lips[:, 0].min() : lips[:, 0].max()] = 0
    assert seam_visibility(drawn, contours) == pytest.approx(seam_visibility(pasted(contours, 40), contours), rel=0.02)
