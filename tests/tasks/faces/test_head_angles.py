"""Angles of a made-up head (MediaPipe's canonical one, turned and drawn) and of a real one."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.face_points import ORDER
from tasks.faces.head_angles import CANONICAL_POINTS_CM, head_angles

PX_A_CM = 14.0
ASTRONAUT = Path(__file__).with_name("astronaut_points.json")


def turned_head(yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0, distance_cm: float = 1e6) -> np.ndarray:
    """Landmarks (1, 131, 2) of the canonical head, leant, raised, then turned, seen from so far away; points that no angle is read from lie in the middle."""
    yaw, pitch, roll = np.deg2rad([yaw_deg, pitch_deg, roll_deg])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    head = np.array(list(CANONICAL_POINTS_CM.values())) @ (about_y @ about_x @ about_z).T
    seen = head[:, :2] * distance_cm / (distance_cm - head[:, 2:])
    points = np.full((1, len(ORDER), 2), 300.0)
    points[0, [ORDER.index(index) for index in CANONICAL_POINTS_CM]] = (300, 200) + PX_A_CM * seen * (1, -1)
    return points


@given(st.floats(-60, 60), st.floats(-40, 40), st.floats(-45, 45))
def test_the_angles_of_a_head_far_away_are_found_however_it_leans(yaw_deg: float, pitch_deg: float, roll_deg: float) -> None:
    assert head_angles(turned_head(yaw_deg, pitch_deg, roll_deg))[0] == pytest.approx([yaw_deg, pitch_deg], abs=0.01)


def test_a_picture_of_oblong_pixels_keeps_the_angles() -> None:
    assert head_angles(turned_head(-35, 10, roll_deg=30) * (0.7, 1.0))[0] == pytest.approx([-35, 10], abs=0.01)


@pytest.mark.parametrize(("yaw_deg", "pitch_deg"), [(0, 0), (40, 0), (-40, 0), (0, 20), (20, -15)])
def test_a_camera_at_half_a_metre_costs_a_few_degrees(yaw_deg: float, pitch_deg: float) -> None:
    assert head_angles(turned_head(yaw_deg, pitch_deg, distance_cm=50))[0] == pytest.approx([yaw_deg, pitch_deg], abs=5)


def test_points_on_each_other_have_no_angle() -> None:
    assert head_angles(np.zeros((2, 131, 2))).tolist() == [[0, 0], [0, 0]]


def test_a_real_face_from_the_front() -> None:
    points = np.array(json.loads(ASTRONAUT.read_text()))
    assert np.abs(head_angles(points[None])[0]).max() < 10


@pytest.mark.parametrize(("name", "yaw_deg"), [("hard/x17_three_quarter_noisy.mp4", 25), ("corpus/c01_woman_darkstudio_portrait_25fps.mp4", -20)])
def test_signs_on_real_footage(shared: Path, name: str, yaw_deg: float) -> None:
    """The man of x17 looks to the right of the picture, which is his left; the woman of c01 to the left of it."""
    from tasks.faces.landmarks import FaceMesh
    from tasks.media.decode import read_frames

    frame = next(read_frames(shared / "data" / name, 25, 10))
    with FaceMesh() as mesh:
        points = mesh.find(frame.picture)
    assert points is not None
    assert head_angles(points[None])[0, 0] == pytest.approx(yaw_deg, abs=8)
