"""Where somebody speaks, heard in the mel spectrogram; and the mouth that comes to rest where nobody does.

Speech is what rises above the sound's own floor, band by band, near voiced sound: a breath before a sentence is neither loud
in the low bands nor followed by them at once. No network, so no weights: the floor and the thresholds follow the recording.
"""

import itertools

import numpy as np
import numpy.typing as npt

from schemas.face_points import CONTENT_INDICES
from tasks.dubbing.frame_arrays import let_go, pieces_of, rows_of
from tasks.dubbing.head_placement import placement, plane_of, points_of
from tasks.mel_windows import MEL_FPS, SILENCE, VIDEO_FPS

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

DB_A_UNIT = 12.5
"""The mel spectrogram's -4..4 are 100 dB (contract: Audio)."""
PIECE_FRAMES = 60 * MEL_FPS
"""The floor is measured anew about once a minute: rooms change, and memory stays bounded."""
SOUNDING_DB = 1.0
"""Mean over the bands above the spectrogram's bottom; below it is digital silence, which says nothing of the room's floor."""
FLOOR_PERCENTILE = 10
"""Of a band's levels. Even speech without a pause leaves each band so often: vowels the high ones, fricatives the low ones."""
LOUD_PERCENTILE, LOUD_ABOVE_FLOOR_DB = 95, 42.0
"""A floor is at most so far under the loud levels: echoes and coding noise under it are not heard as speech."""
MOST_DB = 40.0
"""What rises higher above the floor counts no more: one shrill band is no speech."""
VOICED_BANDS = slice(2, 20)
"""About 130 to 800 Hz: voices are loud there; breaths, fricatives and clicks are not."""
QUIET_PERCENTILE, ACTIVE_PERCENTILE = 5, 95
LEAST_CONTRAST_DB = 3.0
"""Between quiet and active frames, mean over the bands. Steady noise has 0.9, speech in white noise as loud as itself 3.5."""
BEGIN_SHARE, STAY_SHARE, VOICED_SHARE = 0.35, 0.2, 0.4
"""Of the way from quiet to active: what a stretch of speech must reach once, what it must keep, and where a voice is heard. Chosen on
77 clips and sound files, studio to restaurant, where it agrees with Silero's voice activity, pauses filled alike, in 94.8 % of the time."""
BEGIN_DB, STAY_DB = 2.0, 1.2
"""Least such rises: noise alone moves by less."""
BEFORE_VOICE = round(0.15 * MEL_FPS)
"""Longest unvoiced beginning of a word, in mel frames; what comes before it is a breath."""
AFTER_VOICE = round(0.25 * MEL_FPS)
"""Longest unvoiced end of a word, in mel frames."""
SHORTEST_RISE = 3
"""Mel frames; shorter ones are clicks."""
SHORTEST_PAUSE = round(0.25 * MEL_FPS)
"""Mel frames. Shorter pauses are within words and phrases (a stop's closure lasts 0.05 to 0.15 s): the mouth does not rest there."""
SHORTEST_SPEECH = round(0.1 * MEL_FPS)
"""Mel frames; a shorter sound by itself is a click or a chair."""
OPENS_EARLY, CLOSES_LATE = round(0.02 * MEL_FPS), round(0.06 * MEL_FPS)
"""Mel frames by which the middle of the glide lies outside the sound. With half of the glide more, lips begin to open two frames
(0.08 s) before the sound and begin to close with its end."""
GLIDE = 2 * round(0.06 * MEL_FPS) + 1
"""Mel frames that the mouth takes from rest to speech."""

INNER_LIPS = CONTENT_INDICES.index(13), CONTENT_INDICES.index(14)
"""Positions in content of the inner middles of the lips: their distance is what is open."""
REST_SHARE = 0.05
"""Share of a template's frames, those with the lips most closed, from whose median the resting mouth is made."""
MOST_REST_FRAMES = 5000
"""Frames that are looked at for it, evenly spread: those of three minutes tell it as well as those of hours."""
REST_FRAMES = 5
"""Fewest such frames, where there are as many: one frame may be a bilabial with the lips pressed, or a landmark that jumped."""


