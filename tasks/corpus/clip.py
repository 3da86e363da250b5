"""One source becomes clips: pieces of at most a segment in which one face is followed, with its crops and its sound."""

import errno
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError, StoreError
from schemas.jobs import PlannedSource
from schemas.reasons import RETRYABLE, Reason
from schemas.settings import IngestSettings
from tasks import places
from tasks.audio import SAMPLE_RATE, loudness_db, mel_spectrogram, read_waveform
from tasks.corpus.discover import NAME_NOT_UTF8
from tasks.corpus.scenes import cut_finder
from tasks.corpus.segments import Segment, windows
from tasks.corpus.speaking import Speaker, chosen
from tasks.corpus.spool import FrameSpool
from tasks.corpus.time_limits import OutOfTimeError, in_time, time_limit_s
from tasks.faces.detect import FaceFinder
from tasks.faces.tracks import FaceFrame, follow_all_faces
from tasks.file_hash import file_hash
from tasks.media.decode import read_frames
from tasks.media.probe import MediaInfo, probe

logger = logging.getLogger(__name__)

SHORTEST_FRAMES = 5
"""The networks see windows of five frames; a shorter clip can never be used."""
SILENT_DB = -80.0
"""A sound track below this holds no sound at all: 16-bit noise of one step lies at -90 dB."""
CONTENT_HASH_LENGTH = 16
MAX_GAP_FRAMES = 5
"""Longest gap in which a face is interpolated: 0.2 s, a blink of the detector and not a turn of the head."""
FORGOTTEN_DETAIL = "Its content was taken out of the store on request."
OTHER_FACE_DETAIL = "Another face that is there at the same time was taken."

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """A clip before it is written.

    waveform: (frames * 640,) float32 16 kHz mono, from the first frame's time on. path: the source's local file, there while the
    clip is handled.
    """

    clip_id: str
    source: PlannedSource
    info: MediaInfo
    segment: Segment
    waveform: FloatArray
    path: Path

    @cached_property
    def mel(self) -> FloatArray:
        """(M, 80) float32: the mel spectrogram of the clip's own sound, so its frame 0 is at the clip's frame 0."""
        return mel_spectrogram(self.waveform)


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


def cut_source(source: PlannedSource, settings: IngestSettings, finder: FaceFinder, forgotten: frozenset[str] = frozenset()) -> Iterator[Clip | Reject]:
    """Clips and rejects of one source, at least one of either, one clip in memory at a time. Never raises for what a file is like;
    StoreError where temporary files cannot be written.

    finder: counts the clips by itself and is left with no memory of the source. forgotten: the first CONTENT_HASH_LENGTH hex digits
    of files, and the clip_ids of single clips, that were taken out of the store. What comes before damage in a file is kept, the damage a reject.
    A source that is turned away for a retryable reason gives that reject alone: how much came before a time limit depends on
    how busy the machine was, and the next try makes it again.
    """
    try:
        with _local(source) as path:
            yield from _cut_file(path, source, settings, finder, forgotten)
    except TurnedAwayError as refusal:
        yield Reject(source.uri, None, refusal.stage, refusal.reason, refusal.detail)
    except StoreError:  # no room for temporary files: not this source's fault, and the next one would meet the same
        raise
    except Exception as error:
        logger.exception("Source %s ended in an error of ours.", source.uri)
        yield Reject(source.uri, None, "worker", Reason.INTERNAL, f"{type(error).__name__}: {error}")


