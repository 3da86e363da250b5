"""The clips of a snapshot in memory, laid end to end, so that a batch is one NumPy indexing."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError
from schemas.jobs import Snapshot, SnapshotClip
from tasks.corpus.store import ClipArrays, CorpusStore
from tasks.mel_windows import mel_windows, window_starts

LOG = logging.getLogger(__name__)

WINDOW = 5
"""Consecutive frames that the networks look at (paper: T)."""
SHORTEST_CLIP = WINDOW + 1
"""A window and one frame beside it to be a reference."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Footage:
    """Clips laid end to end. Frame f of clip c is row first_frame[c] + f of the frame arrays; likewise for mel frames."""

    frames: IntArray
    """(clips,) video frames of each clip."""
    first_frame: IntArray
    pose: FloatArray
    """(frames, 2, 74)"""
    content: FloatArray
    """(frames, 2, 57)"""
    boxes: FloatArray
    """(frames, 4) source pixels"""
    picture_offset: IntArray
    """(frames,) byte of the clip's shard"""
    picture_size: IntArray
    """(frames,) bytes"""
    shards: tuple[str, ...]
    """(clips,) the shard of each clip"""
    mel_frames: IntArray
    first_mel: IntArray
    mel: FloatArray
    """(mel frames, 80)"""
    sound_shift: IntArray
    """(clips,) video frames: the sound of video frame f is that of frame f + this."""
    clip_ids: tuple[str, ...]
    """(clips,) in order"""
    batches: tuple[str, ...]
    """(clips,) the store's batch of each clip"""

    @property
    def clips(self) -> int:
        """How many clips there are."""
        return len(self.frames)

    def mel_windows(self, clips: IntArray, frames: IntArray) -> FloatArray:
        """The mel windows (n, 1, 80, 16) of video frames (n,) in clips (n,), each clip's sound moved as its snapshot says; silence outside a clip."""
        starts = window_starts(frames + self.sound_shift[clips])
        return np.ascontiguousarray(mel_windows(self.mel, starts, self.first_mel[clips], self.mel_frames[clips]))


def lay_end_to_end(clips: Sequence[ClipArrays], sound_shifts: Sequence[int] | None = None) -> Footage:
    """Footage of clips in which SHORTEST_CLIP frames or more have sound of their own.

    sound_shifts: frames by which each clip's sound comes after its picture; none: it comes with it.
    """
    frames = np.array([len(clip.pose) for clip in clips], dtype=np.int64)
    mel_frames = np.array([len(clip.mel) for clip in clips], dtype=np.int64)
    return Footage(
        frames=frames,
        first_frame=np.cumsum(frames) - frames,
        pose=np.concatenate([clip.pose for clip in clips]),
        content=np.concatenate([clip.content for clip in clips]),
        boxes=np.concatenate([clip.boxes for clip in clips]),
        picture_offset=np.concatenate([clip.faces_offset for clip in clips]).astype(np.int64),
        picture_size=np.concatenate([clip.faces_size for clip in clips]).astype(np.int64),
        shards=tuple(clip.faces_shard for clip in clips),
        mel_frames=mel_frames,
        first_mel=np.cumsum(mel_frames) - mel_frames,
        mel=np.concatenate([clip.mel for clip in clips]),
        sound_shift=np.array(sound_shifts or [0] * len(clips), dtype=np.int64),
        clip_ids=tuple(clip.clip_id for clip in clips),
        batches=tuple(clip.batch for clip in clips),
    )


@dataclass(frozen=True)
class Lessons:
    """What a run learns from and what it is tested on."""

    train: Footage
    validation: Footage
    held_out: bool
    """False: the snapshot has no validation clips, so validation sees the training clips."""


def read_lessons(store: CorpusStore, snapshot: Snapshot, memory_limit_mb: int = 8192, cache: str | None = None) -> Lessons:
    """Reads both splits. StoreError when no training clip is long enough."""
    train = _read_split(store, snapshot.clips, "train")
    if train is None:
        raise StoreError(f"The snapshot {snapshot.name} has no training clip of {SHORTEST_CLIP} frames or more; ingest more footage.")
    validation = _read_split(store, snapshot.clips, "val")
    if validation is None:
        LOG.warning("The snapshot %s has no validation clips: validation uses the training clips.", snapshot.name)
    return Lessons(train, validation or train, held_out=validation is not None)


def _read_split(store: CorpusStore, clips: Sequence[SnapshotClip], split: str) -> Footage | None:
    shifts = {clip.clip_id: clip.sound_shift_frames for clip in clips if clip.split == split}
    wanted = [(clip.batch, clip.clip_id) for clip in clips if clip.split == split]
    long_enough = [clip for clip in store.read_clips(wanted) if len(clip.pose) - abs(shifts[clip.clip_id]) >= SHORTEST_CLIP]
    in_order = sorted(long_enough, key=lambda clip: clip.clip_id)
    return lay_end_to_end(in_order, [shifts[clip.clip_id] for clip in in_order]) if in_order else None
