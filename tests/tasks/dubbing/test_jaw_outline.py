from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest

from schemas.errors import SettingsError
from tasks.dubbing.composite import JAW, Contours, Finish, with_predicted_jaws
from tasks.dubbing.jaw_outline import UPPER_OUTLINE, JawPredictor, face_rectangle, load_jaw_predictor
from tests.tasks.dubbing.test_composite import contours

WIDTH, HEIGHT = 100, 120


def drawn_face(jaw_y: float) -> np.ndarray:
    """A bright face on a dark ground with the outline of `contours(jaw_y)`."""
    face = contours(jaw_y)
    outline = np.concatenate([face.pose[:, UPPER_OUTLINE], face.content[:, JAW]], axis=1).T * (WIDTH, HEIGHT)
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    cv2.fillConvexPoly(picture, cv2.convexHull(np.rint(outline).astype(np.int32)), (170, 180, 200))
    return picture


def _training_picture(jaw_y: float, points: int) -> tuple[np.ndarray, dlib.full_object_detection]:
    face = contours(jaw_y)
    jaw = face.content[:, JAW].T * (WIDTH, HEIGHT)
    parts = [dlib.point(round(float(x)), round(float(y))) for x, y in np.resize(jaw, (points, 2))]
    return drawn_face(jaw_y)[:, :, 0], dlib.full_object_detection(face_rectangle(face.pose, WIDTH, HEIGHT), parts)


def _trained(path: Path, points: int) -> str:
    """No published predictor is at hand; this one learns drawn faces in a second or two."""
    options = dlib.shape_predictor_training_options()
    options.num_threads, options.cascade_depth, options.num_trees_per_cascade_level, options.oversampling_amount = 1, 6, 30, 10
    pictures, shapes = zip(*(_training_picture(jaw_y, points) for jaw_y in np.linspace(0.7, 0.95, 12)), strict=True)
    dlib.train_shape_predictor(list(pictures), [[shape] for shape in shapes], options).save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def predictor_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _trained(tmp_path_factory.mktemp("predictor") / "68.dat", points=68)


@pytest.fixture(scope="module")
def predictor(predictor_file: str) -> JawPredictor:
    return load_jaw_predictor(predictor_file)


def test_the_predictor_sees_how_far_down_the_jaw_is(predictor: JawPredictor) -> None:
    known = contours(0.8)
    chins = [predictor.jaw(drawn_face(jaw_y), known.pose, known.content[:, JAW])[1].max() for jaw_y in (0.72, 0.92)]
    assert chins[0] == pytest.approx(0.72, abs=0.05)
    assert chins[1] == pytest.approx(0.92, abs=0.05)


def test_it_takes_over_both_jaws_from_facemesh(predictor: JawPredictor) -> None:
    wrong = contours(0.8)
    small = cv2.resize(drawn_face(0.72), (64, 64), interpolation=cv2.INTER_AREA)  # a generated face is square, whatever its box
    seen = with_predicted_jaws(wrong, drawn_face(0.92), small, predictor)
    assert seen.source_content[1, JAW].max() == pytest.approx(0.92, abs=0.05)
    assert seen.content[1, JAW].max() == pytest.approx(0.72, abs=0.05)
    assert np.array_equal(seen.content[:, JAW.stop :], wrong.content[:, JAW.stop :])
    assert wrong.content[1, JAW].max() == pytest.approx(0.8)


def test_a_predictor_that_lost_the_face_is_not_believed(predictor: JawPredictor) -> None:
    known = contours(0.8)
    elsewhere = known.content[:, JAW] + 0.4
    assert np.array_equal(predictor.jaw(drawn_face(0.8), known.pose, elsewhere), elsewhere)


def test_the_settings_choose_it(predictor_file: str, settings: object) -> None:
    assert Finish.of(settings).jaw is None  # type: ignore[arg-type]
    look = Finish.of(settings.replaced(jaw_predictor=predictor_file, sharpening=0.5, match_colour=False))  # type: ignore[attr-defined]
    assert (type(look.jaw), look.sharpening, look.match_colour) == (JawPredictor, 0.5, False)


def test_what_is_no_predictor_of_68_points_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.dat").write_text("no predictor")
    for name in ("text.dat", "absent.dat"):
        with pytest.raises(SettingsError, match="cannot be read as a shape predictor"):
            load_jaw_predictor(str(tmp_path / name))
    five = _trained(tmp_path / "five.dat", points=5)
    with pytest.raises(SettingsError, match="predicts 5 points"):
        load_jaw_predictor(five)


def test_contours_stay_frozen() -> None:
    face = contours()
    assert isinstance(face, Contours)
    with pytest.raises(AttributeError):
        face.pose = face.pose  # type: ignore[misc]
