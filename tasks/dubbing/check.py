"""Whether a video can be dubbed, how well and at what cost, before anything is rendered: no networks, no GPU."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from schemas.errors import MediaError
from schemas.jobs import CheckSummary
from schemas.reasons import Reason
from schemas.settings import CropSettings, DubSettings, names_a_picture
from tasks.audio import SAMPLE_RATE
from tasks.dubbing.cost import processor_s, tflop_of
from tasks.dubbing.findings import INTERLACED, Finding, Limits, Severity, SpeechFacts, footage_findings, source_shown, speech_findings
from tasks.dubbing.footage import footage_of
from tasks.dubbing.inputs import fetched, named_as_given
from tasks.dubbing.looks import Glance, looks_at
from tasks.dubbing.speech import waveform_of
from tasks.dubbing.summary_lines import stretches_in_words
from tasks.dubbing.template import pictured
from tasks.dubbing.timeline import frames_of_speech
from tasks.durations import spoken_duration
from tasks.media.colour import refuse_hdr
from tasks.media.probe import MediaInfo, probe
from tasks.progress import Progress, silent

GRADES: tuple[Literal["good", "fair", "poor", "no"], ...] = ("good", "fair", "poor", "no")
"""By severity."""
CLOCK = 1_000_000
"""Ticks a second to which a container's length is taken: it is a fraction that came as a float."""


def check_video(video: str, speech: str | None = None, limits: Limits | None = None, progress: Progress = silent) -> CheckSummary:
    """How well a video (or still picture; path or URI) can be dubbed, with a speech where one is given.

    Looks at the video twice a second, at 40 seconds of it at most. Times of `source_shown` are the video's; of a long one only what
    was looked at is named. Raises MediaError: the reasons of `probe`, NO_VIDEO, NO_AUDIO (a speech without sound), TOO_SHORT. SettingsError
    when `face` names a picture that cannot be read or shows no face.
    """
    limits = limits or Limits()
    with ExitStack() as stack:
        path = fetched(stack, video)
        info = probe(path)
        if not (info.has_video or info.is_picture):
            raise MediaError(Reason.NO_VIDEO, f"There is no picture in {path}; give a video or a still picture of a face.")
        heard = _heard(fetched(stack, speech)) if speech is not None else None
        played = footage_of(path, info, limits.fps)
        frames = _frames(info, played.fps, heard)
        if names_a_picture(limits.face):
            pictured(limits.face, limits.crop)
        findings = list(_refusals(path, video, info, limits))
        findings += [INTERLACED] if info.interlaced else []
        looks = looks_at(path, info, heard.duration_s if heard else None, limits.crop, limits.face, progress)
    findings += footage_findings(looks, limits, float(played.fps), is_picture=info.is_picture)
    if heard is not None:
        findings += speech_findings(heard, None if info.is_picture else info.duration_s, limits.loop)
    return _summary(info, frames, float(frames / played.fps), looks, findings, limits)


def limits_of(settings: DubSettings) -> Limits:
    """What a dub with these settings would be made with. The crop is that of the checkpoints, of which only the headers are read and one will do,
    or the default one where the settings name none. CheckpointError for those that cannot be used.
    """
    one = settings.renderer or settings.landmark_generator
    if not one:
        return Limits.of(settings, CropSettings())
    from models.checkpoint import read_header  # brings torch, which a check without checkpoints does not need
    from tasks.dubbing.generate import check_headers
    from tasks.published import weights_in_use, with_weights_in_use

    both = settings.renderer and settings.landmark_generator
    return Limits.of(settings, check_headers(with_weights_in_use(settings)) if both else read_header(weights_in_use(one)).crop)


def check_lines(summary: CheckSummary) -> list[str]:
    """A check as a person reads it."""
    lines = [f"grade: {summary.grade}", *(f"reason: {reason}" for reason in summary.reasons)]
    if summary.face_px:
        lines.append(f"face: {summary.face_px:.0f} px")
    if not summary.duration_s:
        return [*lines, "cost: it follows from how long the speech is; give one, too"]
    how_much = f"of which {spoken_duration(summary.source_shown_s)}" if summary.source_shown_s else "none of which"
    lines.append(f"dub: {spoken_duration(summary.duration_s)}, {how_much} would show the source")
    if summary.source_shown:
        lines.append(f"source shown, by the video's time: {stretches_in_words(summary.source_shown)}")
    if not summary.frames:
        return [*lines, "cost: no frame to render"]
    how_long = f"about {spoken_duration(summary.render_s)} on this machine's processor with networks of the published size in fp32"
    return [*lines, f"cost: {summary.frames:,} frames to render, {how_long}; far less on a GPU"]


def _heard(path: Path) -> SpeechFacts:
    if not probe(path).has_audio:
        raise MediaError(Reason.NO_AUDIO, f"There is no sound in {path}; give a file with speech.")
    return SpeechFacts.of(waveform_of(path)[0])


def _refusals(path: Path, video: str, info: MediaInfo, limits: Limits) -> Iterator[Finding]:
    """What the dub would turn away before its first frame, in the dub's own words."""
    try:
        with named_as_given(str(path), video):
            if limits.hdr == "refuse":
                refuse_hdr(path, info.colour)
    except MediaError as error:
        yield Finding(Severity.NO, str(error))


def _frames(info: MediaInfo, fps: Fraction, heard: SpeechFacts | None) -> int:
    """Frames of the dub; without a speech those of the video, where it says how long it is."""
    if heard is None:
        length_s = Fraction(info.duration_s or 0).limit_denominator(CLOCK)
        return math.floor(fps * length_s + Fraction(1, 2))  # MPEG streams, of which only the last picture's beginning is known, end in half a frame
    frames = frames_of_speech(fps, Fraction(round(heard.duration_s * SAMPLE_RATE), SAMPLE_RATE))
    if frames < 1:
        raise MediaError(Reason.TOO_SHORT, "The speech is shorter than one video frame; give a longer one.")
    return frames


def _summary(info: MediaInfo, frames: int, duration_s: float, looks: list[Glance], findings: list[Finding], limits: Limits) -> CheckSummary:
    until_s = info.duration_s or duration_s
    shares = np.array([limits.share(look.face) for look in looks])
    rendered = round(frames * float(np.mean(shares > 0)))
    tflop = tflop_of(rendered, limits.references, limits.crop.size)
    worst_first = sorted(findings, key=lambda finding: -finding.severity)
    return CheckSummary(
        grade=GRADES[max((finding.severity for finding in findings), default=0)],
        reasons=tuple(finding.sentence for finding in worst_first),
        duration_s=duration_s,
        source_shown_s=duration_s * float(1 - shares.mean()),
        source_shown=tuple(shown.replaced(end_s=duration_s) if info.is_picture else shown for shown in source_shown(looks, limits, until_s)),
        face_px=float(np.median([look.face.face_px for look in looks if look.face] or [0.0])),
        frames=rendered,
        tflop=tflop,
        render_s=processor_s(tflop),
    )
