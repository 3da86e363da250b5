"""How far sound and picture of a clip are apart, by lip motion against the speech's loudness."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SyncMeasure:
    """offset_frames: frames of 1/25 s by which the sound comes after the picture; confidence: 0..1. Both None: not measured."""

    offset_frames: float | None
    confidence: float | None


NOT_MEASURED = SyncMeasure(None, None)


def lip_sync_offset(lip_opening: npt.NDArray[np.floating], waveform: FloatArray) -> SyncMeasure:
    """The A/V offset of a clip; NOT_MEASURED."""
    del lip_opening, waveform
    return NOT_MEASURED
