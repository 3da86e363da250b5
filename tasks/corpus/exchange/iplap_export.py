"""A corpus store as what IP_LAP's preprocessing writes: its own training scripts read it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import Field

from schemas.errors import StoreError
from schemas.jobs import Snapshot, SnapshotClip, Split
from schemas.locations import is_remote, local_path
from schemas.settings import CropSettings, Settings, SnapshotSettings
from tasks.audio import SAMPLE_RATE, Waveform, decode_flac, mel_spectrogram
from tasks.corpus import layout
from tasks.corpus.exchange import iplap_files
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import ClipArrays, CorpusStore, row_groups
from tasks.faces import draw_sketch
from tasks.media.sound import INT16_SCALE
from tasks.mel_windows import VIDEO_FPS
from tasks.progress import Progress, silent

SUMMARY = "export.json"
"""File of the summary, beside the four folders: an import of the same folder takes the crop from it."""
GUIDE = "README.md"
SHORTEST_FRAMES = 25
"""The original's training leaves shorter videos out."""
SAMPLES_A_FRAME = SAMPLE_RATE // VIDEO_FPS
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class ExportSummary(Settings):
    """What an export wrote."""

    out: str
    snapshot: str
    clips: dict[str, int] = Field(description="clips by split")
    frames: int
    short_clips: int = Field(description="clips under 25 frames: they are there, but the original's training leaves them out")
    shifted_clips: int = Field(description="clips whose sound was moved by their A/V offset")
    crop: CropSettings = Field(description="the crop that pictures and landmarks hold; the original's own is iplap-train at 128")


def export_iplap(store_uri: str, out: str, snapshot: str | None = None, progress: Progress = silent) -> ExportSummary:
    """Writes the clips of a snapshot to the new folder `out`, as IP_LAP's preprocessing names and codes them.

    snapshot: by name; None: one is frozen first with the default selection, as training does. Pictures of lossless stores
    keep every pixel, PNG ones every byte; sketches are drawn; sound that is out of step is moved as the snapshot says, and
    frames left without sound are not written.
    The file lists are written last: an export without them is not complete. progress: told the clips done.
    Raises StoreError: no store, no such snapshot, damaged clips, or `out` is remote, not empty or not to be written.
    """
    store = CorpusStore.open(store_uri)
    frozen = store.snapshot(snapshot) if snapshot else freeze_snapshot(store, SnapshotSettings())
    root = _new_folder(out)
    try:
        frames = []
        for done, clip in enumerate(_clips(store, frozen)):
            progress(done, len(frozen.clips), clip.arrays.clip_id)
            _write_clip(root, store, clip)
            frames.append(len(clip.kept))
        summary = _summary(root, store, frozen, frames)
        _write_lists(root, frozen)
        (root / SUMMARY).write_text(summary.model_dump_json(indent=2), encoding="utf-8")
        (root / GUIDE).write_text(_guide(summary), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"The export to {out} cannot be written: {error.strerror or error}.") from error
    progress(len(frozen.clips), len(frozen.clips), "clips")
    return summary


def clip_name(clip: SnapshotClip) -> str:
    """The name of a clip in the original's file lists: `<folder>/<name>`, the speaker's folder and the clip_id."""
    return f"{iplap_files.folder_name(clip.speaker)}/{iplap_files.folder_name(clip.clip_id)}"  # a store from elsewhere may hold any id


class _Exported(NamedTuple):
    """A clip to be written: of its frames those that have sound. mel: (M, 80), of the waveform."""

    name: str
    arrays: ClipArrays
    kept: range
    waveform: Waveform
    mel: npt.NDArray[np.float32]


def _new_folder(out: str) -> Path:
    if is_remote(out):
        raise StoreError(f"{out} is remote; IP_LAP reads local folders: give one.")
    root = local_path(out).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        taken = any(root.iterdir())
    except OSError as error:
        raise StoreError(f"The folder {root} cannot be made: {error.strerror}.") from error
    if taken:
        raise StoreError(f"The folder {root} is not empty; give a new one, so that no frames of another export stay among these.")
    return root


def _clips(store: CorpusStore, snapshot: Snapshot) -> Iterator[_Exported]:
    """Clips of a snapshot with their sound, batch by batch, one in memory at a time."""
    by_batch: dict[str, dict[str, SnapshotClip]] = {}
    for clip in snapshot.clips:
        by_batch.setdefault(clip.batch, {})[clip.clip_id] = clip
    for batch, chosen in by_batch.items():
        with store.parquet(layout.AUDIO, batch) as audio:
            groups = row_groups(audio)
            for arrays in store.read_clips((batch, clip_id) for clip_id in chosen):
                clip = chosen[arrays.clip_id]
                rows = audio.read_row_groups(groups[clip.clip_id], columns=["clip_id", "flac"]).to_pylist()
                coded = next(row["flac"] for row in rows if row["clip_id"] == clip.clip_id)
                yield _exported(clip, arrays, decode_flac(coded))


def _exported(clip: SnapshotClip, arrays: ClipArrays, waveform: Waveform) -> _Exported:
    shift = clip.sound_shift_frames
    kept = frames_with_sound(len(arrays.pose), shift)
    moved = moved_sound(waveform, kept, shift)
    return _Exported(clip_name(clip), arrays, kept, moved, mel_spectrogram(moved) if shift else arrays.mel)


