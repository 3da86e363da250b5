"""What lowers the grade of a dub that is only planned: sentences about the footage and the speech, and how grave each is."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.jobs import SourceShown
from schemas.locations import without_secrets
from schemas.settings import CropSettings, DubSettings, names_a_picture
from tasks.audio import SAMPLE_RATE, Waveform
from tasks.dubbing.frame_arrays import pieces_of
from tasks.dubbing.looks import LOOKS_A_SECOND, Face, Glance
from tasks.dubbing.speech import mel_of
from tasks.dubbing.voice import speaking
from tasks.dubbing.when_to_dub import facing
from tasks.durations import spoken_duration
from tasks.mel_windows import MEL_FPS

ShownReason = Literal["no-face", "turned-away", "too-small"]

SMALL_FACE_PX = 80.0
"""Landmarks go clearly wrong under this size (as `min_face_px` of a snapshot says)."""
ENLARGED_TIMES = 3.0
"""A generated face that is enlarged more than so is softer than the footage around it."""
TURNED_FAIR_DEG = 25.0
"""A head that is mostly turned so far shows one corner of the mouth foreshortened; nothing is wrong with it yet."""
BLURRED_FAIR, BLURRED_POOR = 60.0, 30.0
"""Sharpness at 128 pixels. Of 36 clips of talking people half lie above 270; at 15 to 30 eyes and lips have no edges."""
DARK_FAIR, DARK_POOR, BRIGHT_FAIR = 50.0, 30.0, 220.0
"""Mean grey of the face, 0..255; good footage lies between 70 and 170."""
SHOWN_FAIR, SHOWN_POOR, SHOWN_NO = 0.03, 0.25, 0.9
"""Share of the dub that would show the source."""
SEVERAL_SHARE = 0.2
"""Share of the looks with two or more faces of like size, from which on it must be said whose is dubbed."""
CUT_EVERY_S = 4.0
"""More cuts than one in so many seconds: short shots leave little to smooth and to choose references from."""
SLOW_FPS = 20
"""Under so many frames a second the steps of a mouth are seen."""
LONGER_TIMES = 1.2
"""Speech longer than so many times the video shows the person going back and forth, or jumping to the video's beginning."""
MUCH_LONGER_TIMES = 4.0
CLIPPED_LEVEL, CLIPPED_SHARE = 0.99, 0.001
"""Samples at the limit, and the share of them from which on they are a fault and not a loud moment."""
NOISY_FAIR_DB, NOISY_POOR_DB = 15.0, 6.0
"""Speech over the quietest twentieth of the sound; studios have 25 to 50, speech in a noise as loud as itself 8."""
QUIETEST_PERCENTILE = 5
LEAST_POWER = 1e-12
MEL_SAMPLES = SAMPLE_RATE // MEL_FPS
SAMPLES_AT_ONCE = 4096 * MEL_SAMPLES
"""Samples of a speech that are looked at together, to bound memory; whole mel frames."""


class Severity(IntEnum):
    """The grade that a finding leaves."""

    GOOD = 0
    FAIR = 1
    POOR = 2
    NO = 3


@dataclass(frozen=True)
class Finding:
    """One sentence, and the best grade that it allows."""

    severity: Severity
    sentence: str


INTERLACED = Finding(Severity.FAIR, "The video is interlaced, and its dub would show both fields of what moves as a comb; deinterlace it first.")


@dataclass(frozen=True)
class Limits:
    """What a dub would be made with, as in `DubSettings`, and the crop of its networks."""

    fade_from_yaw_deg: float = DubSettings.model_fields["fade_from_yaw_deg"].default
    gone_at_yaw_deg: float = DubSettings.model_fields["gone_at_yaw_deg"].default
    min_face_px: float = DubSettings.model_fields["min_face_px"].default
    references: int = DubSettings.model_fields["references"].default
    fps: str = DubSettings.model_fields["fps"].default
    loop: str = DubSettings.model_fields["loop"].default
    hdr: str = DubSettings.model_fields["hdr"].default
    face: str = DubSettings.model_fields["face"].default
    crop: CropSettings = field(default_factory=CropSettings)

    @classmethod
    def of(cls, settings: DubSettings, crop: CropSettings) -> "Limits":
        """Those of a dub's settings and its networks' crop."""
        taken = {one.name: getattr(settings, one.name) for one in fields(cls) if one.name != "crop"}
        return cls(**taken, crop=crop)

    def share(self, face: Face | None) -> float:
        """How much of the dub a look would show, 0..1; the rest is the source."""
        if face is None or face.face_px < self.min_face_px:
            return 0.0
        return float(facing(np.array([face.yaw_deg], dtype=np.float32), self.fade_from_yaw_deg, self.gone_at_yaw_deg)[0])


