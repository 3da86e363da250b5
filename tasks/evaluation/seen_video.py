"""What an evaluation sees and hears of one video: landmarks of every frame, what lies before the mouth, the sound."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import MediaError
from schemas.face_points import CONTENT_POSITIONS, ORDER, POSE_POSITIONS
from schemas.reasons import Reason
from tasks.audio import SAMPLE_RATE, Waveform, mel_spectrogram, read_waveform
from tasks.dubbing.covered import PATCHES, mouth_look
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import Frame, read_frames
from tasks.media.probe import probe
from tasks.mel_windows import VIDEO_FPS

FloatArray = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeenVideo:
    """A video of T frames, 25 a second."""

    path: Path
    size: tuple[int, int]
    """Height and width in pixels."""
    points: Points
    """(T, 131, 2) source pixels, x then y, in `schemas.face_points.ORDER`; NaN where no face is found."""
    looks: FloatArray
    """(T, PATCHES, 3): see `tasks.dubbing.covered`; NaN where no face is found."""
    waveform: Waveform
    """From the first frame's time to the last one's end, 16 kHz; empty where there is no sound."""

    @property
    def found(self) -> BoolArray:
        """(T,) frames with a face."""
        return np.isfinite(self.points).all(axis=(1, 2))

    @property
    def content(self) -> FloatArray:
        """(T, 2, 57) in source pixels."""
        return np.ascontiguousarray(self.points[:, CONTENT_POSITIONS].transpose(0, 2, 1), dtype=np.float32)

    @property
    def pose(self) -> FloatArray:
        """(T, 2, 74) in source pixels."""
        return np.ascontiguousarray(self.points[:, POSE_POSITIONS].transpose(0, 2, 1), dtype=np.float32)

    def mel(self) -> FloatArray:
        """The mel spectrogram (frames, 80) of the sound; no frames without sound."""
        return mel_spectrogram(self.waveform) if len(self.waveform) else np.empty((0, 80), np.float32)

    def first(self, frames: int) -> "SeenVideo":
        """Its first frames alone."""
        return SeenVideo(self.path, self.size, self.points[:frames], self.looks[:frames], self.waveform[: samples_of(frames)])


def see_video(path: Path, longest_s: float, mesh: FaceMesh) -> SeenVideo:
    """Looks at every frame of a video, up to `longest_s` seconds from its beginning.

    MediaError: of `read_frames`, and TOO_SHORT for a video without a frame. A second face of a picture is not looked at.
    """
    points, looks, size = [], [], (0, 0)
    for frame in first_frames(path, longest_s):
        size = frame.picture.shape[0], frame.picture.shape[1]
        found = mesh.find(frame.picture)
        points.append(np.full((len(ORDER), 2), np.nan) if found is None else found)
        looks.append(np.full((PATCHES, 3), np.nan, np.float32) if found is None else mouth_look(frame.picture, found))
    if not points:
        raise MediaError(Reason.TOO_SHORT, f"{path} has no frame.")
    return SeenVideo(path, size, np.stack(points), np.stack(looks), _heard(path, len(points)))


def first_frames(path: Path, longest_s: float) -> Iterator[Frame]:
    """The frames of a video, 25 a second, up to so many seconds; with one decoder thread, as many may work side by side."""
    return read_frames(path, VIDEO_FPS, 0, max(1, round(longest_s * VIDEO_FPS)), threads=1)


def samples_of(frames: int) -> int:
    """Samples of the sound of so many frames."""
    return frames * SAMPLE_RATE // VIDEO_FPS


def _heard(path: Path, frames: int) -> Waveform:
    info = probe(path)
    if not info.has_audio:
        return np.empty(0, np.float32)
    try:
        return read_waveform(path, info.start_s, samples_of(frames))
    except MediaError as error:
        if error.reason is Reason.NO_AUDIO:
            return np.empty(0, np.float32)
        raise
