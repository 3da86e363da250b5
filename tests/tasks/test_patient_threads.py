"""Whatever begins a process of ours has the threads of torch sleep while they wait: said before torch is there to read it."""

import os
import subprocess
import sys

import pytest

SAYS = "import os, sys, {module}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize("module", ["dubmill", "ray_jobs"])
@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_somebody_wants_otherwise(module: str, given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | ({"OMP_WAIT_POLICY": given} if given else {})
    said = subprocess.run([sys.executable, "-c", SAYS.format(module=module)], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == [given or "PASSIVE", "False"]
