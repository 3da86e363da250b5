"""A small corpus store of drawn faces whose mouths follow their sound: something that both networks can learn in seconds."""

import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.jobs import Snapshot, SnapshotClip
from schemas.settings import CropSettings, FormatSettings, SnapshotSettings
from schemas.tables import AUDIO, AUDIO_HASHES, CLIPS, FACE_HASHES, LANDMARKS
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore

BATCH = "b0"
SNAPSHOT = "frozen"
BOX = (10.0, 20.0, 110.0, 140.0)


def make_training_corpus(folder: Path, frames: dict[str, list[int]], size: int = 128) -> CorpusStore:
    """Writes a store with one batch and the snapshot SNAPSHOT; `frames` gives the clips' lengths by split."""
    lengths = [(split, count) for split, counts in frames.items() for count in counts]
    clips = [_clip(index, count, size) for index, (_, count) in enumerate(lengths)]
    for name in (layout.FACES, layout.AUDIO, layout.LANDMARKS, layout.CLIPS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shard = b"".join(picture for clip in clips for picture in clip["pictures"])
    (folder / layout.FACES / layout.shard_name(BATCH, 0)).write_bytes(shard)
    _write_tables(folder, clips)
    store = CorpusStore.create_or_open(str(folder), FormatSettings(crop=CropSettings(size=size)))
    chosen = tuple(SnapshotClip(clip_id=clip["clip_id"], batch=BATCH, speaker="a", split=split) for clip, (split, _) in zip(clips, lengths, strict=True))
    snapshot = Snapshot(name=SNAPSHOT, selection=SnapshotSettings(), format=store.format, clips=chosen, left_out={}, split_by="clip")
    location = Path(layout.snapshot_location(str(folder), SNAPSHOT))
    location.parent.mkdir(exist_ok=True)
    location.write_text(snapshot.model_dump_json())
    return store


def _clip(index: int, frames: int, size: int) -> dict[str, object]:
    random = np.random.default_rng(index)
    opening = np.clip(np.sin(np.arange(frames) * 0.9 + index), 0, 1).astype(np.float32)
    face = _mean_face() + random.normal(0, 0.01, (2, 1)).astype(np.float32)
    sway = 0.02 * np.sin(np.arange(frames) / 7 + index).astype(np.float32)
    points = np.repeat(face[None], frames, axis=0)
    points[:, 0] += sway[:, None]
    points[:, 1, 74 : 74 + 17] += 0.06 * opening[:, None]
    points[:, 1, 74 + 37 :] += 0.05 * opening[:, None]
    mel = np.repeat(opening, 4)[: int(frames * 3.2)]
    return {
        "clip_id": f"{index:016x}-s0t0",
        "frames": frames,
        "points": points,
        "mel": (4 * mel[:, None] - 3 + random.normal(0, 0.1, (len(mel), 80))).astype(np.float32),
        "pictures": [_picture(points[frame], size) for frame in range(frames)],
    }


def _mean_face() -> np.ndarray:
    """(2, 131): pose, then content, on ellipses."""

    def ellipse(count: int, x: float, y: float, width: float, height: float, start: float, end: float) -> np.ndarray:
        angles = np.linspace(start, end, count) * np.pi
        return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)])

    upper, eyes = ellipse(8, 0.5, 0.5, 0.45, 0.45, 1.0, 2.0), ellipse(66, 0.5, 0.35, 0.25, 0.08, 0.0, 2.0)
    jaw, lips = ellipse(17, 0.5, 0.5, 0.42, 0.4, 0.0, 1.0), ellipse(40, 0.5, 0.7, 0.13, 0.04, 1.0, 3.0)
    return np.concatenate([upper, eyes, jaw, lips], axis=1).astype(np.float32)


def _picture(points: np.ndarray, size: int) -> bytes:
    picture = np.full((size, size, 3), (90, 120, 160), dtype=np.uint8)
    pixels = (points.T * size).astype(np.int32)
    cv2.fillPoly(picture, [pixels[91:]], (40, 30, 150))
    cv2.polylines(picture, [pixels[74:91]], isClosed=False, color=(60, 80, 110), thickness=2)
    cv2.fillPoly(picture, [pixels[8:74]], (200, 200, 200))
    return cv2.imencode(".png", picture)[1].tobytes()


def _write_tables(folder: Path, clips: list[dict]) -> None:
    offset = 0
    with (
        pq.ParquetWriter(folder / layout.CLIPS / f"{BATCH}.parquet", CLIPS) as clips_table,
        pq.ParquetWriter(folder / layout.AUDIO / f"{BATCH}.parquet", AUDIO) as audio,
        pq.ParquetWriter(folder / layout.LANDMARKS / f"{BATCH}.parquet", LANDMARKS) as landmarks,
    ):
        for clip in clips:
            clips_table.write_table(pa.Table.from_pylist([_clip_row(clip, offset)], schema=CLIPS))
            sound = {"clip_id": clip["clip_id"], "sample_rate": 16000, "mel": clip["mel"].tolist(), "flac": b""}
            audio.write_table(pa.Table.from_pylist([sound], schema=AUDIO))
            landmarks.write_table(pa.Table.from_pylist(_landmark_rows(clip), schema=LANDMARKS))
            offset += sum(map(len, clip["pictures"]))


def _clip_row(clip: dict, offset: int) -> dict[str, object]:
    sizes = [len(picture) for picture in clip["pictures"]]
    of_kind = {"string": "", "int32": 0, "double": 0.0, "float": 0.0}
    row = {field.name: None if field.nullable else of_kind.get(str(field.type)) for field in CLIPS}
    offsets = [offset + sum(sizes[:frame]) for frame in range(len(sizes))]
    return row | {
        "clip_id": clip["clip_id"],
        "speaker": "a",
        "frames": clip["frames"],
        "fps": 25.0,
        "duration_s": clip["frames"] / 25,
        "face_px": 100.0,
        "detected_share": 1.0,
        "face_hash": [zlib.crc32(picture) for picture in clip["pictures"][:FACE_HASHES]],
        "audio_hash": [zlib.crc32(clip["mel"][number::AUDIO_HASHES].tobytes()) for number in range(AUDIO_HASHES)],
        "faces_shard": layout.shard_name(BATCH, 0),
        "faces_offset": offsets,
        "faces_size": sizes,
        "faces_crc32": [zlib.crc32(picture) for picture in clip["pictures"]],
    }


def _landmark_rows(clip: dict) -> list[dict[str, object]]:
    common = {"clip_id": clip["clip_id"], "box": BOX, "lip_opening": 0.1, "detected": "detected"}
    return [
        {**common, "frame": frame, "pose": points[:, :74].reshape(-1).tolist(), "content": points[:, 74:].reshape(-1).tolist()}
        for frame, points in enumerate(clip["points"])
    ]
