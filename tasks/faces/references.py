"""Which frames a person is copied from (contract: Dubbing). NumPy alone, for the training path."""

import numpy as np
import numpy.typing as npt


def reference_frames(lip_openings: npt.ArrayLike, wanted: int) -> npt.NDArray[np.int64]:
    """`wanted` of the frames with these lip openings (n,), at even steps from the most closed to the most open; they repeat where n is less."""
    ordered = np.argsort(np.asarray(lip_openings), kind="stable")
    return ordered[even_steps(len(ordered), wanted)].astype(np.int64)


def even_steps(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """`wanted` indices at even steps from the first to the last of `count`."""
    return np.linspace(0, count - 1, wanted).astype(np.int64)
