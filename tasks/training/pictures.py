"""Face pictures of a store by clip and row."""

import numpy as np
import numpy.typing as npt

from tasks.corpus.store import CorpusStore
from tasks.training.footage import Footage

Picture = npt.NDArray[np.uint8]


class FacePictures:
    """The face pictures of a footage's clips."""

    def __init__(self, store: CorpusStore, footage: Footage, cache: str | None = None, cache_mb: int = 20480) -> None:
        self._store = store
        self._footage = footage

    def read(self, clip: int, row: int) -> Picture:
        """The picture (S, S, 3) uint8 BGR of a row of the footage, which is of that clip; StoreError when it cannot be read."""
        footage = self._footage
        return self._store.face_picture(footage.shards[clip], int(footage.picture_offset[row]), int(footage.picture_size[row]))
