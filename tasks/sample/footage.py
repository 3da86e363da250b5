"""Clips of two people who say sentences, with faces that FaceMesh and dlib find, and a speech to dub them with."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import SettingsError
from tasks import places
from tasks.media.encode import Sound, VideoWriter
from tasks.sample.articulation import MouthMotion, mouth_motion
from tasks.sample.portrait import STILLS, Picture, Pose, load_portrait
from tasks.sample.speech import Speech, Voice, join_speech, make_sample_speech, speak

FPS = 25
PAUSE_S = 0.2
CRF = 16
"""x264 quality: compression must not blur what little a portrait of 400 pixels shows."""

VOICES = {"astronaut": Voice("Annie", pitch=55), "admiral": Voice("grandma", pitch=40, words_per_minute=145)}
SENTENCES = {
    "en": (
        "We promised to come back before the evening.",
        "The old map shows a path through the forest.",
        "Please bring my blue umbrella, it may rain.",
        "A small boat moved slowly over the calm water.",
        "Both of them remember the summer by the sea.",
        "Open the window and let the fresh air in.",
        "Above all, we must be patient with the machine.",
        "People often ask me how far away the moon is.",
        "My father made bread and warm apple pie.",
        "You could hear the music all over the valley.",
    ),
    "cmn": (
        "今天天气很好，我们去公园散步吧。",
        "他把那本书放在桌子上面。",
        "妈妈明白你为什么不喜欢苹果。",
        "我们的飞机马上就要起飞了。",
        "请你慢慢地把这个故事说给我听。",
        "门外有一只白色的小猫。",
        "学习一门语言需要耐心和时间。",
        "晚上我们一起吃饭，好不好？",
        "北京的冬天比上海冷得多。",
        "老师让大家把窗户打开。",
    ),
}
DUBBING_SENTENCES = {
    "en": "Hello, this voice was never part of the video. Watch how my mouth follows every word that I say.",
    "cmn": "大家好，这个声音原来不在视频里。请看我的嘴怎么跟着每一个字动。",
}
"""Said in no clip."""


@dataclass(frozen=True)
class SampleFootage:
    """What was made: a source folder for `ingest`, its clips, its speaker table, and a speech (WAV) to dub a clip with."""

    folder: Path
    clips: list[Path]
    speakers_csv: Path
    speech: Path


@dataclass(frozen=True)
class _Plan:
    """One clip before it is made."""

    path: Path
    speaker: str
    sentences: tuple[str, ...]
    language: str
    frames: int
    seed: tuple[int, ...]


def make_sample_footage(
    folder: Path, clips: int = 8, seconds: tuple[float, float] = (3, 6), languages: tuple[str, ...] = ("en", "cmn"), seed: int = 0
) -> SampleFootage:
    """Writes `<folder>/<speaker>/<nn>.mp4` (25 fps, H.264 + AAC), and next to the folder `speakers.csv` and `speech.wav`.

    `seconds` are the shortest and the longest clip. Speakers and languages take turns. The same arguments make the same footage.
    Raises SettingsError for a language without sample sentences, StoreError when the place cannot be written.
    """
    unknown = [language for language in languages if language not in SENTENCES]
    if unknown or not languages:
        raise SettingsError(f"There are sample sentences in {' and '.join(SENTENCES)} only, not in {', '.join(unknown) or 'no language'}.")
    plans = list(_plan_clips(folder, clips, seconds, languages, seed))
    for plan in plans:
        _make_clip(plan)
    speakers_csv = _write_speakers(folder, plans)
    speech = make_sample_speech(folder.parent / "speech.wav", DUBBING_SENTENCES[languages[0]], languages[0], Voice("belinda"))
    return SampleFootage(folder, [plan.path for plan in plans], speakers_csv, speech)


def _plan_clips(folder: Path, clips: int, seconds: tuple[float, float], languages: tuple[str, ...], seed: int) -> Iterator[_Plan]:
    """Who says what in which clip: a language's sentences are all said once before any is said again."""
    random = np.random.default_rng(seed)
    speakers = list(STILLS)
    orders = {language: list(random.permutation(SENTENCES[language])) for language in languages}
    for number in range(clips):
        speaker = speakers[number % len(speakers)]
        language = languages[number // len(speakers) % len(languages)]
        order = orders[language]
        orders[language] = order[2:] + order[:2]
        frames = round(float(random.uniform(*seconds)) * FPS)
        path = folder / speaker / f"{number // len(speakers) + 1:02d}.mp4"
        yield _Plan(path, speaker, tuple(order), language, frames, seed=(seed, number))


def _make_clip(plan: _Plan) -> None:
    speech = _speech_of_length(plan)
    portrait = load_portrait(plan.speaker)
    height, width = portrait.picture.shape[:2]
    sound = Sound(speech.samples[:, None], speech.sample_rate)
    with VideoWriter(str(plan.path), width, height, Fraction(FPS), sound, crf=CRF) as writer:
        for picture in talking_pictures(plan.speaker, speech, plan.frames, plan.seed):
            writer.write(picture)


def _speech_of_length(plan: _Plan) -> Speech:
    """The plan's sentences, as many as fill its frames, the last one cut where they end."""
    duration_s = plan.frames / FPS
    pieces: list[Speech] = []
    for sentence in plan.sentences:
        pieces.append(speak(sentence, plan.language, VOICES[plan.speaker]))
        if sum(piece.duration_s + PAUSE_S for piece in pieces) >= duration_s:
            break
    return join_speech(pieces, PAUSE_S, duration_s)


def talking_pictures(speaker: str, speech: Speech, frames: int, seed: tuple[int, ...]) -> Iterator[Picture]:
    """The speaker's portrait saying the speech, frame by frame (H, W, 3) uint8 BGR at 25 a second; the head sways by the seed."""
    portrait = load_portrait(speaker)
    motion = mouth_motion(speech, FPS, frames)
    for pose in _poses(motion, np.random.default_rng(seed)):
        yield portrait.posed(pose)


def _poses(motion: MouthMotion, random: np.random.Generator) -> Iterator[Pose]:
    """Mouth as it speaks; a head that sways slowly, and nods a little where the voice is loud."""
    frames = len(motion.opening)
    x, y, roll, growth = (_sway(frames, random) for _ in range(4))
    nod = _slow(motion.loudness)
    for frame in range(frames):
        yield Pose(
            opening=float(motion.opening[frame]),
            rounding=float(motion.rounding[frame]),
            head_x=5.0 * x[frame],
            head_y=3.0 * y[frame] + 3.0 * nod[frame],
            head_roll=0.04 * roll[frame],
            head_growth=0.015 * growth[frame],
        )


def _sway(frames: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Smooth wandering within -1..1: three slow swings of random speed and start."""
    time_s = np.arange(frames) / FPS
    speeds_hz, starts = random.uniform((0.1, 0.25, 0.5), (0.2, 0.45, 0.8)), random.uniform(0, 2 * np.pi, 3)
    swings = np.sin(2 * np.pi * speeds_hz * time_s[:, None] + starts)
    return np.asarray(swings @ np.array((0.6, 0.3, 0.1)))


def _slow(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(values, 0.2 * FPS, mode="nearest"))


def _write_speakers(folder: Path, plans: list[_Plan]) -> Path:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("source", "speaker"))
    writer.writerows((plan.path.relative_to(folder).as_posix(), plan.speaker) for plan in plans)
    path = folder.parent / "speakers.csv"
    places.write_bytes(str(path), table.getvalue().encode())
    return path
