import numpy as np
import pytest

from tasks.dubbing.colour_match import MOST_LEVELS, match_colour

SIZE = 64


def skin(seed: int = 0, level: tuple[float, float, float] = (110, 130, 180)) -> np.ndarray:
    """Skin with light from one side and grain; a dark mouth in the middle."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    picture = np.array(level) + (20 * x + 10 * y)[:, :, None] + np.random.default_rng(seed).normal(0, 3, (SIZE, SIZE, 3))
    picture[28:36, 20:44] *= 0.2
    return picture.clip(0, 255).astype(np.float32)


def ring() -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    return ((np.hypot(x, y) > 0.7) & (np.hypot(x, y) < 0.9)).astype(np.float32)


@pytest.mark.parametrize("shift", [(15.0, 0.0, -12.0), (-20.0, -20.0, -20.0)])
def test_a_shift_of_colour_is_taken_back_within_two_levels(shift: tuple[float, float, float]) -> None:
    matched = match_colour(skin(1) + np.float32(shift), skin(2), ring())
    on_skin = slice(40, 60), slice(10, 54)
    assert np.abs((matched - skin(2))[on_skin].mean(axis=(0, 1))).max() < 2


def test_a_shift_that_changes_over_the_face_is_followed() -> None:
    slope = np.linspace(-10, 10, SIZE, dtype=np.float32)[None, :, None]
    missed = match_colour(skin(1) + slope, skin(2), ring()) - skin(2)
    assert abs(missed[:, 4:12].mean() - missed[:, -12:-4].mean()) < 4  # it was 16


def test_a_darkened_face_is_brightened_by_a_gain_so_that_the_mouth_stays_dark() -> None:
    darkened = skin(1) * np.float32(0.88)
    matched = match_colour(darkened, skin(2), ring())
    mouth = slice(29, 35), slice(22, 42)
    assert (matched - darkened)[mouth].mean() < 0.5 * (matched - darkened)[40:60].mean()


def test_what_lies_on_the_seam_by_chance_counts_little() -> None:
    hair = skin(2)
    hair[:, :12] = 20  # a strand over a part of the seam
    matched = match_colour(skin(1), hair, ring())
    assert np.abs(matched - skin(1))[20:60, 24:].mean() < 5


def test_grain_and_a_moving_mouth_do_not_make_it_flicker() -> None:
    frames = []
    for seed in range(8):
        face = skin(seed) + 12
        face[30 : 34 + 2 * seed, 20:44] = 30
        frames.append((match_colour(face, skin(seed + 50), ring()) - face)[50:60].mean(axis=(0, 1)))
    assert np.abs(np.diff(frames, axis=0)).max() < 0.6


def test_what_is_no_matter_of_colour_is_not_matched_wholly() -> None:
    moved = match_colour(np.full((SIZE, SIZE, 3), 30, np.float32), np.full((SIZE, SIZE, 3), 230, np.float32), ring()) - 30
    assert moved.max() <= 2 * MOST_LEVELS


def test_without_a_seam_nothing_changes() -> None:
    face = skin()
    assert np.array_equal(match_colour(face, skin(1) + 20, np.zeros((SIZE, SIZE), np.float32)), face)