def frames_with_sound(frames: int, shift_frames: int) -> range:
    """Frames of a clip of so many that have sound when the sound of frame f is that of frame f + shift."""
    return range(max(-shift_frames, 0), max(-shift_frames, 0) + max(frames - abs(shift_frames), 0))


def moved_sound(waveform: Waveform, kept: range, shift_frames: int) -> Waveform:
    """The sound of those frames, each frame's that of frame f + shift."""
    first, last = ((end + shift_frames) * SAMPLES_A_FRAME for end in (kept.start, kept.stop))
    return waveform[first:last]


def _write_clip(root: Path, store: CorpusStore, clip: _Exported) -> None:
    audio, landmarks, sketches, faces = (
        _folder(root, kind, clip.name)
        for kind in (
            iplap_files.AUDIO,
            iplap_files.LANDMARKS,
            iplap_files.SKETCHES,
            iplap_files.FACES,
        )
    )
    samples = np.rint(clip.waveform * INT16_SCALE).astype(np.int16)
    soundfile.write(audio / iplap_files.SOUND, samples, SAMPLE_RATE, subtype="PCM_16")
    np.save(audio / iplap_files.MEL, clip.mel.astype(np.float64))  # as the original: NumPy's and SciPy's default
    pictures = _face_pictures(store, clip.arrays)
    for number, frame in enumerate(clip.kept):
        pose, content = clip.arrays.pose[frame], clip.arrays.content[frame]
        x0, y0, x1, y1 = clip.arrays.boxes[frame].tolist()
        sketch = draw_sketch(pose, content, (y1 - y0, x1 - x0), store.format.crop.size)
        (landmarks / f"{number}.npy").write_bytes(iplap_files.landmark_file(pose, content))
        (sketches / f"{number}.png").write_bytes(_as_png(sketch))
        (faces / f"{number}.png").write_bytes(pictures[frame])


def _folder(root: Path, kind: str, name: str) -> Path:
    folder = root / kind / name
    folder.mkdir(parents=True)
    return folder


def _face_pictures(store: CorpusStore, clip: ClipArrays) -> list[bytes]:
    """The clip's pictures as PNG, in order of frames; those that are PNG byte for byte."""
    first = int(clip.faces_offset[0])
    block = store.face_picture_bytes(clip.faces_shard, first, int(clip.faces_offset[-1] + clip.faces_size[-1]) - first)  # they lie one after the other
    ranges = zip((clip.faces_offset - first).tolist(), clip.faces_size.tolist(), strict=True)
    coded = [block[offset : offset + size] for offset, size in ranges]
    return coded if store.format.picture == "png" else [_recoded(picture, clip) for picture in coded]


def _recoded(coded: bytes, clip: ClipArrays) -> bytes:
    picture = cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise StoreError(f"A picture of clip {clip.clip_id} in the face shard {clip.faces_shard} is damaged.")
    return _as_png(picture)


def _as_png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def _write_lists(root: Path, snapshot: Snapshot) -> None:
    folder = root / iplap_files.LISTS
    folder.mkdir(parents=True)
    for split in SPLITS:
        names = sorted(clip_name(clip) for clip in snapshot.clips if clip.split == split)
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _summary(root: Path, store: CorpusStore, snapshot: Snapshot, frames: list[int]) -> ExportSummary:
    splits = Counter(clip.split for clip in snapshot.clips)
    return ExportSummary(
        out=str(root),
        snapshot=snapshot.name,
        clips={split: splits[split] for split in SPLITS},
        frames=sum(frames),
        short_clips=sum(count < SHORTEST_FRAMES for count in frames),
        shifted_clips=sum(clip.sound_shift_frames != 0 for clip in snapshot.clips),
        crop=store.format.crop,
    )


def _guide(summary: ExportSummary) -> str:
    crop = summary.crop
    here = f"--pre_audio_root {iplap_files.AUDIO} --landmarks_root {iplap_files.LANDMARKS}"
    there = f"--sketch_root {iplap_files.SKETCHES} --face_img_root {iplap_files.FACES} --audio_root {iplap_files.AUDIO}"
    return f"""# A dubmill corpus in IP_LAP's format

Snapshot {summary.snapshot}: {sum(summary.clips.values())} clips, {summary.frames} frames.
Start the original's scripts in this folder, with its repository on PYTHONPATH:

    train_landmarks_generator.py {here}
    train_video_renderer.py {there}

* Crop: padding {crop.padding}, anchor {crop.anchor}, {crop.size} x {crop.size} pixels. The original's own is iplap-train, 128: dub with the one here.
* Pictures and sketches of 256 pixels need `img_size = 256` in train_video_renderer.py.
* The original validates on {iplap_files.LISTS}/test.txt ({summary.clips["test"]} clips) and knows no val.txt ({summary.clips["val"]} clips).
* {summary.short_clips} clips are under {SHORTEST_FRAMES} frames: its training leaves them out.
* Sound is 16 kHz mono; that of {summary.shifted_clips} clips was moved by its A/V offset; frames left without sound are not here.
"""
