"""The new faces alone, for editors who lay them over the graded picture themselves: a PNG with alpha for each frame, and where it goes."""

import json
import re
from array import array
from contextlib import suppress
from fractions import Fraction
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import StoreError
from schemas.locations import without_secrets
from tasks.faces.crop import Box
from tasks.places import join, list_names, remove, write_bytes

Picture = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

INDEX = "patch.json"
UNFINISHED = "patch.unfinished"
"""Stands for the index while pictures are written: pictures in a folder with neither of them are somebody's own."""
DIGITS = 6
"""Of the frame's number in a file's name: names sort as frames up to eleven hours at 25 a second, which is what editors import by."""
NAMED = re.compile(r"\d{6,}(-\d+)?\.png")
COMPRESSION = 3
"""Of PNG, 0..9: more takes longer than rendering and saves little."""
NUMBERS_A_FACE = 6


def with_alpha(face: FloatArray, mask: FloatArray) -> Picture:
    """A face (h, w, 3), 0..255, not blended with anything, and how much of it shows (h, w), 0..1, as (h, w, 4) uint8 BGRA, straight alpha."""
    return np.rint(np.dstack([face, mask * 255])).clip(0, 255).astype(np.uint8)


class PatchWriter:
    """Writes `<frame>.png` files to a folder or prefix, and at a clean end `patch.json`; a context manager.

    patch.json: fps (exact, "30000/1001"), width and height of the video, and frames: a list of {frame, file, box}, the box being
    x0, y0, x1, y1 in the video's pixels, x1 and y1 outside, as large as the picture. It is there only when all pictures are; after an
    error neither it nor they are. Pictures of an earlier dub that are still there go first; files with other names stay. Frames that show the
    source alone have no picture, and where several people are dubbed at once the others' names end in -1, -2 and so on. Each file appears
    whole. Raises StoreError when the place cannot be written, or holds pictures of such names that are of no patch.
    """

    def __init__(self, location: str, fps: Fraction, width: int, height: int) -> None:
        self.location = location
        self._video = {"fps": str(Fraction(fps)), "width": width, "height": height}
        self._boxes = array("l")  # six numbers a face: an hour of one is under 5 MB

    def __enter__(self) -> Self:
        self._remove_earlier()
        write_bytes(join(self.location, UNFINISHED), b"")
        return self

    def _remove_earlier(self) -> None:
        """Takes away what an earlier dub left here, also one that was killed: editors import whole folders by name."""
        try:
            names = list_names(self.location)
        except OSError:  # who may write there, but not look
            return
        pictures = [name for name in names if NAMED.fullmatch(name)]
        if pictures and not {INDEX, UNFINISHED} & set(names):
            raise StoreError(f"{without_secrets(self.location)} holds pictures such as {pictures[0]} that are of no patch; give the patch another folder.")
        if INDEX in names:  # first: it never tells of pictures that are gone
            write_bytes(join(self.location, UNFINISHED), b"")
            remove(join(self.location, INDEX))
        for name in pictures:
            remove(join(self.location, name))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._remove_written()
            return
        write_bytes(join(self.location, INDEX), json.dumps({**self._video, "frames": self._index()}).encode())
        remove(join(self.location, UNFINISHED))

    def _remove_written(self) -> None:
        """Takes away the pictures of a dub that broke off; where that fails, too, the next dub does it."""
        with suppress(StoreError, OSError):  # the error that broke it off is the one to be told
            for frame, part, *_ in self._numbers():
                remove(join(self.location, _name(frame, part)))
            remove(join(self.location, UNFINISHED))

    def write(self, frame: int, face: Picture, box: Box, part: int = 0) -> None:
        """Writes the face (h, w, 4) uint8 BGRA of an output frame, h × w being the box in whole pixels; part: which of several speakers."""
        x0, y0, x1, y1 = box.pixels
        if face.shape != (y1 - y0, x1 - x0, 4) or face.dtype != np.uint8:
            raise ValueError(f"a face of {face.shape} {face.dtype} does not fill a box of {x1 - x0} x {y1 - y0} pixels with alpha")
        _, coded = cv2.imencode(".png", face, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
        self._boxes.extend((frame, part, x0, y0, x1, y1))  # first: a file that is stopped on its way is removed, too
        write_bytes(join(self.location, _name(frame, part)), coded.tobytes())

    def _index(self) -> list[dict[str, object]]:
        return [{"frame": frame, "file": _name(frame, part), "box": box} for frame, part, *box in sorted(self._numbers())]

    def _numbers(self) -> list[list[int]]:
        """Frame, part and box of all faces written."""
        rows: list[list[int]] = np.array(self._boxes, dtype=np.int64).reshape(-1, NUMBERS_A_FACE).tolist()
        return rows


def _name(frame: int, part: int) -> str:
    return f"{frame:0{DIGITS}d}{f'-{part}' if part else ''}.png"
