"""A clip of a store dubbed with its own speech, or with another's, so that it can be compared with itself."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from schemas.errors import MediaError
from schemas.jobs import CutClip, EvaluationPair
from schemas.reasons import Reason
from schemas.settings import DubSettings, EvaluateSettings, check_settings, read_settings
from tasks import places
from tasks.audio import SAMPLE_RATE, Waveform, read_waveform
from tasks.dubbing.dub import dub_video
from tasks.dubbing.generate import Networks
from tasks.media.decode import read_frames
from tasks.media.encode import Sound, VideoWriter
from tasks.media.probe import probe
from tasks.mel_windows import VIDEO_FPS
from tasks.published import with_weights_in_use

CUT_CRF = 8
"""The cut clip is what the dub is made from and compared with: its coding must not be what is measured."""
VIDEOS = "videos"
"""Folder below `out` in which both videos of each pair stay, for people to look at."""

Dub = Callable[[str, str, str], object]
"""Dubs a video (a path) with a speech (a path) to a place."""


def dub_settings(settings: EvaluateSettings) -> DubSettings:
    """How the store's clips are dubbed: as their settings file says, with the networks that the evaluation names, looked up once."""
    values = read_settings(settings.dub_settings) if settings.dub_settings else {}
    networks = {"landmark_generator": settings.landmark_generator, "renderer": settings.renderer}
    given = {name: value for name, value in {**networks, "device": settings.device}.items() if value is not None}
    return with_weights_in_use(check_settings(DubSettings, values | given | {"fps": "25"}))


def dubbing_with(settings: DubSettings, networks: Networks) -> Dub:
    """Dubs with networks that are loaded once."""
    return lambda video, speech, out: dub_video(video, speech, out, settings, networks=networks)


def dubbed(pair: EvaluationPair, out: str, dub: Dub, folder: Path) -> EvaluationPair:
    """The pair with its two videos made, below `out`: the clip, and its dub. folder: for temporary files. MediaError when the clip cannot be cut."""
    if pair.clip is None:
        return pair
    frames = min(pair.clip.frames, pair.speech.frames if pair.speech else pair.clip.frames)
    real, generated = (places.join(out, VIDEOS, f"{pair.name}.{side}.mp4") for side in ("real", "generated"))
    clip, speech = folder / "clip.mp4", folder / "speech.wav"
    cut(pair.clip, frames, clip)
    soundfile.write(speech, waveform_of(pair.speech or pair.clip, frames), SAMPLE_RATE)
    dub(str(clip), str(speech), generated)
    places.put(clip, real)
    return pair.model_copy(update={"generated": generated, "real": real})


def cut(clip: CutClip, frames: int, to: Path) -> None:
    """Writes the first frames of a clip, with their sound, as a video of its own. MediaError when the source cannot be read."""
    with places.local_copy(clip.source) as path:
        pictures = read_frames(path, VIDEO_FPS, clip.start_frame, clip.start_frame + frames)
        first = next(pictures, None)
        if first is None:
            raise MediaError(Reason.TOO_SHORT, f"{clip.source} has no frame {clip.start_frame} any more.")
        height, width = first.picture.shape[:2]
        sound = Sound(waveform_of(clip, frames)[:, None], SAMPLE_RATE)
        with VideoWriter(str(to), width, height, Fraction(VIDEO_FPS), sound, crf=CUT_CRF) as writer:
            writer.write(first.picture)
            for frame in pictures:
                writer.write(frame.picture)


def waveform_of(clip: CutClip, frames: int) -> Waveform:
    """The sound of the clip's first frames, 16 kHz mono; silence after the end of a sound track that is shorter."""
    samples = frames * SAMPLE_RATE // VIDEO_FPS
    with places.local_copy(clip.source) as path:
        begin_s = probe(path).start_s + (clip.start_frame + clip.sound_shift_frames) / VIDEO_FPS
        heard = read_waveform(path, begin_s, samples)
    return np.pad(heard, (0, samples - len(heard)))
