"""Which H.264 encoder there is: x264 everywhere, NVENC where a GPU and its driver really open it."""

import logging
from fractions import Fraction
from functools import cache
from typing import Literal

import av
import numpy as np
from av.video.frame import VideoFrame

from schemas.errors import SettingsError

Encoder = Literal["auto", "x264", "nvenc"]
Preset = Literal["ultrafast", "veryfast", "fast", "medium", "slow"]

X264, NVENC = "libx264", "h264_nvenc"
NVENC_PRESETS: dict[str, str] = {"ultrafast": "p1", "veryfast": "p2", "fast": "p4", "medium": "p5", "slow": "p7"}
"""NVENC's own, from fastest to best."""

logger = logging.getLogger(__name__)


def encoder_for(wanted: Encoder, width: int, height: int) -> str:
    """ffmpeg's name of the encoder for pictures of a size. Raises SettingsError where NVENC is asked for and does not open.

    auto: NVENC where it opens; where it does not, x264, and the log says why, once for a size.
    """
    if wanted == "x264":
        return X264
    fault = nvenc_fault(width, height)
    if fault is None:
        return NVENC
    if wanted == "nvenc":
        raise SettingsError(f"The encoder NVENC cannot be used here: {fault}; use encoder: x264 or auto.")
    return X264


@cache
def nvenc_fault(width: int, height: int) -> str | None:
    """Why NVENC cannot code pictures of a size here; None where it can. It is opened: that a build of ffmpeg knows it says little."""
    fault = _opening_fault(width, height)
    if fault is not None:
        logger.info("H.264 is coded by x264, since NVENC cannot be used for %d x %d pixels: %s", width, height, fault)
    return fault


def _opening_fault(width: int, height: int) -> str | None:
    try:
        context = av.CodecContext.create(NVENC, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"  # type: ignore[attr-defined]
        context.time_base = Fraction(1, 25)
        grey = VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), format="yuv420p")
        grey.pts, grey.time_base = 0, Fraction(1, 25)
        context.encode(grey)  # type: ignore[attr-defined]
        context.encode(None)  # type: ignore[attr-defined]
    except (av.FFmpegError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def encoder_options(codec: str, crf: int, preset: str) -> dict[str, str]:
    """The options of an encoder for constant quality: `crf` 0..51 of x264, which NVENC's cq is on about the same scale."""
    if codec == NVENC:
        return {"rc": "vbr", "cq": str(crf), "b": "0", "preset": NVENC_PRESETS.get(preset, preset), "profile": "high"}
    return {"crf": str(crf), "preset": preset}
