import cv2
import numpy as np
import pytest

from tasks.dubbing.composite import JAW, UPPER_OUTLINE, Contours, Edges, Finish, enlarged, new_face, seam_mask, sharpened
from tasks.faces.crop import Box

BOX = Box(60, 40, 160, 160)
PLAIN = Finish(match_colour=False)


WHOLE = Edges()
MATCHED = Finish()


def paste_face(picture: np.ndarray, generated: np.ndarray, box: Box, outlines: Contours, look: Finish = MATCHED, share: float = 1.0) -> np.ndarray:
    return new_face(picture, generated, box, outlines, look).pasted(picture, share)


def blend_mask(outlines: Contours, width: int, height: int, edges: Edges = WHOLE) -> np.ndarray:
    return enlarged(seam_mask(outlines, edges), width, height)


def contours(jaw_y: float = 0.9) -> Contours:
    """A face as wide as 0.1..0.9 of its box whose chin is at `jaw_y`."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.4 * np.cos(angle), 0.5 + (jaw_y - 0.5) * np.sin(angle)])
    content = np.concatenate([jaw, np.full((2, 40), 0.6)], axis=1).astype(np.float32)
    pose = np.full((2, 74), 0.5, np.float32)
    pose[:, :8] = [[0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9], [0.2, 0.3, 0.4, 0.5, 0.5, 0.4, 0.3, 0.2]]
    return Contours(pose, content, content)


def test_only_the_face_below_the_eyes_changes() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 220, 3), dtype=np.uint8)
    before = picture.copy()
    pasted = paste_face(picture, np.full((128, 128, 3), 200, np.uint8), BOX, contours(), PLAIN)
    assert np.array_equal(picture, before)
    outside = np.ones(picture.shape[:2], bool)
    outside[40:160, 60:160] = False
    assert np.array_equal(pasted[outside], picture[outside])
    assert np.array_equal(pasted[40:84, 60:160], picture[40:84, 60:160])  # eyes and brows
    assert (pasted[115:130, 100:120] == 200).all()  # mouth


def test_the_mask_is_soft_and_nothing_at_the_edge_of_the_box() -> None:
    mask = blend_mask(contours(jaw_y=1.0), 300, 360)
    assert mask.min() >= 0
    assert mask.max() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(mask, axis=0)).max() < 0.12
    assert mask[:, 0].max() < 0.01
    assert mask[0].max() == 0


def between(source_y: float, new_y: float) -> Contours:
    """A face whose jaw is at one height in the source and at another one in the dub."""
    source, new = contours(source_y), contours(new_y)
    return Contours(source.pose, source.content, new.content)


@pytest.mark.parametrize(("source_y", "new_y"), [(0.86, 0.76), (0.76, 0.86), (0.86, 0.8)])
def test_where_the_jaws_differ_both_lines_are_hidden_wholly(source_y: float, new_y: float) -> None:
    mask = blend_mask(between(source_y, new_y), 200, 200)
    assert mask[round(200 * 0.86), 80:120].min() > 0.97
    assert mask[round(200 * 0.97), 100] < 0.03


def test_no_double_chin_under_a_closed_mouth() -> None:
    jaw_y, new_y = 0.86, 0.76
    picture = np.full((200, 220, 3), 100, np.uint8)
    cv2.line(picture, (60, 40 + round(120 * jaw_y)), (160, 40 + round(120 * jaw_y)), (0, 0, 0), 2)  # the source's chin
    generated = np.full((128, 128, 3), 100, np.uint8)
    cv2.line(generated, (0, round(128 * new_y)), (127, round(128 * new_y)), (0, 0, 0), 2)
    column = paste_face(picture, generated, BOX, between(jaw_y, new_y))[40:160, 110, 0]
    dark = np.flatnonzero(column < 70) / 120
    assert dark.min() > new_y - 0.03
    assert dark.max() < new_y + 0.03


def test_a_small_difference_moves_the_mask_little() -> None:
    jitter = blend_mask(between(0.8, 0.803), 200, 200) - blend_mask(contours(0.8), 200, 200)
    assert np.abs(jitter).max() < 0.2


def test_a_jaw_at_the_bottom_of_the_box_ends_softly() -> None:
    mask = blend_mask(between(1.08, 0.9), 200, 200)
    assert mask[-1].max() < 0.05
    assert np.abs(np.diff(mask[150:], axis=0)).max() < 0.15
    assert mask[180, 100] > 0.97


def test_at_the_pictures_own_edge_nothing_of_the_source_is_left() -> None:
    mask = blend_mask(between(1.08, 0.9), 200, 200, Edges(bottom=True))
    assert mask[-1, 100] > 0.97
    picture, generated = np.zeros((160, 220, 3), np.uint8), np.full((128, 128, 3), 100, np.uint8)
    assert paste_face(picture, generated, BOX, between(1.08, 0.9), PLAIN)[-1, 110].tolist() == [100, 100, 100]


def test_a_share_fades_between_source_and_dub() -> None:
    picture, generated = np.full((200, 220, 3), 50, np.uint8), np.full((128, 128, 3), 150, np.uint8)
    mouths = [int(paste_face(picture, generated, BOX, contours(), PLAIN, share)[122, 110, 0]) for share in (0.0, 0.25, 0.5, 1.0)]
    assert mouths == [50, 75, 100, 150]


def test_colours_are_matched_unless_the_look_says_otherwise() -> None:
    picture, generated = np.full((200, 220, 3), (90, 120, 170), np.uint8), np.full((128, 128, 3), (110, 120, 155), np.uint8)
    mouths = [paste_face(picture, generated, BOX, contours(), look)[122, 110].astype(int) for look in (Finish(), PLAIN)]
    assert np.abs(mouths[0] - (90, 120, 170)).max() <= 2
    assert mouths[1].tolist() == [110, 120, 155]


def test_sharpening_is_linear_in_its_strength_and_one_is_the_kernel() -> None:
    face = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    kernel = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
    wholly = cv2.filter2D(face.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    assert np.array_equal(sharpened(face, 0), face)
    assert np.allclose(sharpened(face, 1), wholly)
    assert np.allclose(sharpened(face, 0.5), (face + wholly) / 2)


def test_sharpened_pictures_do_not_wrap_around() -> None:
    picture = np.full((200, 220, 3), 250, np.uint8)
    generated = np.full((128, 128, 3), 255, np.uint8)
    generated[::8] = 0
    pasted = paste_face(picture, generated, BOX, contours(), Finish(match_colour=False, sharpening=2))
    assert pasted[115:130, 100:120].max() == 255
    assert pasted[115:130, 100:120].min() == 0


def test_a_face_smaller_than_the_generated_picture_is_pasted_too() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    pasted = paste_face(picture, np.full((128, 128, 3), 100, np.uint8), Box(20, 20, 44, 50), contours(), PLAIN)
    assert pasted[40, 32].tolist() == [100, 100, 100]


def test_what_is_around_the_face_stays_the_sources_own() -> None:
    face = contours(0.8)
    mask = blend_mask(face, 200, 200)
    inside = np.zeros((200, 200), np.uint8)
    outline = np.concatenate([face.pose[:, UPPER_OUTLINE], face.content[:, JAW]], axis=1).T * 200
    cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(outline).astype(np.int32)), 1)
    assert mask[inside == 0].max() < 0.35
    assert mask[cv2.dilate(inside, np.ones((17, 17), np.uint8)) == 0].max() < 0.05
