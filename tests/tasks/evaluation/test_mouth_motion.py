"""How a mouth moves: openings in the real mouth's widths, trembling on the head, what counts as silence."""

import numpy as np
import pytest

from schemas.face_points import POSE_INDICES
from tasks.evaluation.mouth_motion import MouthMotion, jitter_mm, spoken_and_silent, squares
from tasks.faces.head_angles import CANONICAL_POINTS_CM
from tests.tasks.evaluation.mouths import mouth

PX_A_CM = 10.0


def frontal_pose(frames: int) -> np.ndarray:
    """(T, 2, 74): the canonical face seen from the front, 10 pixels a centimetre."""
    pose = np.zeros((frames, 2, 74), np.float32)
    for point, (x, y, _) in CANONICAL_POINTS_CM.items():
        pose[:, :, POSE_INDICES.index(point)] = 100 + PX_A_CM * np.array([x, -y])
    return pose


def test_openings_are_in_widths_of_the_real_mouth_and_lost_faces_have_none() -> None:
    content = mouth(np.array([0.0, 4.0, 8.0], np.float32), width=40, lip=6)
    content[1] = np.nan
    motion = MouthMotion.of(content, mouth_px=40)
    assert motion.inner == pytest.approx([0.0, np.nan, 0.2], nan_ok=True)
    assert motion.outer == pytest.approx([0.3, np.nan, 0.5], nan_ok=True)
    assert motion.closed.tolist() == [True, False, False]


def test_a_mouth_that_jumps_to_and_fro_trembles_and_one_that_glides_does_not() -> None:
    pose, content = frontal_pose(20), np.zeros((20, 2, 57), np.float32)
    steady = content + 3.0 * np.arange(20, dtype=np.float32)[:, None, None]
    assert jitter_mm(pose, steady) == pytest.approx(0, abs=1e-4)
    jumping = content.copy()
    jumping[::2, 0] = 1.0  # a pixel, a millimetre: second differences of 2
    assert jitter_mm(pose, jumping) == pytest.approx(2.0, rel=1e-4)


def test_the_heads_own_motion_and_size_are_no_trembling() -> None:
    frames = 20
    random = np.random.default_rng(0)
    sway = (5 * random.standard_normal((frames, 2, 1))).astype(np.float32)
    grow = random.uniform(0.8, 1.2, (frames, 1, 1)).astype(np.float32)
    content = np.repeat(random.uniform(90, 110, (1, 2, 57)).astype(np.float32), frames, axis=0)
    assert jitter_mm(frontal_pose(frames) * grow + sway, content * grow + sway) == pytest.approx(0, abs=1e-3)


def test_trembling_is_told_where_three_frames_on_end_have_a_face() -> None:
    content = np.zeros((6, 2, 57), np.float32)
    content[::2] = np.nan
    assert jitter_mm(frontal_pose(6), content) is None


@pytest.mark.filterwarnings("error")
def test_frames_without_a_face_are_left_out_of_the_trembling_and_nobody_is_warned() -> None:
    pose, content = frontal_pose(20), np.zeros((20, 2, 57), np.float32)
    pose[8], content[8] = np.nan, np.nan
    assert jitter_mm(pose, content) == pytest.approx(0, abs=1e-4)


def test_silence_is_apart_from_speech_and_the_way_between_is_neither() -> None:
    loud = np.full((80, 80), -4.0, np.float32)
    loud[20:60] = 1.0 + np.random.default_rng(0).standard_normal((40, 80)).astype(np.float32)
    spoken, silent = spoken_and_silent(loud, 25)
    assert not (spoken & silent).any()
    assert spoken[10:16].all()
    assert silent[:3].all()
    assert silent[22:].all()
    assert not (spoken | silent).all()


def test_squares_are_about_the_mean() -> None:
    assert squares(np.array([1.0, 3.0])) == 2.0
    assert squares(np.array([])) == 0.0