def speaking(mel: FloatArray) -> BoolArray:
    """Whether somebody speaks at each mel frame (frames, 80) float32 in -4..4, 80 a second: (frames,).

    Pauses under 0.25 s count as spoken. Steady noise and digital silence are silence.
    """
    spoken = np.zeros(len(mel), dtype=np.bool_)
    ceiling_db = _loud_db(mel) - LOUD_ABOVE_FLOOR_DB
    for begin, end in _pieces(len(mel)):
        spoken[begin:end] = _rising(_levels_db(mel[begin:end]), ceiling_db)
        let_go(mel)
    return _without_short(_filled(_without_short(spoken, SHORTEST_RISE)), SHORTEST_SPEECH)


def spoken_share(mel: FloatArray, steps: int) -> FloatArray:
    """How much the mouth speaks at each of the first `steps` steps of the 25-a-second timeline: (steps,) float32 in 0..1.

    mel (frames, 80) float32 in -4..4, 80 a second, beginning with step 0. 1 where somebody speaks, 0 where nobody does, with
    smooth ways of 0.12 s between; lips begin to open 0.08 s before the sound. Beyond the sound there is silence.
    """
    if not len(mel):
        return np.zeros(steps, dtype=np.float32)
    spoken = np.pad(speaking(mel), (0, CLOSES_LATE + GLIDE))
    share = _glide(_widened(spoken, OPENS_EARLY, CLOSES_LATE))
    middles = (np.arange(steps) + 0.5) * MEL_FPS / VIDEO_FPS
    return np.interp(middles, np.arange(len(share)), share).astype(np.float32)


def closed_content(pose: FloatArray, content: FloatArray, seen: BoolArray, clear: BoolArray) -> FloatArray:
    """The person's own closed mouth (2, 57) float32, seen from the upper face (centimetres of the canonical one): for `at_rest`.

    pose (F, 2, 74) and content (F, 2, 57), in shares of the box: a template's. seen (F,): frames with a face. clear (F,): those whose
    landmarks can be trusted; where none of them has a face, all faces are taken. Made from the frames with the smallest opening between
    the lips, for its face's size. Raises ValueError when no frame has a face.
    """
    every = np.flatnonzero(seen & clear if (seen & clear).any() else seen)
    if not len(every):
        raise ValueError("no frame has a face")
    some = every[np.linspace(0, len(every) - 1, min(len(every), MOST_REST_FRAMES)).astype(np.int64)]
    centre, turn = placement(rows_of(pose, some))
    mouths = (plane_of(rows_of(content, some)) - centre) / turn
    opening = np.abs(mouths[:, INNER_LIPS[0]] - mouths[:, INNER_LIPS[1]])
    most = min(len(opening), max(REST_FRAMES, round(REST_SHARE * len(opening))))
    return np.median(points_of(mouths[np.argsort(opening, kind="stable")[:most]]), axis=0)


def at_rest(content: FloatArray, pose: FloatArray, spoken: FloatArray, closed: FloatArray) -> FloatArray:
    """Content (n, 2, 57) whose mouth glides to rest where nobody speaks, and is as it was where somebody does.

    pose (n, 2, 74): the head of each, which the resting mouth follows. spoken (n,) in 0..1, of `spoken_share`.
    closed (2, 57): of `closed_content`.
    """
    centre, turn = placement(pose)
    resting = points_of(plane_of(closed) * turn + centre)
    share = spoken.astype(np.float32)[:, None, None]
    return np.where(share < 1, share * content + (1 - share) * resting, content)


