"""Dubbing one video with one speech (contract: Dubbing; departures 1, 4, 5 and 6).

Two passes in bounded memory: `template.analyse` looks at every frame and keeps landmarks and references; then the frames are
decoded again, forth and back as long as the speech lasts, and each gets its new face on the way to the encoder.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import fsspec
import numpy as np

from schemas.errors import MediaError, SettingsError, StoreError
from schemas.jobs import DubSummary
from schemas.reasons import Reason
from schemas.settings import DubSettings
from tasks.dubbing.composite import paste_face
from tasks.dubbing.generate import Generator, Networks
from tasks.dubbing.speech import Speech, read_speech
from tasks.dubbing.spoken import SpokenVideo
from tasks.dubbing.stamp import make_stamp
from tasks.dubbing.template import Footage, Picture, Template, TemplateMemory, analyse, footage_of
from tasks.dubbing.timeline import frames_of_speech
from tasks.faces.crop import crop_face
from tasks.media.encode import VideoWriter
from tasks.media.probe import probe
from tasks.places import is_remote, local_copy, local_path
from tasks.progress import Progress, silent

REFERENCES_FROM_S = 40
"""References are sought in at least this much of the video, also when the speech is shorter."""

Item = TypeVar("Item")


class Stopwatch:
    """Seconds of work by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds what happens inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items, with the time that making them takes added to a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def dub_video(
    video: str,
    speech: str,
    out: str,
    settings: DubSettings,
    progress: Progress = silent,
    networks: Networks | None = None,
    memory: TemplateMemory | None = None,
) -> DubSummary:
    """Dubs a video (or a still picture) with a speech; all three are paths or URIs. `out` appears only when it is whole.

    `networks` and `memory` may be shared by dubs that follow each other. Everything is checked before any frame is rendered:
    MediaError for inputs that cannot be used (NO_FACE when no frame shows one), StoreError for an output that cannot be
    written, CheckpointError for checkpoints that do not fit, SettingsError when the output would replace an input.
    """
    networks = networks or Networks.load(settings)
    with ExitStack() as stack:
        video_path, speech_path = _fetched(stack, video), _fetched(stack, speech)
        stack.enter_context(_named_as_given({str(video_path): video, str(speech_path): speech}))
        footage, sound = open_footage(video_path, settings.fps), read_speech(speech_path)
        _require_output(out, (video_path, speech_path))
        stamp = make_stamp(video_path, speech_path, networks.versions)
        dub = Dub(footage, sound, settings, networks, progress)
        with VideoWriter(out, footage.width, footage.height, footage.fps, sound.sound, crf=settings.crf, metadata=stamp) as writer:
            template = dub.analyse(video, memory or TemplateMemory())
            dubbed_frames = dub.write_frames(writer, template)
        return dub.summary(out, dubbed_frames)


def open_footage(path: Path, fps: str) -> Footage:
    """A video or picture file as it is to be played. MediaError when it is missing, no media, or has no picture."""
    info = probe(path)
    if not (info.has_video or info.is_picture):
        raise MediaError(Reason.NO_VIDEO, f"There is no picture in {path.name}; give a video or a still picture of a face.")
    return footage_of(path, info, fps)


def _fetched(stack: ExitStack, location: str) -> Path:
    try:
        return stack.enter_context(local_copy(location))
    except FileNotFoundError as error:
        raise MediaError(Reason.MISSING, f"{location} is not there.") from error
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, f"{location} could not be read: {error}.") from error


@contextmanager
def _named_as_given(names: dict[str, str]) -> Iterator[None]:
    """Errors about a local copy name what the user gave: a temporary file's name would tell nobody anything."""
    try:
        yield
    except MediaError as error:
        sentence = str(error)
        for local, given in names.items():
            sentence = sentence.replace(local, given)
        raise MediaError(error.reason, sentence) from error


