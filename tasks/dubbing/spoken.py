"""What the face shows at every frame of the output: head pose from the source, mouth and jaw from the speech."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.dubbing.composite import Contours
from tasks.dubbing.frame_arrays import array_of, let_go
from tasks.dubbing.generate import Generator
from tasks.dubbing.head_placement import HEIGHT_OVER, held_to_head
from tasks.dubbing.reference_choice import fit_to_copy
from tasks.dubbing.template import Template
from tasks.dubbing.timeline import NO_TRACK, IndexArray, Run, face_runs, interpolate
from tasks.dubbing.voice import at_rest, closed_content, spoken_share
from tasks.faces import draw_sketch
from tasks.faces.crop import Box
from tasks.mel_windows import VIDEO_FPS, mel_windows, window_starts

FloatArray = npt.NDArray[np.float32]


STEPS_AT_ONCE = 1000
"""Steps for which landmarks are generated together: 40 s, so that memory does not grow with the run."""
REACH = 2 + HEIGHT_OVER
"""Steps beyond a piece that are generated with it: a window reaches beyond its middle, and so does a mean height."""


@dataclass(frozen=True)
class SpokenRun:
    """One unbroken run of n output frames with a face, and what it says.

    source (n,): their frames in the template. content (steps, 2, 57): generated, at the steps of the 25-frames-a-second timeline.
    """

    run: Run
    template: Template
    source: IndexArray
    content: FloatArray

    def sketches(self, frame: int, size: int) -> npt.NDArray[np.uint8]:
        """The five sketches (5, size, size, 3) around an output frame, 1/25 s apart."""
        times = self.run.step_windows(frame)
        positions = self.run.frame_positions(times)
        boxes = interpolate(self.template.boxes, positions, self.source)
        faces = zip(interpolate(self.template.pose, positions, self.source), self._content_at(times), boxes, strict=True)
        return np.stack([draw_sketch(pose, content, (y1 - y0, x1 - x0), size) for pose, content, (x0, y0, x1, y1) in faces])

    def content_of(self, frame: int) -> FloatArray:
        """Mouth and jaw (2, 57) at an output frame."""
        return self._content_at(self.run.step_windows(frame)[2:3])[0]

    def _content_at(self, times: npt.NDArray[np.float64]) -> FloatArray:
        return interpolate(self.content, times - self.run.steps.start)


class SpokenVideo:
    """The face of every output frame: which source frame it is of, and what it says."""

    def __init__(
        self, template: Template, mel: FloatArray, fps: Fraction, played: IndexArray, generator: Generator, *, rests: bool = True, holds: bool = True
    ) -> None:
        """Runs the landmark generator over the speech for all runs of frames with a face.

        mel (frames, 80): of the whole speech, which begins with the first output frame. played (F,): the source frame of each output frame;
        rests: where nobody speaks the mouth comes to rest. holds: mouth and jaw stay where the head has them.
        """
        self.template = template
        self.mel = mel
        self.fps = fps
        self.played = played
        self._run_of = np.full(len(played), -1, dtype=np.int32)
        self._spoken: list[SpokenRun] = []
        rest = Rest.of(template, mel, math.ceil(VIDEO_FPS * len(played) / fps) + 1) if rests else None
        runs = face_runs(template.tracks[played], played, fps)
        saying = _Saying(template, mel, generator, rest, holds)
        pieces = (piece for run in runs for piece in saying.pieces(run, played[run.first : run.last + 1]))
        # One array for all runs: those that are short would be held.
        self._content = array_of(pieces, template.content.shape[1:], np.float32)
        said = 0
        for run in runs:
            self._run_of[run.first : run.last + 1] = len(self._spoken)
            self._spoken.append(SpokenRun(run, template, played[run.first : run.last + 1], self._content[said : said + len(run.steps)]))
            said += len(run.steps)

    @property
    def speaking(self) -> npt.NDArray[np.bool_]:
        """Which output frames (F,) have a face."""
        return self._run_of >= 0

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
        return Contours(self.template.pose[source], self.template.content[source], self.content(frame))

    def content(self, frame: int) -> FloatArray:
        """Mouth and jaw (2, 57) that are generated for an output frame, 0..1 of its box."""
        return self._spoken[self._run_of[frame]].content_of(frame)

    def let_go(self) -> None:
        """Takes out of memory what was read of temporary files: the source's landmarks, the speech, and what was generated."""
        for array in (self.template.pose, self.template.content, self.mel, self._content):
            let_go(array)


@dataclass(frozen=True)
class Rest:
    """Where a speech leaves the mouth at rest, and how it looks then.

    spoken (steps,): 0 at rest to 1, at 25 a second. closed (2, 57): of `voice.closed_content`.
    """

    spoken: FloatArray
    closed: FloatArray

    @classmethod
    def of(cls, template: Template, mel: FloatArray, steps: int) -> Self:
        """The person's own closed mouth, and the speech's silences over so many steps."""
        seen = template.tracks != NO_TRACK
        clear = template.detected & fit_to_copy(template.visibility, template.yaw_deg)
        return cls(spoken_share(mel, steps), closed_content(template.pose, template.content, seen, clear))


@dataclass(frozen=True)
class _Saying:
    """One face that says one speech. rest: None where silences are spoken like everything else. holds: as in `SpokenVideo`."""

    template: Template
    mel: FloatArray
    generator: Generator
    rest: Rest | None
    holds: bool

    def pieces(self, run: Run, source: IndexArray) -> Iterator[FloatArray]:
        """A run's content (n, 2, 57) in order, piece by piece; each is generated with the steps around it, so that there is no seam."""
        for first in range(0, len(run.steps), STEPS_AT_ONCE):
            kept = run.steps[first : first + STEPS_AT_ONCE]
            seen = run.steps[max(0, first - REACH) : first + STEPS_AT_ONCE + REACH]
            yield self._piece(run, source, kept, seen)
            for array in (self.template.pose, self.template.content, self.mel):
                let_go(array)

    def _piece(self, run: Run, source: IndexArray, kept: range, seen: range) -> FloatArray:
        positions = run.frame_positions(np.array(seen))
        pose = interpolate(self.template.pose, positions, source)
        references = self.template.references
        content = self.generator.speak(pose, seen, self.mel, references.pose, references.content)
        if self.rest is not None:
            content = at_rest(content, pose, self.rest.spoken[seen.start : seen.stop], self.rest.closed)
        if self.holds:
            content = held_to_head(content, pose, interpolate(self.template.content, positions, source))
        return content[kept.start - seen.start : kept.stop - seen.start]
