"""A clip as rows of the store's tables, with what is measured of it."""

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.reasons import RETRYABLE
from schemas.tables import AUDIO, LANDMARKS, REJECTS
from tasks.audio import SAMPLE_RATE, encode_flac, loudness_db, mel_spectrogram, silence_share
from tasks.corpus.clip import Clip, Reject

DETECTED = "detected"
INTERPOLATED = "interpolated"


def clip_row(clip: Clip, fps: int) -> dict[str, Any]:
    """The clip's row in `clips`, without the pictures' place. Every measure is a column; nothing is left out for a low one."""
    frames, start_s = clip.segment.frames, clip.segment.start_frame / fps
    return {
        "clip_id": clip.clip_id,
        "source": clip.source.uri,
        "speaker": clip.source.speaker,
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
        **_sound_measures(clip),
        "av_offset_frames": None,
        "av_confidence": None,
    }


def audio_rows(clip: Clip) -> pa.Table:
    """The clip's row in `audio`; the mel spectrogram is of the clip's own sound, so its frame 0 is at the clip's frame 0."""
    mel = mel_spectrogram(clip.waveform)
    row = {"clip_id": clip.clip_id, "sample_rate": SAMPLE_RATE, "mel": list(mel), "flac": encode_flac(clip.waveform)}
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
            "detail": reject.detail,
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
