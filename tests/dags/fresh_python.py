"""Python with Airflow imported and nothing of ours: forked anew for each script, since importing Airflow takes longer than any of them."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Self

SERVER = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import airflow.sdk.execution_time.task_runner, airflow.timetables, airflow.serialization.serialized_objects
import airflow.dag_processing.dagbag
for line in sys.stdin:
    script, changed, arguments = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.environ.update(changed)
        sys.argv = ["script", *arguments]
        try:
            exec(compile(script, "script", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        print(json.dumps(said.read()), file=answers, flush=True)
    os.waitpid(child, 0)
"""


class FreshPython:
    """Use as a context. A script that fails gives its trace."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(self._repository), "PYTHONDONTWRITEBYTECODE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([sys.executable, "-c", SERVER], cwd=self._repository, env=environment, text=True, **pipes)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def lines(self, script: str, changed: dict[str, str] | None = None, *arguments: str) -> list[str]:
        """What a script prints, with some environment variables changed before anything of ours is imported."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([textwrap.dedent(script), changed or {}, arguments]), file=self._process.stdin, flush=True)
        answer: str = json.loads(self._process.stdout.readline())
        return answer.splitlines()
