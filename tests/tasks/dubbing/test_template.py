from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import MediaError, SettingsError
from schemas.reasons import Reason
from schemas.settings import CropSettings, DubSettings
from tasks.dubbing.footage import footage_of
from tasks.dubbing.template import Template, TemplateMemory, analyse
from tasks.media.probe import probe
from tests.footage import make_talking_clip
from tests.tasks.dubbing.edited_footage import admiral, astronaut, write_footage

SETTINGS = DubSettings(landmark_generator="none", renderer="none", landmark_references=5, references=3)
ASTRONAUT, BOTH, ADMIRAL = range(12), range(12, 24), range(24, 36)
"""Frames of the shots of `edited`."""


def analysed(path: Path, crop: CropSettings | None = None, **settings: object) -> Template:
    return analyse(footage_of(path, probe(path), "source"), 1000, crop or CropSettings(), SETTINGS.replaced(**settings))


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 frames of two faces in three shots: the astronaut, the admiral on the left and the astronaut, the admiral. The astronaut's is larger."""
    aside = np.zeros((256, 128, 3), dtype=np.uint8)
    alone = [np.hstack([aside, astronaut(index), aside]) for index in ASTRONAUT]
    both = [np.hstack([admiral(index), astronaut(index)]) for index in BOTH]
    last = [np.hstack([aside + 200, admiral(index), aside + 200]) for index in ADMIRAL]
    return write_footage(tmp_path_factory.mktemp("edited") / "edited.mp4", [*alone, *both, *last])


def middles(template: Template, frames: range) -> np.ndarray:
    """Where the dubbed face is, from left to right, in pixels; NaN where there is none."""
    boxes = template.boxes[frames]
    return np.where(template.tracks[frames] >= 0, (boxes[:, 0] + boxes[:, 2]) / 2, np.nan)


def test_shots_are_found_and_no_track_runs_across_a_cut(edited: Path) -> None:
    template = analysed(edited)
    assert template.shots.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    for shot in range(2):
        assert not set(template.tracks[template.shots == shot]) & set(template.tracks[template.shots > shot]) - {-1}


def test_the_largest_person_is_followed_through_the_shots_and_nobody_else_is_dubbed(edited: Path) -> None:
    template = analysed(edited)
    assert middles(template, ASTRONAUT) == pytest.approx(np.full(12, 256), abs=40)
    assert middles(template, BOTH) == pytest.approx(np.full(12, 384), abs=40)
    assert np.isnan(middles(template, ADMIRAL)).all()


@pytest.mark.parametrize("face", ["left", "0"])
def test_who_is_left_where_both_are_seen_is_followed_through_the_shots(edited: Path, face: str) -> None:
    template = analysed(edited, face=face)
    assert np.isnan(middles(template, ASTRONAUT)).all()
    assert middles(template, BOTH) == pytest.approx(np.full(12, 128), abs=40)
    assert middles(template, ADMIRAL) == pytest.approx(np.full(12, 256), abs=40)


def test_right_is_the_other_one_and_a_third_is_not_there(edited: Path) -> None:
    assert middles(analysed(edited, face="right"), BOTH) == pytest.approx(np.full(12, 384), abs=40)
    with pytest.raises(MediaError, match=r"At most 2 faces are seen at once in edited.mp4") as error:
        analysed(edited, face="2")
    assert error.value.reason is Reason.NO_FACE


def test_the_person_of_a_picture_is_taken(edited: Path, tmp_path: Path) -> None:
    picture = tmp_path / "admiral.png"
    cv2.imwrite(str(picture), cv2.resize(admiral(0), (200, 200)))
    assert np.isnan(middles(analysed(edited, face=str(picture)), ASTRONAUT)).all()
    assert not np.isnan(middles(analysed(edited, face=str(picture)), ADMIRAL)).any()


