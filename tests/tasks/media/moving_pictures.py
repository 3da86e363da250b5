"""Videos whose every picture says which one it is, by its brightness."""

import struct
import subprocess
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from imageio_ffmpeg import get_ffmpeg_exe

BRIGHTNESS_STEP = 4
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
CLOCK = Fraction(1, 90000)
MOST_PICTURES = 56
"""16 + 56 steps of 4 stay below 245."""


def numbered_picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A BGR picture that is grey, the brighter the higher its number, white in its upper left corner and black in its upper right."""
    picture = np.full((height, width, 3), 16 + BRIGHTNESS_STEP * number, dtype=np.uint8)
    picture[: height // 4, : width // 4] = 255
    picture[: height // 4, -width // 4 :] = 0
    return picture


def number_of(picture: np.ndarray) -> int:
    """Which numbered picture this is."""
    height, width = picture.shape[:2]
    middle = picture[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]
    return round((float(middle.mean()) - 16) / BRIGHTNESS_STEP)


def numbers_of(frames: Iterable) -> list[int]:
    """Which numbered pictures frames show."""
    return [number_of(frame.picture) for frame in frames]


def write_pictures(
    path: Path,
    times_s: Sequence[Fraction | float],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    rotation: tuple[float, bool, bool] | None = None,
    clock: Fraction = CLOCK,
    pixel_aspect: Fraction = Fraction(1),
    **options: str,
) -> Path:
    """Numbered pictures shown at given times, for example at a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={name.replace("_", "-"): value for name, value in options.items()})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.time_base = stream.codec_context.time_base = clock
        stream.sample_aspect_ratio = pixel_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="bgr24").reformat(format=pixels, interpolation=EXACT)
            frame.pts, frame.time_base = round(Fraction(time_s) / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def without_length(path: Path, to: Path) -> Path:
    """The same video as a recorder in a browser leaves it: a Matroska file that says neither its length nor where its key frames are."""
    command = [get_ffmpeg_exe(), "-v", "error", "-i", path, "-c", "copy", "-f", "matroska", "pipe:1"]
    to.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return to


def empty_packet(path: Path, number: int) -> None:
    """Makes a packet of an MP4 or QuickTime video empty in its index; its bytes go to the packet before."""
    content = bytearray(path.read_bytes())
    sizes_at = content.index(b"stsz") + 16
    at = sizes_at + 4 * number
    before, size = struct.unpack(">II", content[at - 4 : at + 4])
    content[at - 4 : at + 4] = struct.pack(">II", before + size, 0)
    path.write_bytes(content)


def steady(count: int, fps: Fraction | int, start_s: float = 0) -> list[Fraction]:
    """Times of pictures at a constant rate."""
    return [Fraction(start_s) + number / Fraction(fps) for number in range(count)]
