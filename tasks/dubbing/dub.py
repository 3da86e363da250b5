"""Dubbing one video (contract: Dubbing; departures 1, 4, 5 and 6).

Two passes in bounded memory: `template.analyse` looks at every frame and keeps landmarks and references; then the frames are
decoded again, for as long as the speech lasts, and each gets its new face on the way to the encoder. Decoding runs ahead, pasting
and encoding behind, on threads of their own: the networks wait for none of them.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import MediaError, SettingsError, StoreError
from schemas.jobs import DubOrigin, DubSummary, Segment
from schemas.locations import reachable, without_secrets
from schemas.reasons import Reason
from schemas.settings import DubSettings
from tasks.dubbing.composite import Finish
from tasks.dubbing.confidence import per_second, worst_moments
from tasks.dubbing.face_choice import DECIDED_BY_S
from tasks.dubbing.footage import Footage, Picture, footage_of
from tasks.dubbing.generate import Generator, Networks
from tasks.dubbing.inputs import fetched
from tasks.dubbing.part import LET_GO_EVERY, Part, evidence_of, generator_of, reasons_of
from tasks.dubbing.patch import PatchWriter
from tasks.dubbing.pipeline import Behind, ahead
from tasks.dubbing.speech import Speech, read_speech
from tasks.dubbing.stamp import make_stamp
from tasks.dubbing.stopwatch import Stopwatch
from tasks.dubbing.template import FirstPass, Template, TemplateMemory
from tasks.dubbing.template_store import template_key, templates_of
from tasks.dubbing.timeline import frames_of_speech, played_frames
from tasks.dubbing.when_to_dub import NO_FACE, NOT_SPOKEN, stretches
from tasks.file_hash import file_hash
from tasks.media.colour import ColourTags, refuse_hdr
from tasks.media.encode import VideoWriter, require_mp4_name
from tasks.media.probe import probe
from tasks.places import is_remote, local_path, require_writable
from tasks.progress import Progress, silent

WAIT = "wait"
"""The stage in which the networks stand still: the next frames are not decoded yet, or the last ones not pasted and encoded."""
LOOKED_AT_S = DECIDED_BY_S
"""At least so much of a video is looked at, also for a shorter speech: who is dubbed is decided by it, and references are sought in it."""
ROOM_FOR_PICTURES = 192 * 2**20
"""Bytes of whole frames that are held at once for rendering; about as many are being decoded, pasted into, and encoded."""


@dataclass(frozen=True)
class Inputs:
    """What a dub is made of, on this machine. speeches: of the segments, or the one speech."""

    video: Path
    name: str
    """The video as it was given."""
    footage: Footage
    colour: ColourTags
    speech: Path
    soundtrack: Path
    heard: Speech
    """The speech that says how long the dub is."""
    spoken: tuple[tuple[Segment | None, Speech], ...]


def dub_video(
    video: str,
    speech: str,
    out: str,
    settings: DubSettings,
    progress: Progress = silent,
    networks: Networks | None = None,
    memory: TemplateMemory | None = None,
    segments: tuple[Segment, ...] = (),
) -> DubSummary:
    """Dubs a video (or a still picture) with a speech; all three are paths or URIs. `out` appears only when it is whole.

    segments: several people, each with a speech of their own for a while; the output is then as long as `speech`, which it carries.
    `networks` and `memory` may be shared by dubs that follow each other. Everything is checked before any frame is rendered:
    MediaError for inputs that cannot be used (NO_FACE when no frame shows one), StoreError for an output that cannot be
    written, CheckpointError for checkpoints that do not fit, SettingsError when the output would replace an input.
    """
    require_mp4_name(out)
    networks = networks or Networks.load(settings)
    with ExitStack() as stack:
        inputs = read_inputs(stack, video, speech, settings, segments)
        _require_output(out, {video, speech, settings.soundtrack or speech, *(segment.speech for segment in segments)})
        dub = Dub(inputs, settings, networks, progress, memory or TemplateMemory())
        with dub.writer(out, settings) as writer, dub.patch(settings) or nullcontext() as patch:
            parts = dub.parts(patch)
            dub.write_frames(writer, parts)
        return dub.summary(out, parts)


def read_inputs(stack: ExitStack, video: str, speech: str, settings: DubSettings, segments: tuple[Segment, ...] = ()) -> Inputs:
    """Everything a dub reads, as local files until the stack closes. MediaError for what cannot be used."""
    video_path, speech_path = fetched(stack, video), fetched(stack, speech)
    soundtrack = fetched(stack, settings.soundtrack) if settings.soundtrack else speech_path
    footage, colour = open_footage(video_path, settings)
    if settings.soundtrack and not probe(soundtrack).has_audio:
        raise MediaError(Reason.NO_AUDIO, f"There is no sound in {soundtrack.name}; give another soundtrack.")
    heard = read_speech(speech_path)
    spoken = tuple((segment, read_speech(fetched(stack, segment.speech))) for segment in segments)
    return Inputs(video_path, video, footage, colour, speech_path, soundtrack, heard, spoken or ((None, heard),))


def open_footage(path: Path, settings: DubSettings) -> tuple[Footage, ColourTags]:
    """A video or picture file as it is to be played, and how its colours are coded.

    MediaError when it is missing, no media, has no picture, or is HDR where the settings refuse that.
    """
    info = probe(path)
    if not (info.has_video or info.is_picture):
        raise MediaError(Reason.NO_VIDEO, f"There is no picture in {path.name}; give a video or a still picture of a face.")
    if settings.hdr == "refuse":
        refuse_hdr(path, info.colour)
    return footage_of(path, info, settings.fps), info.colour.to_write


def _require_output(out: str, inputs: set[str]) -> None:
    """StoreError or SettingsError before any work; a local folder's permissions are checked when the writer opens. inputs: as they were given."""
    try:
        with reachable(out, StoreError):
            place = _place(out)
            if any(_place(location) == place for location in inputs):
                raise SettingsError(f"The output {without_secrets(out)} is also an input; give the output another name.")
    except OSError as error:
        raise StoreError(f"{without_secrets(out)} cannot be written: {error}.") from error
    if is_remote(out):
        require_writable(out)


