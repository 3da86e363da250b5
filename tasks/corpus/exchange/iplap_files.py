"""Where IP_LAP's preprocessing puts what it makes of a video, and its landmark files.

A video is `<folder>/<name>`, two levels, under each of four roots: `<frame>.npy` landmarks, `<frame>.png` faces and sketches,
`audio.wav` and `audio.npy` (mel). Frames are counted from 0 at 25 a second; a frame without a face has no files.
"""

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.face_points import CONTENT_INDICES, POSE_INDICES

LANDMARKS: Final = "lrs2_landmarks"
FACES: Final = "lrs2_face"
SKETCHES: Final = "lrs2_sketch"
AUDIO: Final = "lrs2_audio"
"""The four roots as its guide calls them."""
LISTS: Final = "filelists/lrs2"
"""Where its training scripts look for train.txt and test.txt, below the folder they are started in."""
SOUND = "audio.wav"
MEL = "audio.npy"
POSE_KEY, CONTENT_KEY = "pose_landmarks", "content_landmarks"
"""A landmark file is a dict of two lists of (MediaPipe index, x, y), 0..1 of the crop."""

LONGEST_NAME = 200
"""Bytes of a folder's name, before what tells two long ones apart; file systems take 255."""
LONGEST_FAULT = 200
"""Characters of what is said of a damaged file: it may name itself anything."""
UNSAFE = re.compile(r"[^\w.-]")
"""What must not be in a name: a list's line ends at a space, the search for frames takes brackets and stars for patterns."""
LARGEST_LANDMARK_FILE = 1_000_000
"""Bytes; real ones have about 4000. A larger file is none, and is not read."""

FloatArray = npt.NDArray[np.float32]


def folder_name(speaker: str) -> str:
    """A speaker as the name of a folder that the original's file lists can hold; different speakers keep different names."""
    safe = UNSAFE.sub("_", speaker).encode()[:LONGEST_NAME].decode(errors="ignore")
    if safe == speaker and safe[:1] not in ("", ".", "-"):
        return safe
    return f"x{safe}-{hashlib.sha256(speaker.encode()).hexdigest()[:8]}"


def landmark_file(pose: FloatArray, content: FloatArray) -> bytes:
    """The content of a landmark file. pose (2, 74), content (2, 57): x then y, 0..1 of the crop."""
    held = {POSE_KEY: _listed(POSE_INDICES, pose), CONTENT_KEY: _listed(CONTENT_INDICES, content)}
    coded = io.BytesIO()
    np.save(coded, np.array(held, dtype=object), allow_pickle=True)
    return coded.getvalue()


def read_landmark_file(path: Path) -> tuple[FloatArray, FloatArray]:
    """Pose (2, 74) and content (2, 57) float32, x then y, of a landmark file. OSError when it is not there, ValueError when it is none.

    Such a file is a pickle, which could run anything: it is read without calling anything that it names.
    """
    if path.stat().st_size > LARGEST_LANDMARK_FILE:
        raise ValueError("it is too large for a landmark file")
    coded = path.read_bytes()
    try:
        held = _unpickled(coded)
        pose, content = _ordered(held[POSE_KEY], POSE_INDICES), _ordered(held[CONTENT_KEY], CONTENT_INDICES)
    except Exception as error:  # damaged pickles end in errors of any kind
        said = str(error)[:LONGEST_FAULT].encode("ascii", "backslashreplace").decode()  # a table takes no half characters
        raise ValueError(f"it is no landmark file: {said}") from error
    if not (np.isfinite(pose).all() and np.isfinite(content).all()):
        raise ValueError("its landmarks are not numbers")
    return pose, content


def _listed(indices: tuple[int, ...], points: FloatArray) -> list[tuple[int, float, float]]:
    """In order of the MediaPipe indices, as the original has them."""
    return sorted((index, float(x), float(y)) for index, x, y in zip(indices, points[0], points[1], strict=True))


def _ordered(listed: list[tuple[int, Any, Any]], indices: tuple[int, ...]) -> FloatArray:
    places = {int(index): (_number(x), _number(y)) for index, x, y in listed}
    with np.errstate(over="ignore"):  # too large becomes infinite, which is refused
        return np.array([places[index] for index in indices], dtype=np.float32).T.copy()


def _number(value: Any) -> float:
    """A Python number, or NumPy's: (its dtype, its bytes)."""
    if isinstance(value, _Inert):
        kind, raw = value.arguments
        return float(np.frombuffer(raw, dtype=np.dtype(str(kind.arguments[0])))[0])
    return float(value)


def _unpickled(coded: bytes) -> dict[str, Any]:
    """The dict of a landmark file: the one element of an array of objects."""
    file = io.BytesIO(coded)
    header: Any = np.lib.format
    if header.read_magic(file) != (1, 0):
        raise ValueError("its header is not that of a landmark file")
    shape, _, kind = header.read_array_header_1_0(file)
    if shape != () or not kind.hasobject:
        raise ValueError("it holds an array")
    return _LandmarkUnpickler(file).load().state[-1][0]


class _Inert:
    """Stands for whatever of NumPy a pickle names: keeps what it is given and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _LandmarkUnpickler(pickle._Unpickler):
    """Reads pickles of plain values and NumPy arrays; anything else that a pickle names is an error.

    The one written in Python: in the compiled one six bytes can ask for 64 GB, a place far beyond its memo's end.
    """

    def find_class(self, module: str, name: str) -> type[_Inert]:
        """NumPy's own are read as _Inert; nothing is imported."""
        if module.partition(".")[0] == "numpy" and name in {"_reconstruct", "ndarray", "dtype", "scalar"}:
            return _Inert
        raise pickle.UnpicklingError(f"it names {module}.{name}")
