"""Keeping known noise of compiled libraries off standard error, and nothing else."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def filtered_stderr(noise: re.Pattern[bytes]) -> Iterator[None]:
    """Holds back what is written to file descriptor 2, by compiled code too; lines that are not noise follow at the end.

    For short calls: other threads' lines to standard error are held back with it, in order.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        own = os.dup(STDERR)
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(own, STDERR)
            os.close(own)
            held.seek(0)
            for line in held:
                if not noise.match(line):
                    os.write(STDERR, line)
