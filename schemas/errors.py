"""Errors that a person can mend: each carries one clear sentence."""

from typing import Self

from schemas.reasons import Reason


class DubmillError(Exception):
    """Something the user can mend. Its text is one sentence; the command line prints it and ends with exit code 1."""


class SettingsError(DubmillError):
    """Settings that cannot be used: unknown fields, values out of range, formats that do not fit together."""


class StoreError(DubmillError):
    """A corpus store or a place that cannot be read or written."""


class CheckpointError(DubmillError):
    """A weights file that cannot be used for what is asked of it."""


class MediaError(DubmillError):
    """A video, sound or picture that cannot be used.

    `reason` says why in a form that tables keep; the text says it to a person.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[Reason, str]]:
        # An exception is otherwise made anew from its text alone, which fails here, when it comes from another process.
        return type(self), (self.reason, str(self))
