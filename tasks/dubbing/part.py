"""One person's part in a dub: the output frames in which one face says one speech, and how they get their new pictures."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from schemas.settings import DubSettings
from tasks.dubbing.composite import Finish, new_face
from tasks.dubbing.confidence import SOURCE_TRUST, Evidence, evidence
from tasks.dubbing.footage import Picture
from tasks.dubbing.generate import Generator, Networks
from tasks.dubbing.patch import PatchWriter, with_alpha
from tasks.dubbing.spoken import SpokenVideo
from tasks.dubbing.stopwatch import Stopwatch
from tasks.dubbing.template import Template
from tasks.dubbing.timeline import IndexArray
from tasks.dubbing.when_to_dub import DUBBED, FADE_S, NO_FACE, NOT_SPOKEN, shown
from tasks.faces.crop import crop_face, lip_opening

FloatArray = npt.NDArray[np.float32]

LET_GO_EVERY = 1000
"""Output frames after which what was read of the landmarks' temporary files leaves memory."""


class Part:
    """A face that says a speech in some of the output's frames; numbers of frames are those of the output."""

    def __init__(
        self,
        number: int,
        frames: range,
        template: Template,
        mel: FloatArray,
        fps: Fraction,
        played: IndexArray,
        settings: DubSettings,
        generator: Generator,
        size: int,
        finish: Finish,
        watch: Stopwatch,
        patch: PatchWriter | None = None,
        *,
        fades: tuple[bool, bool] = (True, True),
    ) -> None:
        """number: of the part in its dub. mel (n, 80): of a speech that begins with the first of `frames`. played (F,): the source frame of every
        output frame. generator: knows the template's references; size: pixels of the networks' faces. patch: takes the faces by themselves, too.
        fades: whether it begins from the source and ends in it; not where the face speaks on in another part, nor at the output's own ends.
        """
        self.frames = frames
        self.template = template
        self._number = number
        self._size = size
        self._finish = finish
        self._watch = watch
        self._patch = patch
        self._generator = generator
        self._fps = float(fps)
        self._played = played[frames.start : frames.stop]
        with watch.stage("landmarks"):
            rests, holds = settings.rest_in_silence, settings.hold_to_head
            self._spoken = SpokenVideo(template, mel, fps, self._played, generator, rests=rests, holds=holds)
        bearable = shown(template, settings, self._fps)
        speaks = self._spoken.speaking
        self.share = np.where(speaks, bearable.share[self._played], 0) * _ends_faded(len(frames), fades, FADE_S * self._fps)
        self.reasons = np.where(speaks, bearable.reasons[self._played], NO_FACE).astype(np.int8)
        """Why the source shows, as in `when_to_dub`; DUBBED where it does not."""
        self.reasons[(self.share < 1) & (self.reasons == DUBBED)] = NOT_SPOKEN
        self.let_go()  # all of them were looked at

    @property
    def frames_at_once(self) -> int:
        """Frames that are computed together."""
        return self._generator.frames_at_once

    def expect_at_most(self, frames: int) -> None:
        """Says, before the first batch, how many frames `faces` is ever given."""
        self._generator.expect_at_most(frames)

    def share_of(self, frame: int) -> float:
        """How much of the dub an output frame shows, 0..1."""
        return float(self.share[frame - self.frames.start]) if frame in self.frames else 0.0

    def evidence(self) -> Evidence:
        """What is known of how the part's frames look."""
        found = evidence(self.template, self._played, self.share, self._openings(), self._fps)
        self.let_go()
        return found

    def _openings(self) -> FloatArray:
        """The lips' opening in each frame, NaN where the source shows."""
        openings = np.full(len(self.frames), np.nan, dtype=np.float32)
        for frame in np.flatnonzero(self.share > 0).tolist():
            openings[frame] = lip_opening(self._spoken.content(frame))
            if frame % LET_GO_EVERY == 0:
                self.let_go()
        return openings

    def let_go(self) -> None:
        """Takes out of memory what was read of temporary files."""
        self._spoken.let_go()

    def faces(self, batch: list[tuple[int, Picture]]) -> dict[int, Picture]:
        """The generated faces (S, S, 3), by frame, of those of some consecutive output frames (number, picture) in which the part speaks."""
        batch = [(frame, picture) for frame, picture in batch if self.share_of(frame) > 0]
        if not batch:
            return {}
        mine = [frame - self.frames.start for frame, _ in batch]
        with self._watch.stage("sketch"):
            crops = np.stack([crop_face(picture, self._spoken.box(frame), self._size) for frame, (_, picture) in zip(mine, batch, strict=True)])
            sketches = np.stack([self._spoken.sketches(frame, self._size) for frame in mine])
        with self._watch.stage("render"):
            faces = self._generator.render(crops, sketches, self._spoken.mels(mine))
        return dict(zip((frame for frame, _ in batch), faces, strict=True))

    def pasted(self, frame: int, picture: Picture, face: Picture) -> Picture:
        """An output frame's picture with the frame's generated face in it, which goes to the patch, too. One thread at a time, which may be another."""
        with self._watch.stage("composite"):
            mine, share = frame - self.frames.start, self.share_of(frame)
            box = self._spoken.box(mine)
            new = new_face(picture, face, box, self._spoken.contours(mine), self._finish)
            if self._patch is not None:
                self._patch.write(frame, with_alpha(new.face, new.mask * share), box, self._number)
            return new.pasted(picture, share)


def generator_of(settings: DubSettings, networks: Networks) -> Generator:
    """The networks at work as settings ask for. SettingsError for what the device cannot do."""
    return Generator(networks, settings.precision, compiled=settings.compile, memory_share=settings.memory_share, batch_frames=settings.batch_frames)


def evidence_of(parts: list[Part], frames: int) -> Evidence:
    """What is known of how all output frames look; where parts overlap, of the one that shows more of its dub."""
    share, source_trust = np.zeros(frames, dtype=np.float32), np.ones(frames, dtype=np.float32)
    trust: dict[str, FloatArray] = {}
    for part in parts:
        mine, known = slice(part.frames.start, part.frames.stop), part.evidence()
        more = known.share >= share[mine]
        source_trust[mine] = np.where(more, np.where(part.reasons == NOT_SPOKEN, 1, SOURCE_TRUST), source_trust[mine])
        share[mine] = np.where(more, known.share, share[mine])
        for cause, values in known.trust.items():
            whole = trust.setdefault(cause, np.ones(frames, dtype=np.float32))
            whole[mine] = np.where(more, values, whole[mine])
    return Evidence(share, trust, source_trust)


def reasons_of(parts: list[Part], frames: int, otherwise: int) -> npt.NDArray[np.int8]:
    """Why each output frame (F,) shows the source somewhere, DUBBED where it does not; `otherwise` where no part speaks."""
    reasons = np.full(frames, otherwise, dtype=np.int8)
    for part in parts:
        mine = reasons[part.frames.start : part.frames.stop]
        mine[:] = np.where((mine == otherwise) | (part.reasons != DUBBED), part.reasons, mine)
    return reasons


def _ends_faded(frames: int, fades: tuple[bool, bool], fade_frames: float) -> FloatArray:
    """1 but near those ends at which a part fades from and to the source: (n,)."""
    inside = np.arange(frames, dtype=np.float32) + 1
    share = np.ones(frames, dtype=np.float32)
    if fades[0]:
        share = np.minimum(share, inside / max(1.0, fade_frames))
    if fades[1]:
        share = np.minimum(share, inside[::-1] / max(1.0, fade_frames))
    return share
