"""Sample footage: real faces to the detectors, speech that moves them, the same every time."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from schemas.errors import SettingsError
from schemas.face_points import CONTENT_POSITIONS, LOWER_LIP, UPPER_LIP
from tasks.audio import read_waveform
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames
from tasks.media.probe import probe
from tasks.sample import SampleFootage, Voice, make_sample_footage, make_sample_speech
from tasks.sample.articulation import mouth_motion, shape_of
from tasks.sample.footage import DUBBING_SENTENCES, SENTENCES, talking_pictures
from tasks.sample.portrait import STILLS, Pose, load_portrait
from tasks.sample.speech import join_speech, speak

SECONDS = 1.5
FRAMES = 38


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> SampleFootage:
    return make_sample_footage(tmp_path_factory.mktemp("sample") / "clips", clips=2, seconds=(SECONDS, SECONDS))


@pytest.fixture(scope="module")
def pictures(footage: SampleFootage) -> dict[str, list[np.ndarray]]:
    return {clip.parent.name: [frame.picture for frame in read_frames(clip, 25)] for clip in footage.clips}


def lip_opening(points: np.ndarray) -> float:
    content = points[list(CONTENT_POSITIONS)]
    return float(np.linalg.norm(content[UPPER_LIP] - content[LOWER_LIP]))


def loudness_by_frame(clip: Path, frames: int) -> np.ndarray:
    waveform = read_waveform(clip)
    return np.array([np.sqrt(np.mean(waveform[max(0, (2 * frame - 1) * 320) : (2 * frame + 1) * 320] ** 2)) for frame in range(frames)])


def test_layout_and_coding(footage: SampleFootage) -> None:
    assert [clip.relative_to(footage.folder).as_posix() for clip in footage.clips] == ["astronaut/01.mp4", "admiral/01.mp4"]
    for clip in footage.clips:
        info = probe(clip)
        assert (info.video_codec, info.audio_codec, info.fps) == ("h264", "aac", 25)
        assert info.duration_s == pytest.approx(SECONDS, abs=0.06)
        assert min(info.width, info.height) >= 384
        assert max(info.width, info.height) <= 512
    with footage.speakers_csv.open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"source": "astronaut/01.mp4", "speaker": "astronaut"}, {"source": "admiral/01.mp4", "speaker": "admiral"}]
    assert sorted(path.suffix for path in footage.folder.rglob("*") if path.is_file()) == [".mp4", ".mp4"]


def test_dubbing_speech_is_said_in_no_clip(footage: SampleFootage) -> None:
    samples, rate = soundfile.read(footage.speech)
    assert 3 < len(samples) / rate < 10
    assert np.sqrt(np.mean(samples**2)) > 0.02
    assert not {*DUBBING_SENTENCES.values()} & {sentence for sentences in SENTENCES.values() for sentence in sentences}


@pytest.mark.parametrize("speaker", list(STILLS))
def test_mouth_opens_when_it_is_loud(footage: SampleFootage, pictures: dict[str, list[np.ndarray]], speaker: str) -> None:
    with FaceMesh() as mesh:
        found = [mesh.find(picture) for picture in pictures[speaker]]
    openings = np.array([lip_opening(points) for points in found if points is not None])
    assert len(openings) == FRAMES
    assert openings.max() - openings.min() > 10, "pixels"
    clip = footage.folder / speaker / "01.mp4"
    assert np.corrcoef(openings, loudness_by_frame(clip, FRAMES))[0, 1] > 0.3


@pytest.mark.parametrize("speaker", list(STILLS))
def test_dlib_finds_one_face_in_every_frame(pictures: dict[str, list[np.ndarray]], speaker: str) -> None:
    import dlib

    detector = dlib.get_frontal_face_detector()
    assert {len(detector(np.ascontiguousarray(picture[..., ::-1]))) for picture in pictures[speaker]} == {1}


def test_pictures_and_sound_are_the_same_every_time() -> None:
    once, again = (speak("Open the window, Bob.", "en", Voice("Annie")) for _ in range(2))
    speak("今天天气很好。", "cmn", Voice("grandma"))
    after_another = speak("Open the window, Bob.", "en", Voice("Annie"))
    assert once.phonemes == again.phonemes
    assert np.array_equal(once.samples, again.samples)
    assert np.array_equal(once.samples, after_another.samples)
    first, second = (list(talking_pictures("astronaut", once, 3, seed=(5,))) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, list(talking_pictures("astronaut", once, 3, seed=(6,))))


@pytest.mark.parametrize("speaker", list(STILLS))
def test_only_mouth_and_jaw_move_when_the_head_is_still(speaker: str) -> None:
    portrait = load_portrait(speaker)
    closed, wide = (portrait.posed(Pose(opening=opening)).astype(int) for opening in (0.0, 1.0))
    nose = int(portrait.points[:, 1].min() * 0.5 + portrait.points[:, 1].max() * 0.5)
    assert np.array_equal(closed[: nose - 20], wide[: nose - 20])
    assert np.abs(closed - wide).max() > 60


def test_lips_meet_in_bilabials_and_part_in_open_vowels() -> None:
    speech = speak("Papa, mama, papa, mama.", "en", Voice("Annie"))
    motion = mouth_motion(speech, 25, int(speech.duration_s * 25))
    assert motion.opening.max() > 0.6
    assert (motion.opening < 0.1).sum() >= 8
    assert shape_of("p")[:2] == (0.0, 0.0)
    assert shape_of("aU")[0] > shape_of("aU")[1]
    assert shape_of("u:")[2] > 0 > shape_of("i:")[2]
    assert shape_of("?")[0] > 0


def test_joined_speech_lasts_exactly_as_asked() -> None:
    piece = speak("A small boat.", "en", Voice("Annie"))
    joined = join_speech([piece, piece], pause_s=0.2, duration_s=1.5)
    assert len(joined.samples) == round(1.5 * joined.sample_rate)
    assert not joined.samples[: int(0.2 * joined.sample_rate)].any()
    assert abs(joined.samples[-1]) < 0.01
    assert joined.phonemes[0].start_s == pytest.approx(0.2 + piece.phonemes[0].start_s)


def test_speech_in_chinese(tmp_path: Path) -> None:
    path = make_sample_speech(tmp_path / "speech.wav", "你好，世界。", "cmn")
    assert soundfile.info(path).duration > 0.8


@pytest.mark.parametrize(("language", "voice", "complaint"), [("klingon-of-nowhere", Voice("Annie"), "no voice"), ("en", Voice("nobody-at-all"), "no voice")])
def test_unknown_voices_are_one_sentence(tmp_path: Path, language: str, voice: Voice, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        make_sample_speech(tmp_path / "speech.wav", "Hello.", language, voice)
    assert not list(tmp_path.iterdir())


def test_language_without_sentences_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sample sentences in en and cmn only"):
        make_sample_footage(tmp_path / "clips", languages=("fr",))
