"""What lowers a grade, for made-up looks and sounds: each fault by itself, said in a sentence."""

import numpy as np
import pytest

from schemas.settings import CropSettings, DubSettings
from tasks.audio import SAMPLE_RATE
from tasks.dubbing.findings import Finding, Limits, Severity, SpeechFacts, footage_findings, source_shown, speech_findings
from tasks.dubbing.looks import Face, Glance
from tests.footage import speech_like_sound

GOOD = {"face_px": 200.0, "yaw_deg": 5.0, "sharpness": 300.0, "brightness": 120.0}
SPOKEN = SpeechFacts(duration_s=8.0, spoken_share=0.8, clipped_share=0.0, over_noise_db=30.0)


def looks(count: int = 20, persons: int = 1, cuts: tuple[int, ...] = (), **measures: float) -> list[Glance]:
    """Two looks a second at a good face, but for the measures given."""
    return [Glance(index / 2, Face(**GOOD | measures), persons, is_cut=index in cuts, seen=persons) for index in range(count)]


def found(seen: list[Glance], limits: Limits | None = None, fps: float = 25.0) -> list[Finding]:
    return list(footage_findings(seen, limits or Limits(), fps, is_picture=False))


def test_nothing_speaks_against_good_footage_and_good_speech() -> None:
    assert found(looks()) == []
    assert list(speech_findings(SPOKEN, video_s=10.0)) == []


@pytest.mark.parametrize(
    ("measures", "severity", "said"),
    [
        ({"face_px": 30.0}, Severity.NO, "100% of the dub would show the source: the face is under 40 px (100%)."),
        ({"face_px": 60.0}, Severity.POOR, "The face is 60 px wide"),
        ({"face_px": 500.0}, Severity.FAIR, "the networks make 128"),
        ({"yaw_deg": 30.0}, Severity.FAIR, "turned by 30°"),
        ({"yaw_deg": 55.0}, Severity.NO, "the head is turned beyond 35° (100%)"),
        ({"sharpness": 45.0}, Severity.FAIR, "blurred"),
        ({"sharpness": 10.0}, Severity.POOR, "blurred"),
        ({"brightness": 20.0}, Severity.POOR, "dark"),
        ({"brightness": 240.0}, Severity.FAIR, "overexposed"),
    ],
)
def test_each_fault_of_a_face_is_said(measures: dict[str, float], severity: Severity, said: str) -> None:
    told = found(looks(**measures))
    assert max(finding.severity for finding in told) == severity
    assert any(said in finding.sentence for finding in told)


def test_a_large_face_suits_networks_of_256_pixels() -> None:
    assert found(looks(face_px=500.0), Limits(crop=CropSettings(size=256))) == []


def test_other_persons_cuts_and_few_frames_a_second_are_said() -> None:
    assert "--face" in found(looks(persons=2))[0].sentence
    assert "about every 2 s" in found(looks(cuts=(4, 8, 12, 15, 18)))[0].sentence
    assert "12 frames a second" in found(looks(), fps=12.0)[0].sentence
    assert list(footage_findings(looks(1), Limits(), 1.0, is_picture=True)) == []


def test_footage_without_a_face_cannot_be_dubbed() -> None:
    told = found([Glance(index / 2, None, 0, is_cut=False, seen=0) for index in range(6)])
    assert [finding.severity for finding in told] == [Severity.NO]


@pytest.mark.parametrize(
    ("face", "said"),
    [
        ("left", []),
        ("1", []),
        ("speaking", ["in 100% of the video; the check looked at the largest face of each picture, and the dub takes the person whose lips move"]),
        ("anna.png", ["the largest face of each picture, and the dub takes the person whom anna.png shows."]),
    ],
)
def test_of_several_faces_it_is_said_which_one_was_looked_at(face: str, said: list[str]) -> None:
    told = found(looks(persons=2), Limits(face=face))
    assert [finding.severity for finding in told] == [Severity.FAIR] * len(said)
    assert all(words in finding.sentence for words, finding in zip(said, told, strict=True))


def test_one_face_is_the_one_who_speaks_and_may_not_be_the_pictured_one() -> None:
    assert found(looks(), Limits(face="speaking")) == []
    (told,) = found(looks(), Limits(face="https://key:secret@host/anna.png"))
    assert told.severity == Severity.GOOD
    assert told.sentence.startswith("The check looked at the largest face")
    assert "anna.png" in told.sentence
    assert "secret" not in told.sentence