def _cut_file(path: Path, source: PlannedSource, settings: IngestSettings, finder: FaceFinder, forgotten: frozenset[str]) -> Iterator[Clip | Reject]:
    started_s = time.monotonic()
    with _stage("probe", path, source):
        info = _usable(probe(path))
        content_hash = file_hash(path)[:CONTENT_HASH_LENGTH]
    if content_hash in forgotten:
        raise TurnedAwayError("probe", Reason.FORGOTTEN, FORGOTTEN_DETAIL)
    with _stage("audio", path, source):
        waveform = _sound(path, info)
    limit_s = time_limit_s(settings.clip_time_limit_s, info.duration_s)
    frames = in_time(read_frames(path, settings.format.fps, threads=1), started_s, limit_s)  # an actor has one core
    faces = _Counted(follow_all_faces(frames, finder, cut_finder(settings.scene_threshold), MAX_GAP_FRAMES))
    with FrameSpool() as spool:
        with _stage("decode", path, source):
            held, damage = _put_aside(_judged(windows(faces, settings.format), settings.speaker, waveform), spool, finder)
        pieces = spool.pieces()
        for judged in held:
            clip_id = f"{content_hash}-s{judged.segment.number}t{judged.segment.track}"
            if judged.reason is not None:
                yield Reject(source.uri, clip_id, "clip", judged.reason, judged.detail)
                continue
            segment = replace(judged.segment, frames=next(pieces))
            if clip_id in forgotten:
                yield Reject(source.uri, clip_id, "clip", Reason.FORGOTTEN, FORGOTTEN_DETAIL)
                continue
            yield Clip(clip_id, source, info, segment, waveform_piece(waveform, segment.start_frame, len(segment.frames)), path)
    if damage is not None:
        with _stage("decode", path, source):
            raise damage
    if not faces.count:
        raise TurnedAwayError("decode", Reason.DAMAGED, "No picture could be decoded.")
    if not held:
        raise TurnedAwayError("faces", Reason.NO_FACE, f"No face was found in {faces.count} frames.")


@dataclass(frozen=True)
class _Judged:
    """A segment, and why it becomes no clip; a reason of None: it becomes one."""

    segment: Segment
    reason: Reason | None = None
    detail: str = ""


def _judged(cut: Iterable[list[Segment]], speaker: Speaker, waveform: FloatArray) -> Iterator[_Judged]:
    """The segments of all windows in order. One that is too short does not compete with the others."""
    for window in cut:
        short = [_Judged(segment, Reason.TOO_SHORT, _too_short(segment)) for segment in window if len(segment.frames) < SHORTEST_FRAMES]
        long = [segment for segment in window if len(segment.frames) >= SHORTEST_FRAMES]
        competing = zip(long, chosen(long, speaker, waveform), strict=True)
        decided = [_Judged(segment) if keep else _Judged(segment, Reason.OTHER_FACE, OTHER_FACE_DETAIL) for segment, keep in competing]
        yield from sorted(short + decided, key=lambda judged: (judged.segment.start_frame, judged.segment.track))


def _too_short(segment: Segment) -> str:
    return f"The face is there for {len(segment.frames)} of the {SHORTEST_FRAMES} frames that a clip needs."


def _put_aside(judged: Iterable[_Judged], spool: FrameSpool, finder: FaceFinder) -> tuple[list[_Judged], MediaError | None]:
    """Puts the frames of segments that become clips aside; gives all without frames, and the damage after which there were no more."""
    held: list[_Judged] = []
    try:
        for one in judged:
            if one.reason is None:
                spool.put(one.segment.frames)
            held.append(replace(one, segment=replace(one.segment, frames=())))
            finder.count_clip()
    except MediaError as error:
        if error.reason in RETRYABLE:
            raise
        return held, error
    return held, None


class _Counted:
    """Passes the faces of frames on and counts the frames."""

    def __init__(self, faces: Iterable[tuple[FaceFrame, ...]]) -> None:
        self._faces = faces
        self.count = 0

    def __iter__(self) -> Iterator[tuple[FaceFrame, ...]]:
        for faces in self._faces:
            self.count += 1
            yield faces


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
    except OutOfTimeError as error:
        raise TurnedAwayError(stage, Reason.TIME_LIMIT, str(error)) from error
    except FileNotFoundError as error:
        raise TurnedAwayError(stage, Reason.MISSING, f"{source.uri} is not there.") from error
    except OSError as error:
        raise TurnedAwayError(stage, Reason.UNREADABLE, f"{source.uri} cannot be read: {error.strerror or error}.") from error
