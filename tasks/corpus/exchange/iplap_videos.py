"""The videos that IP_LAP's preprocessing left in its folders: finding them, and each as clips."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError, StoreError
from schemas.jobs import PlannedSource, Split
from schemas.reasons import Reason
from schemas.settings import FormatSettings
from tasks.audio import Waveform, loudness_db, read_waveform
from tasks.corpus.clip import CONTENT_HASH_LENGTH, FORGOTTEN_DETAIL, SHORTEST_FRAMES, SILENT_DB, Clip, Reject, TurnedAwayError, waveform_piece
from tasks.corpus.exchange import iplap_files
from tasks.corpus.faces import CutFrame, encode_picture
from tasks.corpus.segments import Segment
from tasks.faces import draw_sketch
from tasks.faces.crop import Box, lip_opening
from tasks.media.probe import MediaInfo

FOLDER_WORDS = {"landmarks": "landmark", "faces": "face", "audio": "audio", "sketches": "sketch"}
"""A folder is known by a word in its name: the original's guide says lrs2_face, its program lrs2_face128."""
WIDEST_RATIO = 1.5
"""Of a crop's sides: no face is more oblong."""
EXAMPLES = 3
"""Files that a reject names."""

PNG_MAGIC = b"\x89PNG"

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Folders:
    """Where the parts of each video lie, below `<folder>/<name>`. sketches: None where there are none."""

    landmarks: Path
    faces: Path
    audio: Path
    sketches: Path | None

    @classmethod
    def of(cls, root: Path) -> "Folders":
        """The folders in `root`; StoreError when one is missing or there are several of a kind."""
        found = {kind: _folder(root, word) for kind, word in FOLDER_WORDS.items()}
        missing = [word for kind, word in FOLDER_WORDS.items() if kind != "sketches" and found[kind] is None]
        if missing:
            raise StoreError(f"The folder {root} holds no folder with {' or '.join(missing)} in its name.")
        return cls(**found)  # type: ignore[arg-type] # those that must be there are

    def parts(self, name: str) -> list[Path]:
        """The folders of one video, whether they are there or not."""
        return [root / name for root in (self.landmarks, self.faces, self.audio, self.sketches) if root is not None]


def _folder(root: Path, word: str) -> Path | None:
    try:
        found = [path for path in sorted(root.iterdir()) if word in path.name.lower() and path.is_dir()]
    except OSError as error:
        raise StoreError(f"The folder {root} cannot be listed: {error.strerror}.") from error
    if len(found) > 1:
        raise StoreError(f"The folder {root} holds several folders with {word} in their names: {', '.join(path.name for path in found)}; leave one.")
    return found[0] if found else None


def find_videos(folders: Folders, splits: dict[str, Split]) -> list[PlannedSource]:
    """Every video, in order of names. Its URI is its folder of faces; size and newest time are those of all its files.

    splits: by the name `<folder>/<name>`.
    """
    try:
        names = sorted({name for root in (folders.faces, folders.landmarks) for name in _names(root)})
        return [_source(folders, name, splits.get(name)) for name in names]
    except OSError as error:
        raise StoreError(f"The videos in {folders.faces.parent} cannot be listed: {error.strerror or error}.") from error
    except UnicodeEncodeError as error:
        raise StoreError(f"A name in {folders.faces.parent} is not UTF-8: {error.object!a}; rename it.") from error


def _names(root: Path) -> Iterator[str]:
    for folder in root.iterdir():
        if folder.is_dir():
            yield from (f"{folder.name}/{video.name}" for video in folder.iterdir() if video.is_dir())


def first_picture_size(folders: Folders) -> int | None:
    """Width of the first face picture that can be read, in pixels."""
    for path in folders.faces.glob("*/*/*.png"):
        picture = _pixels(path.read_bytes())
        if picture is not None:
            return int(picture.shape[1])
    return None


def _source(folders: Folders, name: str, split: Split | None) -> PlannedSource:
    name.encode()  # fails for what no table can name
    states = [file.stat() for part in folders.parts(name) if part.is_dir() for file in part.iterdir() if file.exists()]  # not links to nowhere
    newest = max((state.st_mtime_ns for state in states), default=0)
    size = sum(state.st_size for state in states)
    return PlannedSource(uri=str(folders.faces / name), size=size, version=str(newest), speaker=name.partition("/")[0], split=split)


