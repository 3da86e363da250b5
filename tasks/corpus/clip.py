"""One source becomes clips: pieces of at most a segment in which one face is followed, with its crops and its sound."""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError, StoreError
from schemas.jobs import PlannedSource
from schemas.reasons import RETRYABLE, Reason
from schemas.settings import FormatSettings, IngestSettings
from tasks import places
from tasks.audio import SAMPLE_RATE, loudness_db, read_waveform
from tasks.corpus.discover import NAME_NOT_UTF8
from tasks.corpus.faces import CutFrame, cut_face
from tasks.corpus.spool import FrameSpool
from tasks.faces.tracks import FaceFrame, follow_faces
from tasks.file_hash import file_hash
from tasks.media.decode import Frame, read_frames
from tasks.media.probe import MediaInfo, probe

logger = logging.getLogger(__name__)

SHORTEST_FRAMES = 5
"""The networks see windows of five frames; a shorter clip can never be used."""
SILENT_DB = -80.0
"""A sound track below this holds no sound at all: 16-bit noise of one step lies at -90 dB."""
CONTENT_HASH_LENGTH = 16
MAX_GAP_FRAMES = 5
"""Longest gap in which a face is interpolated: 0.2 s, a blink of the detector and not a turn of the head."""
FOOTAGE_PER_TIME_LIMIT_S = 600.0
"""The time limit holds for so much footage; a longer source has as many times more."""

FloatArray = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Find = Callable[[Picture], npt.NDArray[np.float64] | None]


@dataclass(frozen=True)
class Segment:
    """Consecutive frames of one track; the segments of a track are counted from 0."""

    track: int
    number: int
    start_frame: int
    frames: tuple[CutFrame, ...]


@dataclass(frozen=True)
class Clip:
    """A clip before it is written. waveform: (frames * 640,) float32 16 kHz mono, from the first frame's time on."""

    clip_id: str
    source: PlannedSource
    info: MediaInfo
    segment: Segment
    waveform: FloatArray


@dataclass(frozen=True)
class Reject:
    """A source, or a clip of it, that was turned away."""

    source: str
    clip_id: str | None
    stage: str
    reason: Reason
    detail: str