def _pieces(frames: int) -> list[tuple[int, int]]:
    """Even pieces of about PIECE_FRAMES, so that the last is not too short to know its own floor."""
    count = max(1, round(frames / PIECE_FRAMES))
    bounds = [frames * piece // count for piece in range(count + 1)]
    return list(itertools.pairwise(bounds))


def _levels_db(mel: FloatArray) -> FloatArray:
    """Levels (frames, bands) in dB over the spectrogram's bottom, each the mean of three frames: 0 where all three are silent."""
    levels = (np.pad(mel, ((1, 1), (0, 0)), mode="edge") - np.float32(SILENCE)) * np.float32(DB_A_UNIT)
    return (levels[:-2] + levels[1:-1] + levels[2:]) / 3


def _loud_db(mel: FloatArray) -> float:
    """The loud level of a whole sound; every 8th frame tells it as well as all do."""
    levels = np.concatenate([_sounding_db(piece[::8]) for piece in pieces_of(mel)])
    return float(np.percentile(levels, LOUD_PERCENTILE, overwrite_input=True)) if len(levels) else 0.0


def _sounding_db(mel: FloatArray) -> FloatArray:
    """The levels (n, bands) in dB of those of the mel frames that are no digital silence."""
    levels = (mel - SILENCE) * DB_A_UNIT
    return levels[levels.mean(axis=1) > SOUNDING_DB]


def _rising(levels_db: FloatArray, least_floor_db: float) -> BoolArray:
    """Frames (frames,) of levels (frames, bands) that rise above the floor as speech does."""
    sounding = levels_db.mean(axis=1) > SOUNDING_DB
    if not sounding.any():
        return sounding
    floor_db = np.maximum(np.percentile(levels_db[sounding], FLOOR_PERCENTILE, axis=0), least_floor_db)
    rise_db = np.clip(levels_db - floor_db, 0, MOST_DB)
    rise, voice = rise_db.mean(axis=1), rise_db[:, VOICED_BANDS].mean(axis=1)
    quiet, active = np.percentile(rise[sounding], (QUIET_PERCENTILE, ACTIVE_PERCENTILE))
    if active - quiet < LEAST_CONTRAST_DB:
        return np.zeros_like(sounding)
    stays = rise > quiet + max(STAY_DB, STAY_SHARE * (active - quiet))
    begins = rise > quiet + max(BEGIN_DB, BEGIN_SHARE * (active - quiet))
    return _reaching(stays, begins) & _near_voice(stays, voice, sounding)


def _near_voice(stays: BoolArray, voice: FloatArray, sounding: BoolArray) -> BoolArray:
    quiet, active = np.percentile(voice[sounding], (QUIET_PERCENTILE, ACTIVE_PERCENTILE))
    voiced = stays & (voice > quiet + max(BEGIN_DB, VOICED_SHARE * (active - quiet)))
    return _widened(_without_short(voiced, SHORTEST_RISE), BEFORE_VOICE, AFTER_VOICE)


def _runs(mask: BoolArray) -> list[tuple[int, int]]:
    """Where a mask is true: beginnings and ends, the ends outside."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _reaching(stays: BoolArray, begins: BoolArray) -> BoolArray:
    """The runs of one mask that the other touches."""
    kept = np.zeros_like(stays)
    for begin, end in _runs(stays):
        kept[begin:end] = begins[begin:end].any()
    return kept


def _without_short(mask: BoolArray, shortest: int) -> BoolArray:
    kept = mask.copy()
    for begin, end in _runs(mask):
        if end - begin < shortest:
            kept[begin:end] = False
    return kept


def _filled(mask: BoolArray) -> BoolArray:
    """With pauses between two runs filled that are shorter than SHORTEST_PAUSE."""
    filled = mask.copy()
    for begin, end in _runs(~mask):
        if begin > 0 and end < len(mask) and end - begin < SHORTEST_PAUSE:
            filled[begin:end] = True
    return filled


def _widened(mask: BoolArray, before: int, after: int) -> BoolArray:
    wide = mask.copy()
    for begin, end in _runs(mask):
        wide[max(0, begin - before) : end + after] = True
    return wide


def _glide(mask: BoolArray) -> npt.NDArray[np.float64]:
    """0..1, with ways of GLIDE frames that begin and end slowly; the ends of the mask go on as they are."""
    weights = np.hanning(GLIDE + 2)[1:-1]
    padded = np.pad(mask.astype(np.float64), GLIDE // 2, mode="edge")
    return np.clip(np.convolve(padded, weights / weights.sum(), mode="valid"), 0.0, 1.0)
