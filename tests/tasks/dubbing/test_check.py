"""Checks of footage that the tests make, of what cannot be checked, and of real hard clips."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from schemas.errors import CheckpointError, MediaError, SettingsError
from schemas.jobs import CheckSummary, SourceShown
from schemas.reasons import Reason
from schemas.settings import CropSettings, DubSettings
from tasks.dubbing import check as check_module
from tasks.dubbing.check import check_lines, check_video, limits_of
from tasks.dubbing.cost import processor_s, tflop_of
from tasks.dubbing.dub import open_footage
from tasks.dubbing.findings import Limits
from tasks.media.colour import HLG, ColourTags
from tests.footage import make_speech, make_talking_clip, portrait
from tests.tasks.dubbing.random_networks import write_random_networks
from tests.tasks.media.moving_pictures import steady, write_pictures
from tests.tasks.media.test_colour import write_hdr


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_clip(tmp_path_factory.mktemp("check") / "good clip.mp4", seconds=2.0, size=(512, 512))


def test_good_footage_and_its_cost(good: Path, speech: Path) -> None:
    summary = check_video(str(good), str(speech))
    assert (summary.grade, summary.reasons) == ("good", ())
    assert (summary.duration_s, summary.frames, summary.source_shown_s, summary.source_shown) == (0.48, 12, 0, ())
    assert 120 < summary.face_px < 260
    assert summary.tflop == pytest.approx(12 * (25.3 * 25 + 76) / 1000)
    assert check_video(str(good)).frames == 50  # without a speech: the video's length


def test_the_cost_is_that_of_the_references_and_the_size(good: Path) -> None:
    assert tflop_of(1000, references=25, size=128) == pytest.approx(708.5)
    assert tflop_of(1000, references=5, size=256) == pytest.approx(4 * 202.5)
    few = check_video(str(good), limits=Limits(references=5, crop=CropSettings(size=256)))
    assert few.tflop == pytest.approx(50 * 4 * 0.2025)


def test_the_time_that_it_costs_follows_from_what_this_machine_computes() -> None:
    one, ten = processor_s(1.0), processor_s(10.0)
    assert ten == pytest.approx(10 * one, rel=0.7)
    assert 0.2 < one * len(os.sched_getaffinity(0)) < 200  # a core does 6 GFLOP to 6 TFLOP a second
    assert processor_s(0.0) == 0


def test_a_length_that_ends_in_half_a_frame_is_that_of_the_whole_one(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = check_module.probe
    for length_s, frames in ((2.98, 75), (2.96, 74), (2.994, 75), (None, 0)):  # the first: of 75 frames in an MPEG stream
        monkeypatch.setattr(check_module, "probe", lambda path, length_s=length_s: replace(real(path), duration_s=length_s))
        assert check_video(str(good)).frames == frames


def test_a_dub_at_25_frames_a_second_has_as_many_frames_and_costs_as_much(tmp_path: Path, speech: Path) -> None:
    clip = str(make_talking_clip(tmp_path / "clip.mp4", fps=10, seconds=2.0, size=(512, 512)))
    own, steady = (check_video(clip, str(speech), Limits(fps=fps)) for fps in ("source", "25"))
    assert (own.frames, steady.frames) == (5, 12)
    assert steady.tflop == pytest.approx(12 / 5 * own.tflop)
    assert (own.duration_s, steady.duration_s) == (0.5, 0.48)
    assert "10 frames a second" in own.reasons[0]
    assert steady.grade == "good"
    assert check_video(clip, limits=Limits(fps="25")).frames == 50


def test_interlaced_footage_is_told_to_be_deinterlaced_first(tmp_path: Path) -> None:
    assert any("interlaced" in reason for reason in check_video(str(write_pictures(tmp_path / "v.mp4", steady(25, 25), x264_params="tff=1"))).reasons)


def test_hdr_that_the_dub_would_refuse_is_refused_in_the_same_words(tmp_path: Path, good: Path, settings: DubSettings) -> None:
    path = tmp_path / "hdr.mp4"
    write_hdr(path, cv2.resize(portrait(), (64, 48)) / 255, ColourTags(9, 9, HLG))
    summary = check_video(str(path), limits=Limits(hdr="refuse"))
    with pytest.raises(MediaError) as refused:
        open_footage(path, settings.replaced(hdr="refuse"))
    assert (summary.grade, summary.reasons[0]) == ("no", str(refused.value))
    assert not any("HDR" in reason for reason in check_video(str(path)).reasons)
    assert check_video(str(good), limits=Limits(hdr="refuse")).grade == "good"


def test_a_speech_longer_than_the_video_goes_on_as_the_settings_say(tmp_path: Path, good: Path) -> None:
    make_speech(tmp_path / "long.wav", seconds=3.0)
    assert "with a cut" in check_video(str(good), str(tmp_path / "long.wav"), Limits(loop="cut")).reasons[0]


def test_the_chosen_face_is_checked_and_not_the_largest(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "two.png"), np.hstack([portrait((512, 512)), portrait((512, 512)) // 4]))
    left, right, third = (check_video(str(tmp_path / "two.png"), limits=Limits(face=face)) for face in ("left", "right", "2"))
    assert (left.grade, left.reasons) == ("good", ())
    assert any("dark" in reason for reason in right.reasons)
    assert (third.grade, third.source_shown[0].reason) == ("no", "no-face")
    assert "there is no face 2" in third.reasons[0]


def test_a_picture_of_the_person_must_show_one(tmp_path: Path, good: Path) -> None:
    cv2.imwrite(str(tmp_path / "face.png"), portrait())
    summary = check_video(str(good), limits=Limits(face=str(tmp_path / "face.png")))
    assert (summary.grade, len(summary.reasons)) == ("good", 1)
    assert "face.png shows" in summary.reasons[0]
    with pytest.raises(SettingsError, match=r"nobody\.png is none that can be read"):
        check_video(str(good), limits=Limits(face="nobody.png"))


def test_seconds_without_a_face_are_told_and_not_rendered(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "clip.mp4", seconds=3.0, size=(512, 512), hidden_frames=range(25, 50))
    summary = check_video(str(clip))
    assert summary.grade == "poor"
    assert summary.source_shown_s == pytest.approx(1.0)
    assert [(shown.start_s, shown.end_s, shown.reason) for shown in summary.source_shown] == [(1.0, 2.0, "no-face")]
    assert summary.frames == 50
    assert summary.reasons[0].startswith("33% of the dub would show the source")


def test_the_gravest_reason_comes_first_and_sets_the_grade(tmp_path: Path, good: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000 * 3), 16000)
    summary = check_video(str(good), str(tmp_path / "silent.wav"))
    assert summary.grade == "no"
    assert "No speech is heard" in summary.reasons[0]
    make_speech(tmp_path / "long.wav", seconds=3.0)
    assert check_video(str(good), str(tmp_path / "long.wav")).grade == "fair"


def test_a_still_picture_is_checked(tmp_path: Path, speech: Path) -> None:
    cv2.imwrite(str(tmp_path / "face.png"), portrait((512, 512)))
    summary = check_video(str(tmp_path / "face.png"), str(speech))
    assert (summary.grade, summary.frames) == ("good", 12)
    assert check_video(str(tmp_path / "face.png")).frames == 0
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((256, 256, 3), 90, dtype=np.uint8))
    make_speech(tmp_path / "long.wav", seconds=3.0)
    faceless = check_video(str(tmp_path / "grey.png"), str(tmp_path / "long.wav"))
    assert "found in the picture" in faceless.reasons[0]
    assert [(shown.start_s, shown.end_s) for shown in faceless.source_shown] == [(0, 3)]


def test_a_person_reads_lengths_and_costs_with_their_units() -> None:
    shown = (SourceShown(start_s=1, end_s=2.5, reason="no-face"), SourceShown(start_s=4, end_s=4.5, reason="turned-away"))
    summary = CheckSummary(
        grade="fair", reasons=("One.", "Two."), duration_s=72.04, source_shown_s=2, source_shown=shown, face_px=97.5, frames=1751, tflop=1240.6, render_s=8859
    )
    assert check_lines(summary) == [
        "grade: fair",
        "reason: One.",
        "reason: Two.",
        "face: 98 px",
        "dub: 1 min 12 s, of which 2.0 s would show the source",
        "source shown, by the video's time: 1.0 to 2.5 s (no face is found), 4.0 to 4.5 s (the head is turned away)",
        "cost: 1,751 frames to render, about 2 h 27 min on this machine's processor with networks of the published size in fp32; far less on a GPU",
    ]
    alone = CheckSummary(grade="good", reasons=(), duration_s=0, source_shown_s=0, face_px=200, frames=0, tflop=0)
    assert check_lines(alone.replaced(duration_s=2.0))[-1] == "cost: no frame to render"
    assert check_lines(alone) == ["grade: good", "face: 200 px", "cost: it follows from how long the speech is; give one, too"]


def test_the_crop_is_that_of_the_checkpoints_and_one_of_them_will_do(tmp_path: Path) -> None:
    crop = CropSettings(padding=0.3)
    networks = write_random_networks(tmp_path, crop)
    assert limits_of(DubSettings(landmark_generator="", renderer="")).crop == CropSettings()
    assert limits_of(networks.replaced(renderer="")).crop == crop
    assert limits_of(networks.replaced(landmark_generator="")).crop == CropSettings()
    with pytest.raises(CheckpointError):
        limits_of(networks)


def test_what_cannot_be_checked_is_told_in_one_sentence(tmp_path: Path, good: Path, speech: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    soundfile.write(tmp_path / "blink.wav", np.zeros(100), 16000)
    mute = make_talking_clip(tmp_path / "mute.mp4", seconds=0.2, sound=False)
    for video, sound, reason in [
        (tmp_path / "absent.mp4", speech, Reason.MISSING),
        (tmp_path / "text.mp4", speech, Reason.NOT_MEDIA),
        (speech, speech, Reason.NO_VIDEO),
        (good, tmp_path / "absent.wav", Reason.MISSING),
        (good, mute, Reason.NO_AUDIO),
        (good, tmp_path / "blink.wav", Reason.TOO_SHORT),
    ]:
        with pytest.raises(MediaError) as raised:
            check_video(str(video), str(sound))
        assert raised.value.reason == reason
        assert str(raised.value).count(".\n") == 0
        assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "grades"),
    [
        ("x03_no_face_cartoon.mp4", {"no"}),
        ("x08_vfr_talking.mp4", {"good"}),
        ("x11_tiny_face_talk.mp4", {"poor", "no"}),
        ("x14_15fps.mp4", {"fair"}),
    ],
)
def test_real_hard_clips_get_the_grade_that_a_viewer_would_give(shared: Path, name: str, grades: set[str]) -> None:
    assert check_video(str(shared / "data/hard" / name)).grade in grades


@pytest.mark.soak
def test_no_hard_clip_ends_in_anything_but_a_grade_or_a_sentence(shared: Path) -> None:
    for path in sorted((shared / "data/hard").iterdir()):
        if path.name == "x20_truncated.mp4":
            with pytest.raises(MediaError, match="damaged"):
                check_video(str(path))
        else:
            assert check_video(str(path)).grade in ("good", "fair", "poor", "no")
