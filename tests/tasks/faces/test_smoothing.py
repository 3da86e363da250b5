import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.faces.smoothing import BOX_WINDOW_S, CONTENT_WINDOW_S, HEAD_WINDOW_S, PIECE_FRAMES, pieces_of, smoothed

GOLAY = "savitzky-golay"
WINDOWS_S = (BOX_WINDOW_S, HEAD_WINDOW_S, CONTENT_WINDOW_S)


@pytest.mark.parametrize("window_s", WINDOWS_S)
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 8, 9, 40])
def test_what_stands_still_or_moves_evenly_stays_where_it_is_at_the_ends_too(frames: int, window_s: float) -> None:
    time = np.arange(frames)[:, None, None] * np.ones((1, 3, 2))
    for values in (np.full((frames, 4), 123.456), 50 + 3.25 * time, 7 - 0.1 * time + 0.02 * time**2):
        np.testing.assert_allclose(smoothed(values, 25, GOLAY, window_s), values, atol=1e-9)


@pytest.mark.parametrize(("window_s", "left"), [(BOX_WINDOW_S, 0.42), (HEAD_WINDOW_S, 0.54), (CONTENT_WINDOW_S, 0.74)])
def test_the_jitter_of_a_head_at_rest_falls(window_s: float, left: float) -> None:
    """Measured: 0.40, 0.51 and 0.70 of the jitter are left at 25 frames a second."""
    noise = np.random.default_rng(0).standard_normal((2000, 10))
    calm = smoothed(100 + noise, 25, GOLAY, window_s) - 100
    assert left - 0.06 < calm.std() / noise.std() < left


@pytest.mark.parametrize("window_s", WINDOWS_S)
def test_there_is_no_lag(window_s: float) -> None:
    """A nod of one and a half a second is nowhere late: its crossings of the middle stay."""
    time_s = np.arange(200) / 25
    nod = np.sin(2 * np.pi * 1.5 * time_s)
    calm = smoothed(nod, 25, GOLAY, window_s)
    shifts = [np.corrcoef(nod[10:-10], calm[10 + shift : len(calm) - 10 + shift])[0, 1] for shift in range(-3, 4)]
    assert int(np.argmax(shifts)) == 3
    random = np.random.default_rng(0).random(101)
    np.testing.assert_allclose(smoothed(random[::-1], 25, GOLAY, window_s), smoothed(random, 25, GOLAY, window_s)[::-1], atol=1e-9)


def test_lips_that_close_for_two_frames_are_seen_to_close() -> None:
    opening = np.full(41, 0.1)
    opening[20:22] = 0.0
    calm = smoothed(opening, 25, GOLAY, CONTENT_WINDOW_S)
    assert calm[20:22].max() < 0.02
    assert smoothed(opening, 25, GOLAY, BOX_WINDOW_S)[20:22].min() > 0.05  # which is why mouths have a window of their own


def test_any_frame_rate_is_smoothed_alike() -> None:
    """The window is in seconds: of a fast nod as much is left at 60 frames a second as at 25."""
    left = []
    for rate in (25, 30, 50, 60):
        time_s = np.arange(rate * 8) / rate
        calm = smoothed(np.sin(2 * np.pi * 3 * time_s), rate, GOLAY, HEAD_WINDOW_S)
        left.append(float(np.std(calm[rate:-rate]) * np.sqrt(2)))
    assert min(left) > 0.66
    assert max(left) - min(left) < 0.06


def test_none_leaves_all_as_it_is_and_nothing_is_changed_in_place() -> None:
    values = np.random.default_rng(1).random((30, 2))
    before = values.copy()
    np.testing.assert_array_equal(smoothed(values, 25, "none"), values)
    assert not np.array_equal(smoothed(values, 25, GOLAY), values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_stay(dtype: type) -> None:
    values = np.random.default_rng(1).random((30, 131, 2)).astype(dtype)
    assert smoothed(values, 25, GOLAY).dtype == dtype
    assert smoothed(values, 25, GOLAY).shape == values.shape


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3 * PIECE_FRAMES), st.sampled_from([10.0, 23.976, 25.0, 60.0]))
def test_in_pieces_a_long_stretch_is_smoothed_as_if_whole(frames: int, rate: float) -> None:
    values = np.random.default_rng(frames).random((frames, 2))
    for window_s in WINDOWS_S:
        joined = np.concatenate([smoothed(values[taken], rate, GOLAY, window_s)[kept] for taken, kept in pieces_of(frames, rate)])
        np.testing.assert_allclose(joined, smoothed(values, rate, GOLAY, window_s), atol=1e-9)
