"""Which piece of a mel spectrogram belongs to a video frame (contract: Audio). NumPy alone, for the training path."""

import numpy as np
import numpy.typing as npt

MEL_FPS = 80
"""Mel frames a second."""
WINDOW_FRAMES = 16
"""Mel frames in a window: five video frames at 25 a second."""
VIDEO_FPS = 25
SILENCE = -4.0
"""The lowest value of the normalised mel spectrogram; what lies outside the sound is silence."""
WINDOWS_AT_ONCE = 64
"""Windows that are turned at once: 300 kB, which stay in the processor's cache. Whole batches at once take three times as long."""

FloatArray = npt.NDArray[np.float32]


def window_start(frame: int) -> int:
    """First mel frame of the window of video frame `frame` (25 fps): int(80 (f - 2) / 25). Negative before frame 2."""
    return int(MEL_FPS * (frame - 2) / VIDEO_FPS)


def window_starts(frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`window_start` for many frames; rounds towards zero, as Python's int does."""
    return np.trunc(MEL_FPS * (frames - 2) / VIDEO_FPS).astype(np.int64)


def mel_windows(
    mel: FloatArray, starts: npt.NDArray[np.int64], first: npt.NDArray[np.int64] | None = None, frames: npt.NDArray[np.int64] | None = None
) -> FloatArray:
    """Windows of a mel spectrogram (frames, 80) as the networks take them: (n, 1, 80, 16), silence outside the sound.

    Where `mel` holds several sounds laid end to end, each window's own begins at row first (n,) and is frames (n,) long;
    starts (n,) count from there.
    """
    own_first = np.zeros_like(starts) if first is None else first
    own_frames = np.full_like(starts, len(mel)) if frames is None else frames
    windows = np.empty((len(starts), mel.shape[1], WINDOW_FRAMES), dtype=np.float32)
    if len(mel) >= WINDOW_FRAMES:
        rows = np.clip(starts + own_first, 0, len(mel) - WINDOW_FRAMES)
        everywhere = np.lib.stride_tricks.sliding_window_view(mel, WINDOW_FRAMES, axis=0)
        for some in (slice(begin, begin + WINDOWS_AT_ONCE) for begin in range(0, len(starts), WINDOWS_AT_ONCE)):
            windows[some] = everywhere[rows[some]]
    outer = np.flatnonzero((starts < 0) | (starts + WINDOW_FRAMES > own_frames))
    if len(outer):
        windows[outer] = _partly_silent(mel, starts[outer], own_first[outer], own_frames[outer])
    return windows[:, None]


def _partly_silent(mel: FloatArray, starts: npt.NDArray[np.int64], first: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> FloatArray:
    """Windows (n, 80, 16) that may reach beyond their sounds."""
    indices = starts[:, None] + np.arange(WINDOW_FRAMES)
    inside = (indices >= 0) & (indices < frames[:, None])
    windows = np.full((*indices.shape, mel.shape[1]), SILENCE, dtype=np.float32)
    windows[inside] = mel[(indices + first[:, None])[inside]]
    return windows.transpose(0, 2, 1)
