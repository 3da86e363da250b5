"""machine_init.py FOLDER NAME ADDRESS COMMAND...: the first process of a machine of the tests; runs the command and ends when it does.

It is started in namespaces of its own for mounts, processes and names, and gives the machine a /tmp (which is FOLDER outside), shared
memory and a name. When it ends, however it does, the kernel ends whatever else runs on the machine: as if its power were cut.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType


def main() -> int:
    """The exit code of the command."""
    folder, name, address, *command = sys.argv[1:]
    hosts = Path(folder) / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    subprocess.run(["mount", "--bind", folder, "/tmp"], check=True)  # noqa: S108 - what this is for
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)  # noqa: S108
    socket.sethostname(name)
    child = subprocess.Popen(command, cwd="/tmp")  # noqa: S108

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    while True:  # the first process inherits the orphans of all others, and must see them off
        process, status = os.wait()
        if process == child.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