@pytest.mark.parametrize(("seen", "most"), [(1, "At most one face is seen"), (2, "At most 2 faces are seen")])
def test_a_place_that_no_picture_has_cannot_be_dubbed(seen: int, most: str) -> None:
    (told,) = found([Glance(0.0, None, 1, is_cut=False, seen=seen)], Limits(face="3"))
    assert told == Finding(Severity.NO, f"{most} at once, so there is no face 3: they are counted from 0, left to right.")


def test_the_dub_fades_out_while_the_head_turns() -> None:
    shares = [Limits().share(Face(**GOOD | {"yaw_deg": yaw_deg})) for yaw_deg in (0.0, 35.0, 42.5, 50.0, 90.0)]
    assert shares == [1, 1, 0.5, 0, 0]
    assert Limits(fade_from_yaw_deg=40, gone_at_yaw_deg=40).share(Face(**GOOD | {"yaw_deg": 41.0})) == 0


def test_the_limits_are_those_of_a_dubs_settings() -> None:
    settings = DubSettings(
        landmark_generator="l", renderer="r", min_face_px=77, gone_at_yaw_deg=60, references=5, fps="25", loop="cut", hdr="refuse", face="left"
    )
    assert Limits.of(settings, CropSettings(size=256)) == Limits(35, 60, 77, 5, "25", "cut", "refuse", "left", crop=CropSettings(size=256))
    assert Limits() == Limits.of(DubSettings(landmark_generator="l", renderer="r"), CropSettings())


def test_stretches_that_show_the_source_are_told_with_their_reason() -> None:
    seen = looks(8)
    seen[2:5] = [Glance(index / 2, None, 0, is_cut=False, seen=0) for index in (2, 3, 4)]
    seen[7:] = [Glance(3.5, Face(**GOOD | {"yaw_deg": 70.0}), 1, is_cut=False, seen=1)]
    told = [(shown.start_s, shown.end_s, shown.reason) for shown in source_shown(seen, Limits(), until_s=3.8)]
    assert told == [(1.0, 2.5, "no-face"), (3.5, 3.8, "turned-away")]


def test_a_stretch_does_not_go_on_where_nothing_was_looked_at() -> None:
    seen = [Glance(time_s, None, 0, is_cut=False, seen=0) for time_s in (0.0, 0.5, 30.0, 30.5)]
    assert [(shown.start_s, shown.end_s) for shown in source_shown(seen, Limits(), until_s=60.0)] == [(0.0, 1.0), (30.0, 31.0)]


@pytest.mark.parametrize(
    ("facts", "severity", "said"),
    [
        ({"spoken_share": 0.0}, Severity.NO, "No speech is heard"),
        ({"clipped_share": 0.02}, Severity.FAIR, "2.0% of the speech is clipped"),
        ({"over_noise_db": 10.0}, Severity.FAIR, "10 dB louder"),
        ({"over_noise_db": 3.0}, Severity.POOR, "3 dB louder"),
        ({"duration_s": 14.0}, Severity.FAIR, "The speech lasts 14 s and the video 10 s"),
        ({"duration_s": 50.0}, Severity.POOR, "forth and back"),
    ],
)
def test_each_fault_of_a_speech_is_said(facts: dict[str, float], severity: Severity, said: str) -> None:
    (told,) = speech_findings(SpeechFacts(**vars(SPOKEN) | facts), video_s=10.0)
    assert told.severity == severity
    assert said in told.sentence


def test_how_a_speech_longer_than_the_video_goes_on_is_as_it_will_be() -> None:
    longer = SpeechFacts(**vars(SPOKEN) | {"duration_s": 14.0})
    (turning,), (jumping,) = (list(speech_findings(longer, 10.0, loop)) for loop in ("forth-and-back", "cut"))
    assert "is played forth and back until the speech ends" in turning.sentence
    assert "begins again, with a cut each time, until the speech ends" in jumping.sentence


def test_a_still_picture_is_never_too_short() -> None:
    assert list(speech_findings(SpeechFacts(**vars(SPOKEN) | {"duration_s": 900.0}), video_s=None)) == []


def test_sounds_are_heard_for_what_they_are() -> None:
    clean = np.concatenate([np.zeros(8000, dtype=np.float32), speech_like_sound(2.0)])
    facts = SpeechFacts.of(clean)
    assert facts.duration_s == 2.5
    assert 0.6 < facts.spoken_share < 0.9
    assert facts.clipped_share == 0
    assert facts.over_noise_db > 60
    noisy = clean + np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32) * 0.05
    assert 5 < SpeechFacts.of(noisy).over_noise_db < 15
    assert SpeechFacts.of(np.clip(clean * 20, -1, 1)).clipped_share > 0.1
    silent = SpeechFacts.of(np.zeros(SAMPLE_RATE, dtype=np.float32))
    assert (silent.spoken_share, silent.over_noise_db) == (0, None)
