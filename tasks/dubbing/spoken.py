"""What the face shows at every frame of the output: head pose from the source, mouth and jaw from the speech."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.dubbing.composite import Contours
from tasks.dubbing.generate import Generator
from tasks.dubbing.template import Template
from tasks.dubbing.timeline import Run, face_runs, interpolate, played_frames
from tasks.faces import draw_sketch
from tasks.faces.crop import Box
from tasks.mel_windows import VIDEO_FPS, mel_windows, window_starts

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SpokenRun:
    """One unbroken run of n output frames with a face, and what it says.

    pose (n, 2, 74) and sizes (n, 2) (height, width of the box): at the output frames.
    content (steps, 2, 57): generated, at the steps of the 25-frames-a-second timeline.
    """

    run: Run
    pose: FloatArray
    sizes: FloatArray
    content: FloatArray

    def sketches(self, frame: int, size: int) -> npt.NDArray[np.uint8]:
        """The five sketches (5, size, size, 3) around an output frame, 1/25 s apart."""
        times = self.run.step_windows(frame)
        positions = self.run.frame_positions(times)
        faces = zip(interpolate(self.pose, positions), self._content_at(times), interpolate(self.sizes, positions), strict=True)
        return np.stack([draw_sketch(pose, content, (float(height), float(width)), size) for pose, content, (height, width) in faces])

    def content_of(self, frame: int) -> FloatArray:
        """Mouth and jaw (2, 57) at an output frame."""
        return self._content_at(self.run.step_windows(frame)[2:3])[0]

    def _content_at(self, times: npt.NDArray[np.float64]) -> FloatArray:
        return interpolate(self.content, times - self.run.steps.start)


class SpokenVideo:
    """Every output frame's face: which source frame it is of, and what it says."""

    def __init__(self, template: Template, mel: FloatArray, fps: Fraction, frames: int, generator: Generator) -> None:
        """Runs the landmark generator over the speech for all runs of frames with a face.

        mel (frames, 80) of the whole speech; fps and frames of the output.
        """
        self.template = template
        self.mel = mel
        self.fps = fps
        self.played = played_frames(frames, template.frames)
        self._run_of = np.full(frames, -1, dtype=np.int32)
        self._spoken: list[SpokenRun] = []
        for run in face_runs(template.tracks[self.played], fps):
            self._run_of[run.first : run.last + 1] = len(self._spoken)
            self._spoken.append(_speak(template, self.played[run.first : run.last + 1], run, mel, generator))

    @property
    def dubbed_frames(self) -> int:
        """Frames with a face that speaks; the others show the source."""
        return int((self._run_of >= 0).sum())

    def speaks(self, frame: int) -> bool:
        """Whether an output frame has a face."""
        return bool(self._run_of[frame] >= 0)

    def box(self, frame: int) -> Box:
        """The face's box in the frame, source pixels."""
        return Box(*self.template.boxes[self.played[frame]].tolist())

    def sketches(self, frame: int, size: int) -> npt.NDArray[np.uint8]:
        """The five sketches (5, size, size, 3) around an output frame."""
        return self._spoken[self._run_of[frame]].sketches(frame, size)

    def mels(self, frames: list[int]) -> FloatArray:
        """The speech around output frames: (n, 1, 80, 16)."""
        steps: npt.NDArray[Any] = np.array(frames) * VIDEO_FPS / float(self.fps)
        return mel_windows(self.mel, window_starts(steps))

    def contours(self, frame: int) -> Contours:
        """The outlines by which the generated face is blended into an output frame."""
        source = self.played[frame]
        content = self._spoken[self._run_of[frame]].content_of(frame)
        return Contours(self.template.pose[source], self.template.content[source], content)


def _speak(template: Template, source: npt.NDArray[np.int64], run: Run, mel: FloatArray, generator: Generator) -> SpokenRun:
    pose, boxes, references = template.pose[source], template.boxes[source], template.references
    sizes = np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1).astype(np.float32)
    pose_at_steps = interpolate(pose, run.frame_positions(np.array(run.steps)))
    content = generator.speak(pose_at_steps, run.steps, mel, references.pose, references.content)
    return SpokenRun(run, pose, sizes, content)
