"""A clip as rows of the store's tables, with what is measured of it."""

from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.face_points import CONTENT_POSITIONS, ORDER, POSE_POSITIONS
from schemas.reasons import RETRYABLE
from schemas.tables import AUDIO, LANDMARKS, REJECTS
from tasks.audio import SAMPLE_RATE, encode_flac, loudness_db, silence_share
from tasks.corpus.clip import Clip, Reject
from tasks.corpus.faces import CutFrame
from tasks.corpus.fingerprints import audio_hash, face_hashes, hashed_frames
from tasks.corpus.sync import SyncMeasure, lip_sync_offset
from tasks.faces.head_angles import head_angles

DETECTED = "detected"
INTERPOLATED = "interpolated"
LIPS = "lips"
"""What `clips.av_method` says where lip motion measured the offset."""
LOW, HIGH = 5, 95
"""Percentiles that stand for a measure's range: the few frames in which landmarks jump do not count."""

Points = npt.NDArray[np.float64]


class OffsetMeter(Protocol):
    """What measures the A/V offset of a clip instead of lip motion: a loaded SyncNet (`tasks.corpus.syncnet`, which imports torch)."""

    @property
    def method(self) -> str:
        """Its name in `clips.av_method`."""

    def measure(self, clip: Clip, fps: int) -> SyncMeasure:
        """The offset and its confidence; both None where it cannot be measured."""


def clip_row(clip: Clip, fps: int, sync: OffsetMeter | None = None) -> dict[str, Any]:
    """The clip's row in `clips`, without the pictures' place. Every measure is a column; nothing is left out for a low one.

    sync: measures the A/V offset (`load_sync`); None: lip motion does. `faces_*` are for who writes the pictures.
    """
    frames, start_s = clip.segment.frames, clip.segment.start_frame / fps
    return {
        "clip_id": clip.clip_id,
        "source": clip.source.uri,
        "speaker": clip.source.speaker,
        "split": clip.source.split,
        "segment_start_s": start_s,
        "segment_end_s": (clip.segment.start_frame + len(frames)) / fps,
        "track": clip.segment.track,
        "frames": len(frames),
        "fps": float(fps),
        "duration_s": len(frames) / fps,
        "width": clip.info.width,
        "height": clip.info.height,
        "source_fps": float(clip.info.fps),
        **_face_measures(clip),
        **_angle_measures(clip),
        **_sound_measures(clip),
        **_sync_measures(clip, fps, sync),
        **_fingerprints(clip),
    }


def audio_rows(clip: Clip) -> pa.Table:
    """The clip's row in `audio`."""
    row = {"clip_id": clip.clip_id, "sample_rate": SAMPLE_RATE, "mel": list(clip.mel), "flac": encode_flac(clip.waveform)}
    return pa.Table.from_pylist([row], schema=AUDIO)


def landmark_rows(clip: Clip) -> pa.Table:
    """The clip's rows in `landmarks`, one a frame."""
    frames = clip.segment.frames
    boxes = [(frame.box.x0, frame.box.y0, frame.box.x1, frame.box.y1) for frame in frames]
    columns = {
        "clip_id": [clip.clip_id] * len(frames),
        "frame": list(range(len(frames))),
        "box": boxes,
        "pose": [frame.pose.reshape(-1) for frame in frames],
        "content": [frame.content.reshape(-1) for frame in frames],
        "lip_opening": [frame.lip_opening for frame in frames],
        "detected": [DETECTED if frame.detected else INTERPOLATED for frame in frames],
    }
    return pa.Table.from_pydict(columns, schema=LANDMARKS)


def reject_rows(rejects: list[Reject]) -> pa.Table:
    """Rejects as rows of `rejects`."""
    rows = [
        {
            "source": reject.source,
            "clip_id": reject.clip_id,
            "stage": reject.stage,
            "reason": reject.reason.value,
            "detail": reject.detail.encode(errors="backslashreplace").decode(),  # an error may quote anything, a table takes only UTF-8
            "retryable": reject.reason in RETRYABLE,
        }
        for reject in rejects
    ]
    return pa.Table.from_pylist(rows, schema=REJECTS)


def _face_measures(clip: Clip) -> dict[str, float]:
    frames = clip.segment.frames
    return {
        "face_px": float(np.median([min(frame.box.width, frame.box.height) for frame in frames])),
        "sharpness": float(np.median([frame.sharpness for frame in frames])),
        "brightness": float(np.mean([frame.brightness for frame in frames])),
        "detected_share": float(np.mean([frame.detected for frame in frames])),
        "lip_activity": float(np.std([frame.lip_opening for frame in frames])),
    }


def _sound_measures(clip: Clip) -> dict[str, float]:
    return {"loudness_db": loudness_db(clip.waveform), "silence_share": silence_share(clip.waveform)}


def _angle_measures(clip: Clip) -> dict[str, float]:
    yaw, pitch = head_angles(np.stack([_points(frame) for frame in clip.segment.frames])).T
    return {
        "yaw_low_deg": float(np.percentile(yaw, LOW)),
        "yaw_high_deg": float(np.percentile(yaw, HIGH)),
        "yaw_extent_deg": float(np.percentile(np.abs(yaw), HIGH)),
        "pitch_low_deg": float(np.percentile(pitch, LOW)),
        "pitch_high_deg": float(np.percentile(pitch, HIGH)),
    }


def _points(frame: CutFrame) -> Points:
    """Landmarks (131, 2) in shares of the box."""
    points = np.empty((len(ORDER), 2))
    points[list(POSE_POSITIONS)] = frame.pose.T
    points[list(CONTENT_POSITIONS)] = frame.content.T
    return points


def _sync_measures(clip: Clip, fps: int, sync: OffsetMeter | None) -> dict[str, Any]:
    found = sync.measure(clip, fps) if sync else lip_sync_offset(np.array([frame.lip_opening for frame in clip.segment.frames]), clip.waveform)
    method = None if found.offset_frames is None else (sync.method if sync else LIPS)
    return {"av_offset_frames": found.offset_frames, "av_confidence": found.confidence, "av_method": method}


def _fingerprints(clip: Clip) -> dict[str, list[int]]:
    frames = clip.segment.frames
    pictures = [_decoded(frames[number].picture) for number in hashed_frames(len(frames))]
    return {"face_hash": list(face_hashes(pictures)), "audio_hash": list(audio_hash(clip.mel))}


def _decoded(coded: bytes) -> npt.NDArray[np.uint8]:
    return cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_COLOR)