def cut_video(source: PlannedSource, folders: Folders, store_format: FormatSettings, forgotten: frozenset[str] = frozenset()) -> Iterator[Clip | Reject]:
    """Clips and rejects of one video, at least one of either, one clip in memory at a time.

    A frame whose files are missing ends a clip, as a frame without a face does in footage. What is good is kept; damaged
    files, and landmarks without a picture or the other way round, are one reject. forgotten: content hashes and clip_ids to turn away.
    """
    try:
        yield from _cut(source, folders, store_format, forgotten)
    except TurnedAwayError as refusal:
        yield Reject(source.uri, None, refusal.stage, refusal.reason, refusal.detail)
    except OSError as error:
        yield Reject(source.uri, None, "probe", Reason.UNREADABLE, f"{source.uri} cannot be read: {error.strerror or error}.")


def _cut(source: PlannedSource, folders: Folders, store_format: FormatSettings, forgotten: frozenset[str]) -> Iterator[Clip | Reject]:
    name = "/".join(Path(source.uri).parts[-2:])
    video = _Video(name, folders, store_format)
    if video.content_hash in forgotten:
        raise TurnedAwayError("probe", Reason.FORGOTTEN, FORGOTTEN_DETAIL)
    waveform = _sound(folders.audio / name)
    for segment in _segments(video, store_format):
        yield _clip_or_reject(source, video, segment, waveform, forgotten)
    if video.faults:
        examples = "; ".join(video.faults[:EXAMPLES])
        raise TurnedAwayError("decode", Reason.DAMAGED, f"{len(video.faults)} of its {len(video.frames)} frames cannot be used: {examples}.")


def _clip_or_reject(source: PlannedSource, video: "_Video", segment: Segment, waveform: Waveform, forgotten: frozenset[str]) -> Clip | Reject:
    clip_id, frames = f"{video.content_hash}-s{segment.number}t{segment.track}", len(segment.frames)
    if frames < SHORTEST_FRAMES:
        return Reject(source.uri, clip_id, "clip", Reason.TOO_SHORT, f"{frames} frames follow each other; a clip needs {SHORTEST_FRAMES}.")
    if clip_id in forgotten:
        return Reject(source.uri, clip_id, "clip", Reason.FORGOTTEN, FORGOTTEN_DETAIL)
    info = MediaInfo(has_video=True, has_audio=True, width=video.size, height=video.size)
    sound = waveform_piece(waveform, segment.start_frame, frames)
    return Clip(clip_id=clip_id, source=source, info=info, segment=segment, waveform=sound, path=video.pictures)


class _Video:
    """The files of a video. Frames that cannot be used are named in `faults` once they were asked for."""

    def __init__(self, name: str, folders: Folders, store_format: FormatSettings) -> None:
        self.size, self._coding = store_format.crop.size, store_format.picture
        self.landmarks, self.pictures = folders.landmarks / name, folders.faces / name
        self.sketches = folders.sketches / name if folders.sketches is not None else None
        with_landmarks, with_picture = _numbered(self.landmarks, ".npy"), _numbered(self.pictures, ".png")
        self.frames = sorted(with_landmarks | with_picture)
        self.faults = [f"frame {frame} has no landmarks" for frame in sorted(with_picture - with_landmarks)]
        self.faults += [f"frame {frame} has no picture" for frame in sorted(with_landmarks - with_picture)]
        self.usable = sorted(with_landmarks & with_picture)
        if not self.frames:
            raise TurnedAwayError("faces", Reason.NO_FACE, "There is no frame in it.")
        self.content_hash = _content_hash([folders.audio / name / iplap_files.SOUND, *self._files()])
        self._oblong = 0

    def read(self, frame: int) -> CutFrame | None:
        """A frame, its picture byte for byte where the store codes as PNG; None, and a fault, when it cannot be used."""
        try:
            pose, content = iplap_files.read_landmark_file(self.landmarks / f"{frame}.npy")
            coded = (self.pictures / f"{frame}.png").read_bytes()
            picture = _decoded(coded, self.size)
        except ValueError as error:
            self.faults.append(f"frame {frame}: {error}")
            return None
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        return CutFrame(
            box=self._box(frame, pose, content),
            pose=pose,
            content=content,
            lip_opening=lip_opening(content),
            detected=True,
            picture=coded if self._coding == "png" and coded.startswith(PNG_MAGIC) else encode_picture(picture, self._coding),
            sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
            brightness=float(grey.mean()),
        )

    def _files(self) -> Iterator[Path]:
        return (path for frame in self.usable for path in (self.landmarks / f"{frame}.npy", self.pictures / f"{frame}.png"))

    def _box(self, frame: int, pose: FloatArray, content: FloatArray) -> Box:
        """The crop's own pixels, with the ratio in which the sketch was drawn: where it lay in the source, and how large, is lost."""
        path = None if self.sketches is None else self.sketches / f"{frame}.png"
        sketch = _pixels(path.read_bytes()) if path is not None and path.is_file() else None
        if sketch is not None and sketch.shape == (self.size, self.size, 3):
            self._oblong = oblong_of_sketch(sketch, pose, content, self._oblong)
        height, width = _canvas(self._oblong, self.size)
        return Box(0.0, 0.0, float(width), float(height))