def _require_output(out: str, inputs: tuple[Path, ...]) -> None:
    """StoreError or SettingsError before any work; a local folder's permissions are checked when the writer opens."""
    if not is_remote(out):
        if any(local_path(out).resolve() == path.resolve() for path in inputs):
            raise SettingsError(f"The output {out} is also an input; give the output another name.")
        return
    filesystem, path = fsspec.core.url_to_fs(out)
    try:
        filesystem.pipe_file(f"{path}.partial", b"")
        filesystem.rm_file(f"{path}.partial")
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}.") from error


class Dub:
    """One dub at work: what is played and said, by which networks, and how long each stage took."""

    def __init__(self, footage: Footage, speech: Speech, settings: DubSettings, networks: Networks, progress: Progress) -> None:
        """Raises MediaError when the speech is shorter than a frame."""
        self.footage = footage
        self.speech = speech
        self.settings = settings
        self.networks = networks
        self.progress = progress
        self.watch = Stopwatch()
        self.frames = frames_of_speech(footage.fps, speech.duration_s)
        self.generator = Generator(networks, settings.precision)
        if self.frames < 1:
            raise MediaError(Reason.TOO_SHORT, "The speech is shorter than one video frame; give a longer one.")

    def analyse(self, video: str, memory: TemplateMemory) -> Template:
        """Pass one, unless the memory has its outcome; `video` names the footage there."""
        settings, crop = self.settings, self.networks.crop
        wanted = max(self.frames, round(REFERENCES_FROM_S * self.footage.fps))
        key = (video, self.footage.fps, crop, settings.landmark_references, settings.references, settings.face, settings.smoothing)
        with self.watch.stage("analyse"):
            return memory.get(key, wanted, lambda: analyse(self.footage, wanted, crop, settings, self.progress))

    def write_frames(self, writer: VideoWriter, template: Template) -> int:
        """Pass two: writes every output frame; returns how many got a new face."""
        with self.watch.stage("landmarks"):
            spoken = SpokenVideo(template, self.speech.mel, self.footage.fps, self.frames, self.generator)
        with self.watch.stage("render"):
            self.generator.remember(template.references.faces, template.references.sketches)
        pictures = enumerate(self.watch.each("decode", self.footage.played(template.frames, self.frames)))
        while batch := list(itertools.islice(pictures, self.settings.batch_frames)):
            for picture in self._dubbed(batch, spoken):
                with self.watch.stage("encode"):
                    writer.write(picture)
            self.progress(batch[-1][0] + 1, self.frames, "frames dubbed")
        return spoken.dubbed_frames

    def _dubbed(self, batch: list[tuple[int, Picture]], spoken: SpokenVideo) -> list[Picture]:
        """Consecutive output frames (number, picture), each with its new face; one without a face stays as it is."""
        faces = self._faces([(frame, picture) for frame, picture in batch if spoken.speaks(frame)], spoken)
        with self.watch.stage("composite"):
            return [paste_face(picture, faces[frame], spoken.box(frame), spoken.contours(frame)) if frame in faces else picture for frame, picture in batch]

    def _faces(self, batch: list[tuple[int, Picture]], spoken: SpokenVideo) -> dict[int, Picture]:
        """The generated faces of frames (number, picture), by number."""
        if not batch:
            return {}
        size = self.networks.crop.size
        frames = [frame for frame, _ in batch]
        with self.watch.stage("sketch"):
            crops = np.stack([crop_face(picture, spoken.box(frame), size) for frame, picture in batch])
            sketches = np.stack([spoken.sketches(frame, size) for frame in frames])
        with self.watch.stage("render"):
            return dict(zip(frames, self.generator.render(crops, sketches, spoken.mels(frames)), strict=True))

    def summary(self, out: str, dubbed_frames: int) -> DubSummary:
        """What the dub ended with."""
        return DubSummary(
            output=out,
            frames=self.frames,
            dubbed_frames=dubbed_frames,
            duration_s=float(self.frames / self.footage.fps),
            fps=str(self.footage.fps),
            width=self.footage.width,
            height=self.footage.height,
            seconds_by_stage={stage: round(seconds, 3) for stage, seconds in self.watch.seconds.items()},
        )
