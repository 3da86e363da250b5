"""The gate: figures held against the thresholds of the settings."""

from collections.abc import Iterator, Mapping

from schemas.gate import Gate
from schemas.settings import Limit

DIGITS = 4
NEAREST_NOUGHT = frozenset({"leak", "sync_offset"})
"""Figures with a sign, of which the size is judged: a sound that is early is no better than one that is late."""
NOTHING: Mapping[str, str] = {}


def judge(figures: Mapping[str, float], thresholds: Mapping[str, Limit], absent: Mapping[str, str] = NOTHING) -> Gate:
    """Held when a figure is beyond its limit, no number, or was not measured: nothing passes unseen. absent: why a figure was not measured."""
    if not thresholds:
        return Gate()
    faults = [fault for name, limit in thresholds.items() if (fault := _fault(name, limit, figures, absent))]
    if faults:
        return Gate(status="held", sentence=f"{'; '.join(faults)}.")
    return Gate(sentence=f"{'; '.join(_kept(name, limit, figures[name]) for name, limit in thresholds.items())}.")


def _fault(name: str, limit: Limit, figures: Mapping[str, float], absent: Mapping[str, str]) -> str:
    """What keeps a figure from passing; empty: it passes."""
    if name not in figures:
        why = f": {absent[name].rstrip('.')}" if absent.get(name) else f"; there are {', '.join(sorted(figures)) or 'no figures'}"
        return f"{name} was not measured{why}"
    value = _judged(name, figures)
    if limit.at_least is not None and not value >= limit.at_least:  # a value that is no number is under every limit, and over it
        return f"{name} is {_apart(value, limit.at_least)}, under {_digits(limit.at_least)}"
    if limit.at_most is not None and not value <= limit.at_most:
        return f"{name} is {_apart(value, limit.at_most)}, over {_digits(limit.at_most)}"
    return ""


def _judged(name: str, figures: Mapping[str, float]) -> float:
    return abs(figures[name]) if name in NEAREST_NOUGHT else figures[name]


def _kept(name: str, limit: Limit, value: float) -> str:
    return f"{name} is {_digits(value)} ({' and '.join(_words(limit))})"


def _words(limit: Limit) -> Iterator[str]:
    if limit.at_least is not None:
        yield f"at least {_digits(limit.at_least)}"
    if limit.at_most is not None:
        yield f"at most {_digits(limit.at_most)}"


def _apart(value: float, limit: float) -> str:
    """A value with as many digits as tell it from its limit."""
    return _digits(value) if _digits(value) != _digits(limit) else repr(value)


def _digits(value: float) -> str:
    return f"{value:.{DIGITS}g}"
