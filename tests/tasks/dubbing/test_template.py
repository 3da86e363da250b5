from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import MediaError
from schemas.reasons import Reason
from schemas.settings import CropSettings
from tasks.dubbing.template import Candidate, Candidates, TemplateMemory, analyse, choose_references, footage_of
from tasks.dubbing.timeline import played_frames
from tasks.media.decode import read_frames
from tasks.media.probe import probe
from tests.footage import make_talking_clip


def candidate(opening: float) -> Candidate:
    return Candidate(np.full((2, 74), opening, np.float32), np.full((2, 57), 0.5, np.float32), opening, (100, 80), np.full((16, 16, 3), 1, np.uint8))


def test_references_are_even_steps_of_the_lip_openings() -> None:
    shuffled = np.random.default_rng(0).permutation(100)
    references = choose_references([candidate(float(opening)) for opening in shuffled], landmarks=5, pictures=4, size=16)
    assert references.pose[:, 0, 0].tolist() == [0, 24, 49, 74, 99]
    assert references.faces.shape == references.sketches.shape == (4, 16, 16, 3)


def test_one_frame_serves_as_every_landmark_reference_and_as_one_picture() -> None:
    references = choose_references([candidate(0.1)], landmarks=15, pictures=25, size=16)
    assert len(references.pose) == len(references.content) == 15
    assert len(references.faces) == 1


def test_candidates_stay_few_and_evenly_spread() -> None:
    candidates = Candidates(most=10)
    for index in range(1000):
        candidates.offer(lambda index=index: candidate(float(index)))
    kept = [one.lip_opening for one in candidates.kept]
    assert 5 <= len(kept) <= 10
    assert len(set(np.diff(kept))) == 1
    assert kept[-1] > 800


@pytest.mark.parametrize(("source", "frames"), [(25, 60), (7, 20), (2, 5), (1, 3)])
def test_pictures_are_played_in_the_order_of_the_timeline(clip: Path, source: int, frames: int) -> None:
    pictures = [frame.picture for frame in read_frames(clip, 25)]
    footage = footage_of(clip, probe(clip), "source")
    played = list(footage.played(source, frames))
    assert len(played) == frames
    for shown, index in zip(played, played_frames(frames, source), strict=True):
        assert np.array_equal(shown, pictures[index])


def test_a_video_is_followed_and_its_gap_has_no_face(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "gap.mp4", seconds=1.2, hidden_frames=range(10, 20))
    template = analyse(footage_of(clip, probe(clip), "source"), 1000, CropSettings(), 5, 3)
    assert template.frames == 30
    assert template.tracks.tolist() == [0] * 10 + [-1] * 10 + [1] * 10
    assert np.isnan(template.pose[10:20]).all()
    assert template.pose[:10].min() > 0
    assert template.pose[:10].max() < 1
    assert template.references.faces.shape == (3, 128, 128, 3)


def test_without_a_face_there_is_no_template(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "none.mp4", seconds=0.2, hidden_frames=range(100))
    with pytest.raises(MediaError, match="No face") as error:
        analyse(footage_of(clip, probe(clip), "source"), 1000, CropSettings(), 5, 3)
    assert error.value.reason is Reason.NO_FACE


def test_the_rate_is_the_sources_or_25(tmp_path: Path) -> None:
    clip = make_talking_clip(tmp_path / "ntsc.mp4", seconds=0.2, fps=Fraction(24000, 1001))
    assert footage_of(clip, probe(clip), "source").fps == Fraction(24000, 1001)
    assert footage_of(clip, probe(clip), "25").fps == 25


def test_memory_serves_the_same_video_and_no_other(clip: Path) -> None:
    template = analyse(footage_of(clip, probe(clip), "source"), 1000, CropSettings(), 5, 3)
    memory = TemplateMemory()
    made = []

    def make() -> object:
        made.append(1)
        return template

    for key, frames in (("a", 1000), ("a", 1000), ("a", 2000), ("b", 1000), ("b", 10), ("b", 10)):
        assert memory.get(key, frames, make) is template  # type: ignore[arg-type]
    assert len(made) == 3  # a; b; b over fewer frames than the video has
