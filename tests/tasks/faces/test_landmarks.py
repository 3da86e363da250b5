import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from tasks.faces.landmarks import FaceMesh

GOLDEN = np.array(json.loads((Path(__file__).parent / "astronaut_points.json").read_text()))
FACE_PX = 91


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh() as face_mesh:
        yield face_mesh


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:, :, ::-1])


def test_the_astronauts_points_are_where_they_always_were(mesh, astronaut):
    points = mesh.find(astronaut)
    assert points.shape == (131, 2)
    assert points.dtype == np.float64
    assert np.abs(points - GOLDEN).max() < 1.0


def test_each_picture_is_read_by_itself(mesh, astronaut):
    alone = mesh.find(astronaut)
    mesh.find(np.roll(astronaut, 60, axis=1))
    np.testing.assert_array_equal(mesh.find(astronaut), alone)


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (333, 501), (1920, 1080), (2161, 3841)])
def test_points_are_in_pixels_of_pictures_of_any_shape(mesh, astronaut, height, width):
    head = astronaut[:320, 64:384]
    side = min(height, width)
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[:side, :side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    points = mesh.find(picture)
    in_head = points * 320 / side + (64, 0)
    assert np.abs(in_head - GOLDEN).max() < 0.03 * FACE_PX


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 400), (513, 3), (16, 16), (720, 1280)])
def test_a_picture_without_a_face_has_no_points(mesh, size):
    assert mesh.find(np.full((*size, 3), 90, dtype=np.uint8)) is None


def test_a_view_that_is_not_contiguous_is_read_as_it_looks(mesh, astronaut):
    np.testing.assert_array_equal(mesh.find(astronaut[:, ::-1][:, ::-1]), mesh.find(astronaut))


def test_a_face_mostly_outside_the_picture_is_none(mesh, astronaut, monkeypatch):
    points = mesh.find(astronaut)
    middle = int(np.median(points[:, 0]))
    assert mesh.find(astronaut[:, middle + 25 :]) is None
    monkeypatch.setattr("tasks.faces.landmarks.VISIBLE_SHARE", 1.1)  # nothing is visible enough
    assert mesh.find(astronaut) is None


def test_a_closed_mesh_says_so(astronaut):
    mesh = FaceMesh()
    with mesh:
        assert mesh.find(astronaut) is not None
    mesh.close()
    with pytest.raises(ValueError, match="closed"):
        mesh.find(astronaut)


def test_nothing_of_its_start_is_said_and_everything_else_is():
    code = """
import os, sys, numpy, skimage.data
from tasks.faces.landmarks import FaceMesh
from tasks.faces.quiet import filtered_stderr
from tasks.faces import landmarks
picture = numpy.ascontiguousarray(skimage.data.astronaut()[:, :320, ::-1])
for _ in range(3):
    with FaceMesh() as mesh:
        assert mesh.find(picture) is not None
with filtered_stderr(landmarks.START_UP_NOISE):
    os.write(2, b"W0000 00:00:1.5 12 some_calculator.cc:186] noise\\n")
    print("from Python", file=sys.stderr)
    os.write(2, b"from elsewhere\\n")
print("after", file=sys.stderr)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "MPLBACKEND": "Agg"})
    lines = [line for line in answer.stderr.splitlines() if "font cache" not in line]  # matplotlib, on a machine's first import
    assert lines == ["from Python", "from elsewhere", "after"]


@pytest.mark.soak
def test_closing_frees_the_networks(astronaut):
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    sizes = []
    for _ in range(300):
        with FaceMesh() as mesh:
            mesh.find(astronaut)
        sizes.append(resident_mb())
    assert sizes[-1] - sizes[50] < 30  # one holds about 30 MB: 250 of them would hold thousands