def _place(location: str) -> tuple[object, str]:
    """The same for all ways to write a location: its file system, and the path in it without links."""
    filesystem, path = fsspec.core.url_to_fs(location if is_remote(location) else str(local_path(location)))
    return filesystem, os.path.realpath(path) if isinstance(filesystem, LocalFileSystem) else path


class Dub:
    """One dub at work: what is played and said, by which networks, and how long each stage took."""

    def __init__(self, inputs: Inputs, settings: DubSettings, networks: Networks, progress: Progress, memory: TemplateMemory) -> None:
        """Raises MediaError when the speech is shorter than a frame."""
        self.inputs = inputs
        self.footage = inputs.footage
        self.settings = settings
        self.networks = networks
        self.progress = progress
        self.memory = memory
        self.watch = Stopwatch()
        self.frames = frames_of_speech(self.footage.fps, inputs.heard.duration_s)
        self.template_was_kept = True
        if self.frames < 1:
            raise MediaError(Reason.TOO_SHORT, "The speech is shorter than one video frame; give a longer one.")
        self._ranges = [self._frames_of(segment) for segment, _ in inputs.spoken]
        self._finish = Finish.of(settings)
        generator_of(settings, networks)  # what the device cannot do is told before pass one, which may take long
        self._faces: dict[str, tuple[Template, Generator]] = {}
        self._first_pass: FirstPass | None = None

    def writer(self, out: str, settings: DubSettings) -> VideoWriter:
        """What the output is written with."""
        # NVENC takes nothing from the CPU, where the pictures are, so it pays only beside networks that are on the GPU too.
        encoder = "x264" if settings.encoder == "auto" and self.networks.device.type == "cpu" else settings.encoder
        return VideoWriter(
            out,
            self.footage.width,
            self.footage.height,
            self.footage.fps,
            crf=settings.crf,
            metadata=make_stamp(self.made_of),
            preset=settings.encoder_preset,
            encoder=encoder,
            soundtrack=self.inputs.soundtrack,
            total_frames=self.frames,
            colour=self.inputs.colour,
            pixel_aspect=self.footage.pixel_aspect,
        )

    @functools.cached_property
    def made_of(self) -> DubOrigin:
        """All that this dub is made of, by content."""
        inputs = self.inputs
        return DubOrigin(
            video=file_hash(inputs.video),
            speech=file_hash(inputs.speech),
            segments=tuple(file_hash(speech.path) for segment, speech in inputs.spoken if segment is not None),
            soundtrack=file_hash(inputs.soundtrack) if inputs.soundtrack != inputs.speech else None,
            models=self.networks.hashes,
            snapshots=self.networks.snapshots,
            consent=self.settings.consent,
        )

    def patch(self, settings: DubSettings) -> PatchWriter | None:
        """Where the faces go by themselves, if settings ask for that."""
        return PatchWriter(settings.patch, self.footage.fps, self.footage.width, self.footage.height) if settings.patch else None

    def parts(self, patch: PatchWriter | None = None) -> list[Part]:
        """Pass one, unless its outcome is kept, and what the landmark generator makes of the speech."""
        spoken = zip(self._ranges, self.inputs.spoken, strict=True)
        parts = [self._part(number, frames, segment, speech, patch) for number, (frames, (segment, speech)) in enumerate(spoken)]
        self._first_pass = None  # its temporary files are needed no more
        return parts

    def _part(self, number: int, frames: range, segment: Segment | None, speech: Speech, patch: PatchWriter | None) -> Part:
        settings = self.settings if segment is None else self.settings.replaced(face=segment.face)
        template, generator = self._face(settings)
        played = played_frames(self.frames, template.frames, settings.loop)
        size = self.networks.crop.size
        watch, fades = self.watch, self._fades(frames, settings.face)
        return Part(number, frames, template, speech.mel, self.footage.fps, played, settings, generator, size, self._finish, watch, patch, fades=fades)

    def _fades(self, frames: range, face: str) -> tuple[bool, bool]:
        """Whether the output shows the source's mouth, or another face's part, before the first and after the last of a face's frames."""
        spoken = [own for own, (segment, _) in zip(self._ranges, self.inputs.spoken, strict=True) if segment is not None and segment.face == face]
        before, after = (any(own.stop == frames.start for own in spoken), any(own.start == frames.stop for own in spoken))
        return frames.start > 0 and not before, frames.stop < self.frames and not after

    def _face(self, settings: DubSettings) -> tuple[Template, Generator]:
        """A person, and the networks that know the person's references: once for all segments in which this one speaks."""
        if settings.face not in self._faces:
            template, generator = self._template(settings), generator_of(settings, self.networks)
            with self.watch.stage("render"):
                generator.remember(template.references.faces, template.references.sketches)
            self._faces[settings.face] = template, generator
        return self._faces[settings.face]

    def _frames_of(self, segment: Segment | None) -> range:
        """The output frames of a segment, or all. SettingsError for one that begins after the output's end."""
        if segment is None:
            return range(self.frames)
        first, stop = (round(self.footage.fps * time) for time in (segment.start_s, segment.end_s))
        if not first < min(stop, self.frames):
            raise SettingsError(f"The segment from {segment.start_s:g} s to {segment.end_s:g} s holds no frame of the output.")
        return range(first, min(stop, self.frames))

    def _template(self, settings: DubSettings) -> Template:
        """Pass one, or its outcome as this process or the store of templates remembers it."""
        crop = self.networks.crop
        wanted = max(self.frames, round(LOOKED_AT_S * self.footage.fps))
        made = False

        def make() -> Template:
            nonlocal made
            made = True
            self._first_pass = self._first_pass or FirstPass(self.footage, wanted, crop, self.progress)
            return self._first_pass.template(settings)

        def kept() -> Template:
            store = templates_of(settings)
            if store is None:
                return make()
            return store.get(template_key(self.inputs.video, settings, crop), make, wanted, self.inputs.name)[0]

        of = (self.inputs.name, self.footage.fps, crop, settings.landmark_references, settings.references, settings.face, settings.smoothing)
        with self.watch.stage("analyse"):
            template = self.memory.get(of, wanted, kept)
        self.template_was_kept &= not made
        return template

    def write_frames(self, writer: VideoWriter, parts: list[Part]) -> None:
        """Pass two: writes every output frame."""
        at_once = self._frames_at_once(parts)
        for part in parts:
            part.expect_at_most(at_once)
        pictures = ahead(self.watch.each("decode", self._played(parts[0])), at_once)
        done = 0
        with Behind(self._timed(writer), at_once) as encoded, Behind[RenderedFrame](lambda frame: encoded.put(frame.dubbed()), at_once) as composed:
            try:
                for batch in self.watch.each(WAIT, _batches(enumerate(pictures), at_once)):
                    for frame in _rendered(batch, parts):
                        with self.watch.stage(WAIT):
                            composed.put(frame)
                    done += len(batch)
                    if done % LET_GO_EVERY < len(batch):
                        for part in parts:
                            part.let_go()
                    self.progress(done, self.frames, "frames dubbed")
            finally:
                pictures.close()
        if done < self.frames:
            raise MediaError(Reason.DAMAGED, f"{self.inputs.name} gives {done} pictures of the {self.frames} that its first reading promised.")

    def _played(self, part: Part) -> Iterator[Picture]:
        return self.footage.played(part.template.frames, self.frames, self.settings.loop)

    def _timed(self, writer: VideoWriter) -> Callable[[Picture], None]:
        def write(picture: Picture) -> None:
            with self.watch.stage("encode"):
                writer.write(picture)

        return write

    def _frames_at_once(self, parts: list[Part]) -> int:
        """As many as the networks compute together, and as there is room for.

        Room for a power of two: what is compiled is compiled for each number anew, so that videos of all sizes make few of them.
        """
        room = max(1, ROOM_FOR_PICTURES // (3 * self.footage.width * self.footage.height))
        return min(1 << (room.bit_length() - 1), *(part.frames_at_once for part in parts))

    def summary(self, out: str, parts: list[Part]) -> DubSummary:
        """What the dub ended with."""
        fps = float(self.footage.fps)
        known = evidence_of(parts, self.frames)
        otherwise = NO_FACE if self.inputs.spoken[0][0] is None else NOT_SPOKEN
        return DubSummary(
            output=out,
            frames=self.frames,
            dubbed_frames=int((known.share > 0).sum()),
            duration_s=float(self.frames / self.footage.fps),
            fps=str(self.footage.fps),
            width=self.footage.width,
            height=self.footage.height,
            seconds_by_stage={stage: round(seconds, 3) for stage, seconds in self.watch.seconds.items()},
            source_shown=stretches(reasons_of(parts, self.frames, otherwise), fps),
            confidence=per_second(known, fps),
            worst=worst_moments(known, fps),
            template_was_kept=self.template_was_kept,
            made_of=self.made_of,
            patch=without_secrets(self.settings.patch) if self.settings.patch else None,
        )


@dataclass(frozen=True)
class RenderedFrame:
    """An output frame as the source shows it, and the faces that are still to be pasted into it, in the order of the parts."""

    number: int
    picture: Picture
    faces: tuple[tuple[Part, Picture], ...]

    def dubbed(self) -> Picture:
        """The picture with its new faces."""
        return functools.reduce(lambda picture, new: new[0].pasted(self.number, picture, new[1]), self.faces, self.picture)


def _rendered(batch: list[tuple[int, Picture]], parts: list[Part]) -> Iterator[RenderedFrame]:
    faces = [(part, part.faces(batch)) for part in parts]
    for number, picture in batch:
        yield RenderedFrame(number, picture, tuple((part, rendered[number]) for part, rendered in faces if number in rendered))


def _batches(numbered: Iterable[tuple[int, Picture]], at_once: int) -> Iterator[list[tuple[int, Picture]]]:
    frames = iter(numbered)
    while batch := list(itertools.islice(frames, at_once)):
        yield batch
