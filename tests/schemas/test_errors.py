"""Errors cross processes: Ray pickles what an actor raises."""

import inspect
import pickle

import pytest

from schemas import errors
from schemas.errors import DubmillError, MediaError
from schemas.reasons import Reason

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DubmillError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_whole_from_another_process(kind: type[DubmillError]) -> None:
    error = MediaError(Reason.NO_FACE, "A sentence.") if kind is MediaError else kind("A sentence.")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    assert type(back) is kind
    assert str(back) == "A sentence."
    assert getattr(back, "reason", None) == getattr(error, "reason", None)


def test_all_errors_are_looked_at() -> None:
    assert {kind.__name__ for kind in KINDS} >= {"DubmillError", "SettingsError", "StoreError", "CheckpointError", "MediaError"}
