"""A machine on which torch can compile nothing."""

import pytest
import torch

from tasks.dubbing.generate import require_compiler


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, until the test ends, this machine has no compiler."""

    def fails(_: object) -> object:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fails)
    require_compiler.cache_clear()  # which holds no failures: a later test asks anew