def oblong_of_sketch(sketch: Picture, pose: FloatArray, content: FloatArray, near: int) -> int:
    """By how many pixels the canvas of a sketch (S, S, 3) was higher than wide before it was resized (negative: wider).

    The first, from `near` on, that draws the very same sketch again; else the one that comes nearest.
    """
    size = len(sketch)
    limit = int((WIDEST_RATIO - 1) * size)
    best, least = 0, float("inf")
    for oblong in sorted(range(-limit, limit + 1), key=lambda oblong: (abs(oblong - near), oblong)):
        difference = float(cv2.norm(sketch, draw_sketch(pose, content, _canvas(oblong, size), size), cv2.NORM_L1))
        if difference < least:
            best, least = oblong, difference
        if not difference:
            break
    return best


def _canvas(oblong: int, size: int) -> tuple[int, int]:
    return size + max(oblong, 0), size + max(-oblong, 0)


def _numbered(folder: Path, suffix: str) -> set[int]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        files = [Path(entry.name) for entry in entries if entry.is_file()]  # no folders, pipes or links to nowhere
    return {int(path.stem) for path in files if path.suffix == suffix and path.stem.isdecimal() and str(int(path.stem)) == path.stem}


def _content_hash(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in files:
        coded = path.read_bytes() if path.is_file() else b""
        content.update(f"{path.name} {len(coded)}\n".encode())
        content.update(coded)
    return content.hexdigest()[:CONTENT_HASH_LENGTH]


def _pixels(coded: bytes) -> Picture | None:
    """A picture (H, W, 3) BGR; None where it cannot be decoded."""
    try:
        picture = cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_COLOR) if coded else None
    except cv2.error:  # its header asks for more than OpenCV takes
        return None
    return None if picture is None else np.asarray(picture, dtype=np.uint8)


def _decoded(coded: bytes, size: int) -> Picture:
    picture = _pixels(coded)
    if picture is None:
        raise ValueError("its picture cannot be decoded")
    if picture.shape != (size, size, 3):
        raise ValueError(f"its picture is {picture.shape[1]} x {picture.shape[0]}, not {size} x {size}")
    return picture


def _sound(folder: Path) -> Waveform:
    """The sound of a video from its first frame on; TurnedAwayError when there is none. Mels are made of it anew: pieces need their own."""
    path = folder / iplap_files.SOUND
    if not path.is_file():
        raise TurnedAwayError("audio", Reason.NO_AUDIO, f"There is no {iplap_files.SOUND} in {folder}.")
    try:
        waveform = read_waveform(path)
    except MediaError as error:
        raise TurnedAwayError("audio", error.reason, str(error)) from error
    if loudness_db(waveform) < SILENT_DB:
        raise TurnedAwayError("audio", Reason.SILENT_AUDIO, f"Its sound stays under {SILENT_DB:.0f} dB.")
    return waveform


def _segments(video: _Video, store_format: FormatSettings) -> Iterator[Segment]:
    """Frames that follow each other, at most `segment_s` long; counted from 0."""
    longest, number = int(store_format.segment_s * store_format.fps), 0
    held: list[CutFrame] = []
    last = -1
    for frame in video.usable:
        cut = video.read(frame)
        if held and (cut is None or frame != last + 1 or len(held) == longest):
            yield Segment(0, number, last + 1 - len(held), tuple(held))
            number, held = number + 1, []
        if cut is not None:
            held.append(cut)
            last = frame
    if held:
        yield Segment(0, number, last + 1 - len(held), tuple(held))
