"""What rendering a dub costs: its arithmetic at the published size, and about how long this machine's processor takes for it."""

import os
import time

import numpy as np

GFLOP_A_REFERENCE, GFLOP_A_FRAME = 25.3, 76.0
"""Of the published renderer at 128 pixels: for each frame 25.3 a reference and 76 besides. The landmark generator is under 1 % of it."""
SHARE_OF_PRODUCT = 0.8
"""Of the rate of a matrix product that rendering in float32 reaches on a processor (docs/benchmarks.md, "Generation")."""
PRODUCT_SIDE, PRODUCTS = 1024, 4
"""Of the matrices that are multiplied to measure that rate, and how often: about a tenth of a second of one core."""


def tflop_of(frames: int, references: int, size: int) -> float:
    """Arithmetic of rendering frames at the published size, in TFLOP; four times as much at 256 pixels as at 128."""
    return frames * (GFLOP_A_REFERENCE * references + GFLOP_A_FRAME) * (size / 128) ** 2 / 1000


def processor_s(tflop: float) -> float:
    """Seconds that this machine's processor takes to render so much arithmetic in float32 when nothing else runs on it; within a third or so."""
    return tflop / (SHARE_OF_PRODUCT * _tflop_a_core_second() * len(os.sched_getaffinity(0))) if tflop else 0.0


def _tflop_a_core_second() -> float:
    """What a core does of a float32 matrix product, measured now, with numpy because a check does not load torch.

    By processor time: of a busy machine's wall-clock time, how much of it went to others would be measured.
    """
    left, right = np.random.default_rng(0).standard_normal((2, PRODUCT_SIDE, PRODUCT_SIDE), dtype=np.float32)
    quickest_s = min(_processor_time_s(left, right) for _ in range(PRODUCTS))
    return 2 * PRODUCT_SIDE**3 / quickest_s / 1e12


def _processor_time_s(left: np.ndarray, right: np.ndarray) -> float:
    start_s = time.process_time()
    np.matmul(left, right)
    return time.process_time() - start_s
