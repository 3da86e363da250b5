import cv2
import numpy as np
import pytest

from schemas.settings import CropSettings
from tasks.evaluation.mouth_landmarks import LOST_SHARE, find_mouths, mouth_distance_px, mouths_are_found, with_border
from tasks.faces.crop import crop_face, face_box, relative_points
from tasks.faces.landmarks import FaceMesh


@pytest.fixture(scope="module", params=[128, 256])
def crop(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """A real face's crop, and where its mouth's points lie in it, in pixels."""
    from skimage.data import astronaut

    picture = np.ascontiguousarray(astronaut()[:, :, ::-1])
    with FaceMesh() as mesh:
        points = mesh.find(picture)
    box = face_box(points, picture.shape[:2], CropSettings())
    return crop_face(picture, box, request.param), relative_points(points, box, CropSettings())[-40:] * request.param


def test_the_mouth_of_a_crop_is_found_where_it_is_in_the_picture(crop: tuple[np.ndarray, np.ndarray]) -> None:
    picture, mouth = crop
    nothing = np.full_like(picture, 128)
    found = find_mouths([picture, nothing])
    assert mouths_are_found(found).tolist() == [True, False]
    assert np.linalg.norm(found[0] - mouth, axis=1).mean() < 0.015 * len(picture)


def test_a_mouth_that_is_moved_is_found_so_much_away(crop: tuple[np.ndarray, np.ndarray]) -> None:
    picture, _ = crop
    moved = np.roll(picture, 5, axis=1)
    distance = mouth_distance_px(find_mouths([moved]), find_mouths([picture]), len(picture))
    assert distance == pytest.approx(5, abs=0.015 * len(picture))


def test_a_blurred_face_is_found_thanks_to_the_border(crop: tuple[np.ndarray, np.ndarray]) -> None:
    picture, _ = crop
    blurred = cv2.GaussianBlur(picture, (0, 0), len(picture) / 40)
    assert mouths_are_found(find_mouths([blurred])).all()
    assert with_border(blurred).shape == (max(256, len(picture) * 3 // 2),) * 2 + (3,)


def test_a_lost_mouth_counts_and_one_that_was_never_seen_does_not() -> None:
    real, nowhere = np.zeros((3, 40, 2)), np.full((40, 2), np.nan)
    generated = real + np.array([3, 4])
    assert mouth_distance_px(generated, real, 128) == 5
    generated[1] = nowhere
    assert mouth_distance_px(generated, real, 128) == pytest.approx((5 + 5 + LOST_SHARE * 128) / 3)
    real[1] = nowhere
    assert mouth_distance_px(generated, real, 128) == 5
    assert mouth_distance_px(generated, np.stack([nowhere] * 3), 128) is None