def test_a_face_that_means_nothing_is_told(edited: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be largest, speaking"):
        analysed(edited, face="the tall one")
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(SettingsError, match=r"no face in .*wall.png"):
        analysed(edited, face=str(tmp_path / "wall.png"))


def test_the_speaking_one_is_whose_lips_go_with_the_videos_sound(tmp_path: Path) -> None:
    """The admiral is the larger one; the astronaut is heard."""
    pictures = [np.hstack([cv2.resize(admiral(index), (384, 384)), cv2.copyMakeBorder(astronaut(index), 64, 64, 0, 0, 1)]) for index in range(35)]
    heard = write_footage(tmp_path / "heard.mp4", pictures)
    assert np.nanmean(middles(analysed(heard, face="speaking"), range(35))) > 384
    assert np.nanmean(middles(analysed(heard), range(35))) < 384
    silent = write_footage(tmp_path / "silent.mp4", pictures, sound=False)
    assert np.nanmean(middles(analysed(silent, face="speaking"), range(35))) < 384


def test_a_video_is_followed_and_its_gap_has_no_face(tmp_path: Path) -> None:
    template = analysed(make_talking_clip(tmp_path / "gap.mp4", seconds=1.2, hidden_frames=range(10, 20)))
    assert template.frames == 30
    assert template.tracks.tolist() == [0] * 10 + [-1] * 10 + [1] * 10
    gap = slice(10, 20)
    assert np.isnan(template.pose[gap]).all()
    assert np.isnan(template.yaw_deg[gap]).all()
    assert not template.detected[gap].any()
    assert (template.face_px[gap] == 0).all()
    assert template.pose[:10].min() > 0
    assert template.pose[:10].max() < 1
    assert np.abs(template.yaw_deg[:10]).max() < 40
    assert template.face_px[:10].min() > 80
    assert template.visibility.tolist() == [1.0] * 30
    assert template.references.faces.shape == (3, 128, 128, 3)


def test_a_short_gap_is_bridged(tmp_path: Path) -> None:
    """Not a cut: a board hides the head for three frames of a picture that stays else as it is."""
    pictures = [cv2.copyMakeBorder(astronaut(index), 0, 0, 256, 256, cv2.BORDER_CONSTANT, value=(90, 90, 90)) for index in range(20)]
    for hidden in pictures[8:11]:
        hidden[:, 280:490] = 90
    template = analysed(write_footage(tmp_path / "short.mp4", pictures))
    assert (template.tracks == 0).all()
    assert template.detected.tolist() == [True] * 8 + [False] * 3 + [True] * 9
    assert not np.isnan(template.pose).any()


def test_a_sheet_before_the_mouth_is_told(tmp_path: Path) -> None:
    pictures = [astronaut(index) for index in range(24)]
    for covered in pictures[12:16]:
        covered[160:240, 100:190] = (60, 160, 60)
    template = analysed(write_footage(tmp_path / "sheet.mp4", pictures))
    assert template.visibility[:12].min() > 0.9
    assert template.visibility[12:16].max() < 0.1
    assert template.visibility[16:].min() > 0.9


@pytest.mark.parametrize("padding", [0.08, "iplap-dub", "iplap-train"])
def test_boxes_and_landmarks_come_out_calmer_and_lie_where_they_were(clip: Path, padding: float | str) -> None:
    crop = CropSettings(padding=padding)
    raw, calm = analysed(clip, crop, smoothing="none"), analysed(clip, crop)

    def jitter(template: Template) -> float:
        """Mean second difference of the pose in source pixels: what neither place nor speed explains."""
        corner = template.boxes[:, None, :2]
        points = np.swapaxes(template.pose, 1, 2) * (template.boxes[:, None, 2:] - corner) + corner
        return float(np.abs(np.diff(points, n=2, axis=0)).mean())

    assert jitter(calm) < 0.5 * jitter(raw)
    assert np.abs(np.diff(calm.boxes, n=2, axis=0)).mean() <= np.abs(np.diff(raw.boxes, n=2, axis=0)).mean()
    assert np.abs(calm.boxes - raw.boxes).max() <= 3
    assert padding == "iplap-train" or (calm.boxes == calm.boxes.round()).all()
    assert np.abs(calm.pose - raw.pose).max() < 0.03


def test_without_a_face_there_is_no_template(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "none.mp4", seconds=0.2, hidden_frames=range(100))
    with pytest.raises(MediaError, match="No face") as error:
        analysed(clip)
    assert error.value.reason is Reason.NO_FACE


def test_long_videos_are_mapped_and_say_the_same(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = analysed(clip)
    monkeypatch.setattr("tasks.dubbing.frame_arrays.HELD_BYTES", 0)
    mapped = analysed(clip)
    assert isinstance(mapped.pose.base, np.memmap)
    np.testing.assert_array_equal(mapped.pose, held.pose)
    np.testing.assert_array_equal(mapped.content, held.content)


def test_the_rate_is_the_sources_or_25(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "ntsc.mp4", seconds=0.2, fps=Fraction(24000, 1001))
    assert footage_of(clip, probe(clip), "source").fps == Fraction(24000, 1001)
    assert footage_of(clip, probe(clip), "25").fps == 25


@pytest.mark.parametrize(
    ("video_frames", "asked_for", "looked_at"),
    [
        (20, (60, 60, 100, 18, 90), [60]),  # it ended: that is the whole video
        (90, (60, 60, 59, 40), [60]),  # of a longer video the fewer frames are the first of those
        (90, (40, 60, 50), [40, 60]),
        (60, (60, 61, 61), [60, 61]),  # as long as was asked for: nobody knows whether it goes on
    ],
)
def test_memory_serves_all_dubs_for_which_enough_was_looked_at(video_frames: int, asked_for: tuple[int, ...], looked_at: list[int], clip: Path) -> None:
    whole = analysed(clip)
    memory, made = TemplateMemory(), []
    for frames in asked_for:

        def make(frames: int = frames) -> Template:
            made.append(frames)
            return replace(whole, tracks=np.zeros(min(frames, video_frames), np.int32))

        assert memory.get("video", frames, make).frames >= min(frames, video_frames)
    assert made == looked_at


def test_memory_serves_the_same_video_and_no_other(clip: Path) -> None:
    memory, one, other = TemplateMemory(), analysed(clip), analysed(clip, smoothing="none")
    assert [memory.get(key, 1000, lambda made=made: made) for key, made in (("a", one), ("b", other), ("b", one))] == [one, other, other]


def test_a_still_picture_is_one_shot_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), astronaut(0))
    template = analysed(path)
    assert (template.frames, template.shots.tolist(), template.tracks.tolist()) == (1, [0], [0])
