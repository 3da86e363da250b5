import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import CheckpointError
from schemas.settings import CropSettings
from tasks.evaluation.identity import FIVE, SIDE, TEMPLATE, FaceEmbedding, align
from tasks.faces.crop import crop_face, face_box, relative_points, split_points


def points_at(five: np.ndarray) -> np.ndarray:
    """(2, 131): all points in the middle but those that alignment looks at."""
    points = np.full((2, 131), 0.5)
    for place, positions in zip(five, FIVE, strict=True):
        points[:, list(positions)] = place[:, None]
    return points


def test_a_turned_and_squeezed_face_is_put_where_the_template_has_it() -> None:
    turn = np.array([[0.8, -0.3], [0.3, 0.8]])
    upright = (TEMPLATE - TEMPLATE.mean(axis=0)) @ turn.T * 2 + (150, 190)  # in a crop of 300 by 400 pixels, shown as a square of 200
    picture = np.zeros((200, 200, 3), dtype=np.uint8)
    relative = upright / (300, 400)
    for x, y in relative * 200:
        cv2.circle(picture, (round(x), round(y)), 4, (255, 255, 255), -1)
    aligned = align(picture, points_at(relative), aspect=400 / 300)
    assert aligned.shape == (SIDE, SIDE, 3)
    for x, y in TEMPLATE:
        assert aligned[round(y), round(x)].min() > 200
    assert align(picture, points_at(relative))[round(TEMPLATE[0, 1]), round(TEMPLATE[0, 0])].max() < 200  # the squeezing not undone


def embedding_of(net: FaceEmbedding, mesh: object, path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    points = mesh.find(picture)
    crop = CropSettings()
    box = face_box(points, picture.shape[:2], crop)
    pose, content = split_points(relative_points(points, box, crop))
    return net(align(crop_face(picture, box, 128), np.concatenate([pose, content], axis=1), box.height / box.width))


def test_one_person_is_told_from_others(shared: Path) -> None:
    from tasks.faces.landmarks import FaceMesh

    net = FaceEmbedding(str(shared / "data" / "weights" / "MobileFaceNet_foamliu.onnx"))
    names = ("i06_one_face.jpg", "i07_one_face_same_id_as_i06.jpg", "i08_one_face_other_id.jpg", "i01_one_face_astronaut.png")
    with FaceMesh() as mesh:
        found = {name[:3]: embedding_of(net, mesh, shared / "data" / "images" / name) for name in names}
    likeness = {(one, other): float(found[one] @ found[other]) for one, other in itertools.combinations(found, 2)}
    assert likeness.pop(("i06", "i07")) > 0.6
    assert max(likeness.values()) < 0.3


def test_what_is_no_face_embedding_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(CheckpointError, match="is no ONNX network"):
        FaceEmbedding(str(tmp_path / "broken.onnx"))
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        FaceEmbedding(str(tmp_path / "none.onnx"))