@dataclass(frozen=True)
class SpeechFacts:
    """What is heard in a speech. spoken_share and clipped_share in 0..1; over_noise_db None where nobody speaks."""

    duration_s: float
    spoken_share: float
    clipped_share: float
    over_noise_db: float | None

    @classmethod
    def of(cls, waveform: Waveform) -> "SpeechFacts":
        """Those of a 16 kHz waveform (n,), which may be mapped: little of it is in memory at once."""
        spoken = speaking(mel_of(waveform))
        clipped = sum(np.count_nonzero(np.abs(piece) >= CLIPPED_LEVEL) for piece in pieces_of(waveform, SAMPLES_AT_ONCE))
        return cls(len(waveform) / SAMPLE_RATE, float(spoken.mean()), clipped / max(1, len(waveform)), _over_noise_db(waveform, spoken))


def source_shown(looks: list[Glance], limits: Limits, until_s: float) -> tuple[SourceShown, ...]:
    """Stretches, in seconds of the video, in which looks on end would show the source, and why."""
    shown: list[SourceShown] = []
    for look, end_s in zip(looks, _ends_s(looks, until_s), strict=True):
        reason = _reason(look.face, limits)
        if reason is None:
            continue
        if shown and shown[-1].reason == reason and shown[-1].end_s == look.time_s:
            shown[-1] = shown[-1].replaced(end_s=end_s)
        else:
            shown.append(SourceShown(start_s=look.time_s, end_s=end_s, reason=reason))
    return tuple(shown)


def footage_findings(looks: list[Glance], limits: Limits, fps: float, *, is_picture: bool) -> Iterator[Finding]:
    """What speaks against the footage."""
    faces = [look.face for look in looks if look.face is not None]
    if not faces:
        yield Finding(Severity.NO, _no_face(max((look.seen for look in looks), default=0), limits.face, "picture" if is_picture else "video"))
        return
    yield from _shown_findings(looks, limits)
    yield from _size_findings(_median(faces, "face_px"), limits)
    yield from _picture_findings(faces)
    yield from _person_findings(looks, limits.face, is_picture=is_picture)
    yield from _cut_findings(looks)
    if fps < SLOW_FPS and not is_picture:
        yield Finding(Severity.FAIR, f"The video has {fps:.3g} frames a second, so that lips move in visible steps.")


def speech_findings(speech: SpeechFacts, video_s: float | None, loop: str = "forth-and-back") -> Iterator[Finding]:
    """What speaks against the speech. video_s: how long the video is; None: a still picture, or unknown. loop: as in `DubSettings`."""
    if not speech.spoken_share:
        yield Finding(Severity.NO, "No speech is heard in the sound; the mouth would stay closed.")
        return
    if speech.clipped_share > CLIPPED_SHARE:
        yield Finding(Severity.FAIR, f"{speech.clipped_share:.1%} of the speech is clipped; record it less loud.")
    if speech.over_noise_db is not None and speech.over_noise_db < NOISY_FAIR_DB:
        grave = Severity.POOR if speech.over_noise_db < NOISY_POOR_DB else Severity.FAIR
        yield Finding(grave, f"The speech is only {speech.over_noise_db:.0f} dB louder than the noise around it; noise moves the lips too.")
    if video_s and speech.duration_s > LONGER_TIMES * video_s:
        much = speech.duration_s > MUCH_LONGER_TIMES * video_s
        lengths = f"The speech lasts {spoken_duration(speech.duration_s)} and the video {spoken_duration(video_s)}"
        again = "begins again, with a cut each time," if loop == "cut" else "is played forth and back"
        yield Finding(Severity.POOR if much else Severity.FAIR, f"{lengths}, which {again} until the speech ends.")


def _no_face(seen: int, choice: str, footage: str) -> str:
    if not seen:
        return f"No face was found in the {footage}; give footage of a face seen from the front."
    most = "one face is" if seen == 1 else f"{seen} faces are"
    return f"At most {most} seen at once, so there is no face {choice}: they are counted from 0, left to right."


def _person_findings(looks: list[Glance], choice: str, *, is_picture: bool) -> Iterator[Finding]:
    """Of several faces, whose is dubbed, and which one was looked at; nothing where a place was chosen."""
    several = float(np.mean([look.persons > 1 for look in looks]))
    is_said, grave = several >= SEVERAL_SHARE, Severity.FAIR if several >= SEVERAL_SHARE else Severity.GOOD
    there = f"Several faces of like size are there in {'the picture' if is_picture else f'{several:.0%} of the video'}"
    looked_at = f"{there}; the" if is_said else "The"
    looked_at += " check looked at the largest face of each picture, and the dub takes the person"
    if choice == "largest" and is_said:
        yield Finding(grave, f"{there}; the largest is dubbed unless --face says another.")
    elif names_a_picture(choice):
        yield Finding(grave, f"{looked_at} whom {without_secrets(choice)} shows.")
    elif choice == "speaking" and any(look.seen > 1 for look in looks):
        yield Finding(grave, f"{looked_at} whose lips move with the sound.")


