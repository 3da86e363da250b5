"""The clips of a snapshot laid end to end, in memory or mapped from files, so that a batch is one NumPy indexing."""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError
from schemas.jobs import Snapshot, SnapshotClip, Split
from schemas.locations import absolute_location
from schemas.tables import CONTENT_NUMBERS, MEL_BANDS, POSE_NUMBERS
from tasks.corpus import layout
from tasks.corpus.store import ClipArrays, CorpusStore
from tasks.mel_windows import SILENCE, WINDOW_FRAMES, mel_windows, window_starts
from tasks.training.mapped_arrays import BYTES_A_MB, Arrays, ArraySpec, cache_folder, held_arrays, mapped_arrays, total_bytes

LOG = logging.getLogger(__name__)

WINDOW = 5
"""Consecutive frames that the networks look at (paper: T)."""
SHORTEST_CLIP = WINDOW + 1
"""A window and one frame beside it to be a reference."""
READERS = 8
"""Batches of the store that are read side by side, each a clip at a time."""
LAYOUT_VERSION = 1
"""Grows when mapped files hold other things, or the same ones otherwise."""

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
        return mel_windows(self.mel, starts, self.first_mel[clips], self.mel_frames[clips])


@dataclass(frozen=True)
class Arrangement:
    """Where each clip will lie, known before any is read: (clips,) each, in order of clip_id."""

    clip_ids: tuple[str, ...]
    batches: tuple[str, ...]
    shards: tuple[str, ...]
    frames: IntArray
    sound_shift: IntArray

    @cached_property
    def first_frame(self) -> IntArray:
        """Rows where the clips begin."""
        return np.cumsum(self.frames) - self.frames

    @cached_property
    def first_mel(self) -> IntArray:
        """Mel rows where the clips begin."""
        return np.cumsum(self.mel_room) - self.mel_room

    @cached_property
    def mel_room(self) -> IntArray:
        """Mel frames that windows of a clip can reach; what a clip has beyond is left out."""
        return np.maximum(window_starts(self.frames - 1 + self.sound_shift), 0) + WINDOW_FRAMES

    def specs(self) -> dict[str, ArraySpec]:
        """The arrays that hold the clips."""
        clips, frames, mel_frames = len(self.frames), int(self.frames.sum()), int(self.mel_room.sum())
        return {
            "pose": ArraySpec((frames, 2, POSE_NUMBERS // 2), np.float32),
            "content": ArraySpec((frames, 2, CONTENT_NUMBERS // 2), np.float32),
            "boxes": ArraySpec((frames, 4), np.float32),
            "picture_offset": ArraySpec((frames,), np.int64),
            "picture_size": ArraySpec((frames,), np.int64),
            "mel": ArraySpec((mel_frames, MEL_BANDS), np.float32),
            "mel_frames": ArraySpec((clips,), np.int64),
        }

    def digest(self, store: CorpusStore) -> str:
        """Tells apart what is read: the store, its format, the clips and how their sound is moved."""
        clips = zip(self.batches, self.clip_ids, self.frames.tolist(), self.sound_shift.tolist(), strict=True)
        whole = (LAYOUT_VERSION, absolute_location(store.uri), store.format.model_dump_json(), *clips)
        return hashlib.sha256("\n".join(map(str, whole)).encode()).hexdigest()[:16]

    def put(self, clip: ClipArrays, position: int, arrays: Arrays) -> None:
        """Copies a clip to its place in the arrays."""
        first, first_mel = self.first_frame[position], self.first_mel[position]
        rows = slice(first, first + self.frames[position])
        named = {"pose": clip.pose, "content": clip.content, "boxes": clip.boxes, "picture_offset": clip.faces_offset, "picture_size": clip.faces_size}
        for name, values in named.items():
            arrays[name][rows] = values
        room = self.mel_room[position]
        mel = clip.mel[:room]
        arrays["mel"][first_mel : first_mel + len(mel)] = mel
        arrays["mel"][first_mel + len(mel) : first_mel + room] = SILENCE
        arrays["mel_frames"][position] = len(mel)


def lay_end_to_end(clips: Sequence[ClipArrays], sound_shifts: Sequence[int] | None = None) -> Footage:
    """Footage in memory of clips in which SHORTEST_CLIP frames or more have sound of their own.

    sound_shifts: frames by which each clip's sound comes after its picture; none: it comes with it.
    """
    arrangement = Arrangement(
        clip_ids=tuple(clip.clip_id for clip in clips),
        batches=tuple(clip.batch for clip in clips),
        shards=tuple(clip.faces_shard for clip in clips),
        frames=np.array([len(clip.pose) for clip in clips], dtype=np.int64),
        sound_shift=np.array(sound_shifts or [0] * len(clips), dtype=np.int64),
    )
    arrays = held_arrays(arrangement.specs())
    for position, clip in enumerate(clips):
        arrangement.put(clip, position, arrays)
    return _footage(arrangement, arrays)


def _footage(arrangement: Arrangement, arrays: Arrays) -> Footage:
    return Footage(
        frames=arrangement.frames,
        first_frame=arrangement.first_frame,
        pose=arrays["pose"],
        content=arrays["content"],
        boxes=arrays["boxes"],
        picture_offset=arrays["picture_offset"],
        picture_size=arrays["picture_size"],
        shards=arrangement.shards,
        mel_frames=np.array(arrays["mel_frames"]),
        first_mel=arrangement.first_mel,
        mel=arrays["mel"],
        sound_shift=arrangement.sound_shift,
        clip_ids=arrangement.clip_ids,
        batches=arrangement.batches,
    )


@dataclass(frozen=True)
class Lessons:
    """What a run learns from and what it is tested on."""

    train: Footage
    validation: Footage
    held_out: bool
    """False: the snapshot has no validation clips, so validation sees the training clips."""


def read_lessons(store: CorpusStore, snapshot: Snapshot, memory_limit_mb: int = 8192, cache: str | None = None) -> Lessons:
    """Reads both splits, clip by clip into arrays that are there from the beginning. StoreError when no training clip is long enough.

    Arrays that take more than memory_limit_mb in all are mapped from files in the local folder `cache` (None: in the machine's temporary
    one), where the other workers of the machine and later runs find them.
    """
    known = _known_clips(store, snapshot)
    train = _arrange(snapshot.clips, "train", known)
    if not train.clip_ids:
        raise StoreError(f"The snapshot {snapshot.name} has no training clip of {SHORTEST_CLIP} frames or more; ingest more footage.")
    validation = _arrange(snapshot.clips, "val", known)
    mapped = total_bytes(train.specs()) + total_bytes(validation.specs()) > memory_limit_mb * BYTES_A_MB
    footage = _read(store, train, cache, mapped=mapped)
    if not validation.clip_ids:
        LOG.warning("The snapshot %s has no validation clips: validation uses the training clips.", snapshot.name)
        return Lessons(footage, footage, held_out=False)
    return Lessons(footage, _read(store, validation, cache, mapped=mapped), held_out=True)


Known = dict[tuple[str, str], tuple[int, str]]
"""Frames and shard of clips by batch and clip_id."""


def _known_clips(store: CorpusStore, snapshot: Snapshot) -> Known:
    """What the clips tables say of the snapshot's clips."""

    def of_batch(batch: str) -> Known:
        columns = store.table(layout.CLIPS, batch, ["clip_id", "frames", "faces_shard"]).to_pydict()
        return {(batch, clip_id): (frames, shard) for clip_id, frames, shard in zip(*columns.values(), strict=True)}

    with ThreadPoolExecutor(READERS) as readers:
        return {name: clip for known in readers.map(of_batch, sorted({clip.batch for clip in snapshot.clips})) for name, clip in known.items()}


def _arrange(clips: Sequence[SnapshotClip], split: Split, known: Known) -> Arrangement:
    """The clips of a split that are long enough."""
    of_split = sorted((clip for clip in clips if clip.split == split), key=lambda clip: clip.clip_id)
    for clip in of_split:
        if (clip.batch, clip.clip_id) not in known:
            raise StoreError(f"The batch {clip.batch} of the corpus store has no clip {clip.clip_id}, which the snapshot names.")
    chosen = [(clip, *known[clip.batch, clip.clip_id]) for clip in of_split]
    long_enough = [(clip, frames, shard) for clip, frames, shard in chosen if frames - abs(clip.sound_shift_frames) >= SHORTEST_CLIP]
    return Arrangement(
        clip_ids=tuple(clip.clip_id for clip, _, _ in long_enough),
        batches=tuple(clip.batch for clip, _, _ in long_enough),
        shards=tuple(shard for _, _, shard in long_enough),
        frames=np.array([frames for _, frames, _ in long_enough], dtype=np.int64),
        sound_shift=np.array([clip.sound_shift_frames for clip, _, _ in long_enough], dtype=np.int64),
    )


def _read(store: CorpusStore, arrangement: Arrangement, cache: str | None, *, mapped: bool) -> Footage:
    specs = arrangement.specs()
    if mapped:
        folder = cache_folder(cache) / f"footage-{arrangement.digest(store)}"
        return _footage(arrangement, mapped_arrays(folder, specs, lambda arrays: _fill(store, arrangement, arrays)))
    arrays = held_arrays(specs)
    _fill(store, arrangement, arrays)
    return _footage(arrangement, arrays)


def _fill(store: CorpusStore, arrangement: Arrangement, arrays: Arrays) -> None:
    """Reads the clips into their places, some batches side by side, a clip of each in memory at once."""
    positions: dict[str, dict[str, int]] = {}
    for position, (batch, clip_id) in enumerate(zip(arrangement.batches, arrangement.clip_ids, strict=True)):
        positions.setdefault(batch, {})[clip_id] = position

    def fill_from(batch: str) -> None:
        for clip in store.read_clips((batch, clip_id) for clip_id in positions[batch]):
            arrangement.put(clip, positions[batch][clip.clip_id], arrays)

    with ThreadPoolExecutor(READERS) as readers:
        for _ in readers.map(fill_from, positions):
            pass  # a reader's error is raised here
