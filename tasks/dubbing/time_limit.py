"""How long a dub may take: by the length of its speech, looked at whenever it says how far it is."""

import time
from pathlib import Path

from schemas.errors import DubmillError, MediaError
from schemas.reasons import Reason
from tasks.audio import SAMPLE_RATE, waveform_blocks
from tasks.media.probe import probe
from tasks.progress import Progress

LEAST_S = 600.0
"""No limit is shorter: a template must be made of the whole video, and a model be compiled, however short the speech."""


def time_limit_s(speech: Path, factor: float) -> float:
    """Seconds that a dub with this speech may take: `factor` for each second of it, at least LEAST_S.

    One that does not say how long it is, as recorders in browsers leave it, is heard to its end. LEAST_S where it cannot be read: the dub
    itself finds out why.
    """
    try:
        return max(LEAST_S, factor * (probe(speech).duration_s or _heard_s(speech)))
    except (DubmillError, OSError):
        return LEAST_S


def _heard_s(speech: Path) -> float:
    return sum(map(len, waveform_blocks(speech))) / SAMPLE_RATE


def in_time(limit_s: float) -> Progress:
    """A progress for a dub that begins now. Told later than after `limit_s`, it raises MediaError(TIME_LIMIT), which ends the dub.

    What hangs in compiled code tells nothing any more: only the end of its process ends that.
    """
    ends_at = time.monotonic() + limit_s

    def tell(*_: object, **__: object) -> None:
        if time.monotonic() > ends_at:
            raise MediaError(Reason.TIME_LIMIT, f"It took longer than its time limit of {limit_s:g} s; raise time_limit_factor, or cut the speech into pieces.")

    return tell
