"""Cut frames put aside on disk until it is settled that their source is kept: a source may be hours long."""

import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from schemas.errors import StoreError
from schemas.tables import CONTENT_NUMBERS, POSE_NUMBERS
from tasks.corpus.faces import CutFrame
from tasks.faces.crop import Box

ROW = np.dtype(
    [
        ("box", np.float64, 4),
        ("pose", np.float32, (2, POSE_NUMBERS // 2)),
        ("content", np.float32, (2, CONTENT_NUMBERS // 2)),
        ("lip_opening", np.float64),
        ("detected", np.bool_),
        ("sharpness", np.float64),
        ("brightness", np.float64),
        ("picture_bytes", np.int64),
    ]
)
"""A frame without its picture; the pictures of a piece follow its rows."""


class FrameSpool:
    """Pieces of cut frames in a temporary file, given back unchanged in the order in which they were put. A context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="dubmill-spool-")  # noqa: SIM115 (closed by __exit__)
        self._pieces = 0

    def put(self, frames: Sequence[CutFrame]) -> None:
        """Adds a piece. Raises StoreError when the temporary folder is full."""
        rows = np.array([_row(frame) for frame in frames], dtype=ROW)
        try:
            np.save(self._file, rows)
            self._file.writelines(frame.picture for frame in frames)
        except OSError as error:
            raise StoreError(f"The folder of temporary files {tempfile.gettempdir()} cannot be written: {error.strerror or error}.") from error
        self._pieces += 1

    def pieces(self) -> Iterator[tuple[CutFrame, ...]]:
        """All pieces, one in memory at a time."""
        self._file.seek(0)
        for _ in range(self._pieces):
            rows = np.load(self._file)
            yield tuple(_frame(row, self._file.read(int(row["picture_bytes"]))) for row in rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def _row(frame: CutFrame) -> tuple[object, ...]:
    box = (frame.box.x0, frame.box.y0, frame.box.x1, frame.box.y1)
    measures = (frame.lip_opening, frame.detected, frame.sharpness, frame.brightness)
    return (box, frame.pose, frame.content, *measures, len(frame.picture))


def _frame(row: np.void, picture: bytes) -> CutFrame:
    return CutFrame(
        box=Box(*row["box"].tolist()),
        pose=row["pose"],
        content=row["content"],
        lip_opening=float(row["lip_opening"]),
        detected=bool(row["detected"]),
        picture=picture,
        sharpness=float(row["sharpness"]),
        brightness=float(row["brightness"]),
    )
