"""A clip's rows: every column of the tables, each measure of what it says."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas.jobs import PlannedSource
from schemas.reasons import Reason
from schemas.settings import CropSettings
from schemas.tables import CLIPS
from tasks.corpus.clip import Clip, Reject
from tasks.corpus.faces import CutFrame, encode_picture
from tasks.corpus.measure import LIPS, clip_row, reject_rows
from tasks.corpus.segments import Segment
from tasks.corpus.sync import NOT_MEASURED, SyncMeasure
from tasks.faces.crop import crop_face, face_box, lip_opening, relative_points, split_points
from tasks.media.probe import MediaInfo
from tests.footage import portrait
from tests.tasks.corpus.test_sync import talk
from tests.tasks.faces.test_head_angles import turned_head

CROP = CropSettings()
WRITTEN_BY_OTHERS = {"faces_shard", "faces_offset", "faces_size", "faces_crc32"}


def cut(points: np.ndarray) -> CutFrame:
    """The astronaut's picture with those landmarks."""
    box = face_box(points, (400, 600), CROP)
    pose, content = split_points(relative_points(points, box, CROP))
    picture = encode_picture(crop_face(portrait((600, 400)), box, CROP.size), "png")
    return CutFrame(box, pose, content, lip_opening(content), detected=True, picture=picture, sharpness=10.0, brightness=100.0)


def clip_of(frames: list[CutFrame], waveform: np.ndarray | None = None, start_frame: int = 0) -> Clip:
    """Those frames as a clip; without a waveform it is silent."""
    sound = np.zeros(len(frames) * 640, dtype=np.float32) if waveform is None else waveform
    source = PlannedSource(uri="/footage/anna/one.mp4", size=1, version="1", speaker="anna", split="val")
    info = MediaInfo(has_video=True, has_audio=True, width=600, height=400, fps=Fraction(30000, 1001))
    return Clip("0123456789abcdef-s1t2", source, info, Segment(2, 1, start_frame, tuple(frames)), sound, Path(source.uri))


@pytest.fixture(scope="module")
def frontal() -> CutFrame:
    return cut(turned_head(0, 0)[0])


def test_a_row_has_every_column_but_the_pictures_place(frontal: CutFrame) -> None:
    row = clip_row(clip_of([frontal] * 10, start_frame=250), 25)
    assert set(row) == set(CLIPS.names) - WRITTEN_BY_OTHERS
    schema = pa.schema([field for field in CLIPS if field.name in row])
    read = pa.Table.from_pylist([row], schema=schema).to_pylist()[0]
    assert {name: read[name] for name in ("source", "speaker", "split", "track", "frames", "width", "height")} == {
        "source": "/footage/anna/one.mp4", "speaker": "anna", "split": "val", "track": 2, "frames": 10, "width": 600, "height": 400}  # fmt: skip
    assert (read["segment_start_s"], read["segment_end_s"], read["duration_s"]) == (10.0, 10.4, 0.4)
    assert read["source_fps"] == pytest.approx(29.97, abs=0.01)


def test_angles_are_percentiles_over_the_frames() -> None:
    """A head that turns from -10 to 30 degrees, and looks away for a single frame."""
    turning = [cut(turned_head(yaw, 5)[0]) for yaw in np.linspace(-10, 30, 81)]
    row = clip_row(clip_of([*turning, cut(turned_head(70, 5)[0])]), 25)
    assert (row["yaw_low_deg"], row["yaw_high_deg"]) == (pytest.approx(-8, abs=0.5), pytest.approx(28.5, abs=0.5))
    assert row["yaw_extent_deg"] == pytest.approx(28.5, abs=0.5)
    assert (row["pitch_low_deg"], row["pitch_high_deg"]) == (pytest.approx(5, abs=0.1), pytest.approx(5, abs=0.1))
    leant = clip_row(clip_of([cut(turned_head(-35, 10, roll_deg=30)[0])] * 5), 25)
    assert (leant["yaw_high_deg"], leant["yaw_extent_deg"], leant["pitch_low_deg"]) == pytest.approx((-35, 35, 10), abs=0.1)


def test_the_offset_is_that_of_lips_and_sound(frontal: CutFrame) -> None:
    opening, voice = talk(100, late_frames=3)
    row = clip_row(clip_of([replace(frontal, lip_opening=share) for share in opening], voice), 25)
    assert (row["av_offset_frames"], row["av_method"]) == (pytest.approx(3, abs=0.5), LIPS)
    assert row["av_confidence"] > 0.9
    assert row["lip_activity"] == pytest.approx(opening.std())


def test_what_cannot_be_measured_is_null(frontal: CutFrame) -> None:
    row = clip_row(clip_of([frontal] * 100), 25)
    assert (row["av_offset_frames"], row["av_confidence"], row["av_method"]) == (None, None, None)
    assert row["audio_hash"] == [0, 0, 0, 0]


class Meter:
    """A stand-in for SyncNet."""

    method = "syncnet"

    def __init__(self, found: SyncMeasure) -> None:
        self.found = found

    def measure(self, clip: Clip, fps: int) -> SyncMeasure:
        return self.found


@pytest.mark.parametrize(("found", "columns"), [(SyncMeasure(-4.0, 0.7), (-4.0, 0.7, "syncnet")), (NOT_MEASURED, (None, None, None))])
def test_a_meter_takes_the_place_of_lip_motion(frontal: CutFrame, found: SyncMeasure, columns: tuple[object, ...]) -> None:
    opening, voice = talk(100)
    row = clip_row(clip_of([replace(frontal, lip_opening=share) for share in opening], voice), 25, Meter(found))
    assert (row["av_offset_frames"], row["av_confidence"], row["av_method"]) == columns


@pytest.mark.parametrize(
    ("column", "change", "value"),
    [
        ("detected_share", lambda number, frame: replace(frame, detected=number != 3), 0.9),
        ("sharpness", lambda number, frame: replace(frame, sharpness=float(number)), 4.5),
        ("brightness", lambda number, frame: replace(frame, brightness=200.0 if number == 0 else 100.0), 110.0),
    ],
)
def test_measures_of_faces(frontal: CutFrame, column: str, change: Callable[[int, CutFrame], CutFrame], value: float) -> None:
    row = clip_row(clip_of([change(number, frontal) for number in range(10)]), 25)
    assert row[column] == pytest.approx(value)


def test_hashed_faces_lie_at_the_tenths_of_the_clip(frontal: CutFrame) -> None:
    """Only the faces at 10, 50 and 90 % are looked at."""
    black = encode_picture(np.zeros((128, 128, 3), dtype=np.uint8), "png")
    frames = [frontal if number in {1, 5, 9} else replace(frontal, picture=black) for number in range(10)]
    whole = clip_row(clip_of([frontal] * 10), 25)["face_hash"]
    assert clip_row(clip_of(frames), 25)["face_hash"] == whole
    assert len(set(whole)) == 1
    assert clip_row(clip_of([replace(frontal, picture=black)] * 10), 25)["face_hash"] != whole


def test_an_error_that_quotes_half_a_character_becomes_a_row() -> None:
    assert reject_rows([Reject("/a.mp4", None, "worker", Reason.INTERNAL, "ValueError: \udc80é")])["detail"].to_pylist() == ["ValueError: \\udc80é"]