class TurnedAwayError(Exception):
    """A source cannot be used (any further)."""

    def __init__(self, stage: str, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.stage, self.reason, self.detail = stage, reason, detail


def cut_source(source: PlannedSource, settings: IngestSettings, find: Find) -> Iterator[Clip | Reject]:
    """Clips and rejects of one source, at least one of either, one clip in memory at a time. Never raises for what a file is like.

    find: landmarks of a BGR picture or None (`FaceMesh.find`). What comes before damage in a file is kept, the damage a reject.
    A source that is turned away for a retryable reason gives that reject alone: how much came before a time limit depends on
    how busy the machine was, and the next try makes it again.
    """
    try:
        with _local(source) as path:
            yield from _cut_file(path, source, settings, find)
    except TurnedAwayError as refusal:
        yield Reject(source.uri, None, refusal.stage, refusal.reason, refusal.detail)
    except Exception as error:
        logger.exception("Source %s ended in an error of ours.", source.uri)
        yield Reject(source.uri, None, "worker", Reason.INTERNAL, f"{type(error).__name__}: {error}")


def _cut_file(path: Path, source: PlannedSource, settings: IngestSettings, find: Find) -> Iterator[Clip | Reject]:
    started_s = time.monotonic()
    with _stage("probe", path, source):
        info = _usable(probe(path))
        content_hash = file_hash(path)[:CONTENT_HASH_LENGTH]
    with _stage("audio", path, source):
        waveform = _sound(path, info)
    limit_s = time_limit_s(settings.clip_time_limit_s, info.duration_s)
    frames = _in_time(read_frames(path, settings.format.fps, threads=1), started_s, limit_s)  # an actor has one core
    faces = _Counted(follow_faces(frames, find, MAX_GAP_FRAMES))
    with FrameSpool() as spool:
        with _stage("decode", path, source):
            held, damage = _put_aside(segments(faces, settings.format), spool)
        for segment, cut in zip(held, spool.pieces(), strict=True):
            clip_id = f"{content_hash}-s{segment.number}t{segment.track}"
            yield _clip_or_reject(clip_id, source, info, replace(segment, frames=cut), waveform)
    if damage is not None:
        with _stage("decode", path, source):
            raise damage
    if not faces.count:
        raise TurnedAwayError("decode", Reason.DAMAGED, "No picture could be decoded.")
    if not held:
        raise TurnedAwayError("faces", Reason.NO_FACE, f"No face was found in {faces.count} frames.")


def time_limit_s(limit_s: float, duration_s: float | None) -> float:
    """The time limit of a source of that length; `limit_s` where it is short or unknown."""
    return limit_s * max(1.0, (duration_s or 0.0) / FOOTAGE_PER_TIME_LIMIT_S)


def _put_aside(cut: Iterable[Segment], spool: FrameSpool) -> tuple[list[Segment], MediaError | None]:
    """Puts the frames of all segments aside; gives the segments without them, and the damage after which there were no more."""
    held: list[Segment] = []
    try:
        for segment in cut:
            spool.put(segment.frames)
            held.append(replace(segment, frames=()))
    except MediaError as error:
        if error.reason in RETRYABLE:
            raise
        return held, error
    return held, None


def segments(faces: Iterable[FaceFrame], store_format: FormatSettings) -> Iterator[Segment]:
    """Cuts followed faces into segments: at most `segment_s` long, each within one track, without gaps.

    Where decoding fails, the segment up to there is given before the MediaError is raised again.
    """
    longest = int(store_format.segment_s * store_format.fps)
    cutter = _Cutter(longest)
    failure: MediaError | None = None
    try:
        for face in faces:
            yield from cutter.take(face, cut_face(face, store_format))
    except MediaError as error:
        failure = error
    yield from cutter.flush()
    if failure is not None:
        raise failure


class _Cutter:
    """Collects the frames of the segment under way."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.frames: list[CutFrame] = []
        self.start_frame = 0
        self.track = -1
        self.number = 0

    def take(self, face: FaceFrame, cut: CutFrame | None) -> Iterator[Segment]:
        """Adds a frame; gives the segment that it ends, if it ends one."""
        if cut is None or face.track is None:
            yield from self.flush()
            return
        if face.track != self.track:
            yield from self.flush()
            self.track, self.number = face.track, 0
        if not self.frames:
            self.start_frame = face.index
        self.frames.append(cut)
        if len(self.frames) == self.longest:
            yield from self.flush()

    def flush(self) -> Iterator[Segment]:
        """Gives the segment under way, if there is one."""
        if self.frames:
            yield Segment(self.track, self.number, self.start_frame, tuple(self.frames))
            self.number += 1
            self.frames = []


class _Counted:
    """Passes faces on and counts them."""

    def __init__(self, faces: Iterable[FaceFrame]) -> None:
        self._faces = faces
        self.count = 0

    def __iter__(self) -> Iterator[FaceFrame]:
        for face in self._faces:
            self.count += 1
            yield face


def _clip_or_reject(clip_id: str, source: PlannedSource, info: MediaInfo, segment: Segment, waveform: FloatArray) -> Clip | Reject:
    frames = len(segment.frames)
    if frames < SHORTEST_FRAMES:
        return Reject(source.uri, clip_id, "clip", Reason.TOO_SHORT, f"The face is there for {frames} of the {SHORTEST_FRAMES} frames that a clip needs.")
    return Clip(clip_id, source, info, segment, waveform_piece(waveform, segment.start_frame, frames))


def waveform_piece(waveform: FloatArray, start_frame: int, frames: int) -> FloatArray:
    """The sound of frames at 25 a second: (frames * 640,) float32, zeros where the sound track ends before the picture."""
    samples_a_frame = SAMPLE_RATE // 25
    piece = waveform[start_frame * samples_a_frame : (start_frame + frames) * samples_a_frame]
    return np.pad(piece, (0, frames * samples_a_frame - len(piece)))


def _usable(info: MediaInfo) -> MediaInfo:
    if info.is_picture or not info.has_video:
        raise MediaError(Reason.NO_VIDEO, "It is a still picture." if info.is_picture else "It has no picture stream.")
    if not info.has_audio:
        raise MediaError(Reason.NO_AUDIO, "It has no sound track.")
    return info


def _sound(path: Path, info: MediaInfo) -> FloatArray:
    waveform = read_waveform(path, info.start_s)
    if not len(waveform):
        raise MediaError(Reason.NO_AUDIO, "Its sound track is empty.")
    if loudness_db(waveform) < SILENT_DB:
        raise MediaError(Reason.SILENT_AUDIO, f"Its sound stays under {SILENT_DB:.0f} dB.")
    return waveform


def _in_time(frames: Iterable[Frame], started_s: float, limit_s: float) -> Iterator[Frame]:
    for frame in frames:
        if time.monotonic() - started_s > limit_s:
            raise TurnedAwayError("decode", Reason.TIME_LIMIT, f"It took longer than {limit_s:g} s.")
        yield frame


@contextmanager
def _local(source: PlannedSource) -> Iterator[Path]:
    """The source as a local file; TurnedAwayError when it cannot be fetched."""
    if source.version == NAME_NOT_UTF8:
        raise TurnedAwayError("probe", Reason.MISSING, f"The name of {source.uri} is not UTF-8; rename it.")
    if _leads_in_circles(source.uri):
        raise TurnedAwayError("probe", Reason.MISSING, f"The link {source.uri} leads in circles.")
    copy = places.local_copy(source.uri)
    try:
        path = copy.__enter__()
    except FileNotFoundError as error:
        raise TurnedAwayError("probe", Reason.MISSING, f"{source.uri} is not there.") from error
    except (OSError, StoreError) as error:
        raise TurnedAwayError("probe", Reason.UNREADABLE, str(error)) from error
    try:
        yield path
    finally:
        copy.__exit__(None, None, None)


def _leads_in_circles(uri: str) -> bool:
    if places.is_remote(uri):
        return False
    try:
        places.local_path(uri).stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@contextmanager
def _stage(stage: str, path: Path, source: PlannedSource) -> Iterator[None]:
    """Says at which stage a source was turned away; the detail names the source, not the copy of it that lies here."""
    try:
        yield
    except MediaError as error:
        raise TurnedAwayError(stage, error.reason, str(error).replace(str(path), source.uri)) from error
    except FileNotFoundError as error:
        raise TurnedAwayError(stage, Reason.MISSING, f"{source.uri} is not there.") from error
    except OSError as error:
        raise TurnedAwayError(stage, Reason.UNREADABLE, f"{source.uri} cannot be read: {error.strerror or error}.") from error
