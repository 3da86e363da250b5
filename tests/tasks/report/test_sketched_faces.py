"""Real and generated face beside each other where their mouths differ most."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tasks.report.sketched_faces import FACE_PX, LINE_BGR, differing_faces
from tasks.sample.portrait import Pose, load_portrait
from tests.footage import make_talking_clip
from tests.manipulations import write_clip

Picture = npt.NDArray[np.uint8]
OPEN_FRAME = 6


def mouths(to: Path, opened: bool) -> Path:
    """Ten frames of a closed mouth; opened: but one, in which it is wide open."""
    face = load_portrait("astronaut")
    openings = [0.9 if opened and number == OPEN_FRAME else 0.0 for number in range(10)]
    return write_clip(to, (face.posed(Pose(opening=opening)) for opening in openings), np.zeros(16000 * 10 // 25, np.float32))


def line_share(picture: Picture) -> float:
    return float((np.abs(picture.astype(int) - np.array(LINE_BGR)) <= 1).all(axis=2).mean())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """The four faces: real, with its sketch, generated, with its sketch."""
    folder = tmp_path_factory.mktemp("mouths")
    strip = differing_faces(mouths(folder / "real.mp4", opened=False), mouths(folder / "generated.mp4", opened=True), 10.0)
    assert strip is not None
    assert strip.shape == (FACE_PX, 4 * FACE_PX, 3)
    return np.hsplit(strip, 4)


def test_lines_lie_over_the_second_and_fourth_alone(shown: list[Picture]) -> None:
    assert [line_share(picture) > 0.01 for picture in shown] == [False, True, False, True]
    assert np.abs(shown[0].astype(int) - shown[1]).max(axis=2).astype(bool).mean() < 0.2, "under the lines it is the same face"


def test_the_moment_is_the_one_in_which_the_mouths_differ(shown: list[Picture]) -> None:
    real, generated = (cv2.cvtColor(shown[number], cv2.COLOR_BGR2GRAY)[FACE_PX // 2 :] for number in (0, 2))
    assert float(np.abs(real.astype(int) - generated).max()) > 60, "one mouth is dark inside, the other is shut"


def test_without_a_face_there_is_nothing_to_show(tmp_path: Path) -> None:
    nobody = make_talking_clip(tmp_path / "nobody.mp4", 0.2, hidden_frames=range(10))
    assert differing_faces(nobody, nobody, 10.0) is None