def _cut_findings(looks: list[Glance]) -> Iterator[Finding]:
    cuts = sum(look.is_cut for look in looks)
    every_s = len(looks) / LOOKS_A_SECOND / max(cuts, 1)
    if cuts > 1 and every_s < CUT_EVERY_S:
        yield Finding(Severity.FAIR, f"The picture changes at once, as at cuts, about every {every_s:.0f} s; in short shots the mouth is less steady.")


def _shown_findings(looks: list[Glance], limits: Limits) -> Iterator[Finding]:
    shown = 1 - float(np.mean([limits.share(look.face) for look in looks]))
    if shown >= SHOWN_FAIR:
        grave = Severity.NO if shown >= SHOWN_NO else Severity.POOR if shown >= SHOWN_POOR else Severity.FAIR
        yield Finding(grave, f"{shown:.0%} of the dub would show the source: {_causes(looks, limits)}.")


def _causes(looks: list[Glance], limits: Limits) -> str:
    reasons = [_reason(look.face, limits) for look in looks]
    said = {
        "no-face": "no face is found",
        "turned-away": f"the head is turned beyond {limits.fade_from_yaw_deg:g}°",
        "too-small": f"the face is under {limits.min_face_px:g} px",
    }
    return ", ".join(f"{text} ({reasons.count(reason) / len(reasons):.0%})" for reason, text in said.items() if reason in reasons)


def _size_findings(face_px: float, limits: Limits) -> Iterator[Finding]:
    if limits.min_face_px <= face_px < SMALL_FACE_PX:
        yield Finding(Severity.POOR, f"The face is {face_px:.0f} px wide; under {SMALL_FACE_PX:.0f} px its landmarks are not to be trusted.")
    elif face_px > ENLARGED_TIMES * limits.crop.size:
        softer = f"The face is {face_px:.0f} px wide and the networks make {limits.crop.size}"
        yield Finding(Severity.FAIR, f"{softer}; the lower face would be softer than the rest.")


def _picture_findings(faces: list[Face]) -> Iterator[Finding]:
    yaw_deg, sharpness, brightness = (_median(faces, measure) for measure in ("yaw_deg", "sharpness", "brightness"))
    if yaw_deg > TURNED_FAIR_DEG:
        yield Finding(Severity.FAIR, f"The head is mostly turned by {yaw_deg:.0f}°; a mouth seen from the front looks better.")
    if sharpness < BLURRED_FAIR:
        yield Finding(Severity.POOR if sharpness < BLURRED_POOR else Severity.FAIR, "The face is blurred, and so will be what is made after it.")
    if brightness < DARK_FAIR:
        yield Finding(Severity.POOR if brightness < DARK_POOR else Severity.FAIR, f"The face is dark (a mean grey of {brightness:.0f} of 255).")
    if brightness > BRIGHT_FAIR:
        yield Finding(Severity.FAIR, f"The face is overexposed (a mean grey of {brightness:.0f} of 255).")


def _reason(face: Face | None, limits: Limits) -> ShownReason | None:
    if face is None:
        return "no-face"
    if face.face_px < limits.min_face_px:
        return "too-small"
    return "turned-away" if limits.share(face) < 1 else None


def _ends_s(looks: list[Glance], until_s: float) -> list[float]:
    """Where what a look stands for ends: at the next look of its stretch, or when it would be due."""
    times = [look.time_s for look in looks]
    following = [*times[1:], np.inf]
    return [min(time_s + 1 / LOOKS_A_SECOND, next_s, max(until_s, time_s)) for time_s, next_s in zip(times, following, strict=True)]


def _median(faces: list[Face], measure: str) -> float:
    return float(np.median([getattr(face, measure) for face in faces]))


def _over_noise_db(waveform: Waveform, spoken: npt.NDArray[np.bool_]) -> float | None:
    power = np.concatenate([_power(piece) for piece in pieces_of(waveform, SAMPLES_AT_ONCE)])
    spoken = spoken[: len(power)]
    if not spoken.any():
        return None
    speech, quiet = power[spoken].mean(), np.percentile(power, QUIETEST_PERCENTILE)
    return 10 * float(np.log10((speech + LEAST_POWER) / (quiet + LEAST_POWER)))


def _power(waveform: Waveform) -> npt.NDArray[np.float64]:
    """Mean power of each whole mel frame of a waveform (n,): (n // MEL_SAMPLES,)."""
    frames = len(waveform) // MEL_SAMPLES
    return np.asarray(np.square(waveform[: frames * MEL_SAMPLES].reshape(frames, MEL_SAMPLES), dtype=np.float64).mean(axis=1))
