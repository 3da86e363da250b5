"""TensorBoard: curves, pictures and short clips of a run, where it is installed and the run's folder is on this machine."""

import importlib.util
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2

from tasks import places
from tasks.interruption import held_back
from tasks.mel_windows import VIDEO_FPS
from tasks.training.state import state_location
from tasks.training.validation import Picture, Preview

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PICTURE, PREVIEW = "picture", "preview"
"""Names on the tab of pictures."""
COLOURS = 64
"""Of an animated GIF: sketches have few, faces stay recognisable, and a few seconds stay under some megabytes."""


class Boards:
    """Writes to TensorBoard's files, or, without a writer, nowhere. TensorBoard's own thread waits for a queue, so nothing is left halfway."""

    def __init__(self, writer: "SummaryWriter | None") -> None:
        self._writer = writer

    def add_scalars(self, split: str, values: Mapping[str, float], step: int) -> None:
        """A point of each curve, named <split>/<name>."""
        if self._writer is None:
            return
        with held_back():
            for name, value in values.items():
                self._writer.add_scalar(f"{split}/{name}", value, step)

    def add_picture(self, picture: Picture, step: int) -> None:
        """A picture (H, W, 3) uint8 BGR."""
        if self._writer is not None:
            with held_back():
                self._writer.add_image(PICTURE, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), step, dataformats="HWC")

    def add_preview(self, preview: Preview, step: int) -> None:
        """A short clip as an animated GIF, without its sound; nothing where Pillow is not installed."""
        if self._writer is None or importlib.util.find_spec("PIL") is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        height, width = preview.frames.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=animated_gif(preview))
        file_writer: Any = self._writer.file_writer
        with held_back():
            file_writer.add_summary(Summary(value=[Summary.Value(tag=PREVIEW, image=image)]), step)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            with held_back():
                self._writer.close()


def open_boards(out: str, next_step: int) -> Boards:
    """The boards of the run in `out`: OUT/state/tensorboard/. Points from `next_step` on that lie there from before are hidden.

    They do nothing where TensorBoard is not installed, or where `out` is a bucket, to which it cannot append.
    """
    if places.is_remote(out) or importlib.util.find_spec("tensorboard") is None:
        return Boards(None)
    from torch.utils.tensorboard import SummaryWriter  # not on the import path of training

    return Boards(SummaryWriter(str(places.local_path(state_location(out, "tensorboard"))), purge_step=next_step))


def animated_gif(preview: Preview) -> bytes:
    """The clip as a GIF that plays at its own pace, over and over. Needs Pillow."""
    from PIL import Image

    pictures = [Image.fromarray(frame[..., ::-1].copy()).quantize(COLOURS) for frame in preview.frames]
    coded = io.BytesIO()
    pictures[0].save(coded, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 // VIDEO_FPS, loop=0)
    return coded.getvalue()
