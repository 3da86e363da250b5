"""fill_bucket.py FOLDER PREFIX: makes a bucket and puts a folder's settings files into it; what is there already stays.

The first step of docker/compose.yaml, so that the DAGs find the settings files they read.
"""

import sys
import time
from pathlib import Path

import fsspec

from schemas.errors import StoreError
from schemas.locations import reachable

ATTEMPTS, PAUSE_S = 30, 2.0
"""An object store takes some seconds to come up."""


def fill(folder: Path, prefix: str) -> list[str]:
    """Names of the files that were put there."""
    filesystem, root = fsspec.core.url_to_fs(prefix)
    filesystem.makedirs(root.split("/")[0], exist_ok=True)
    absent = [path for path in sorted(folder.glob("*.yaml")) if not filesystem.exists(f"{root}/{path.name}")]
    for path in absent:
        filesystem.put_file(str(path), f"{root}/{path.name}")
    return [path.name for path in absent]


def main() -> int:
    """Exit code 0 when everything is there."""
    folder, prefix = Path(sys.argv[1]), sys.argv[2]
    for attempt in range(ATTEMPTS):
        try:
            with reachable(prefix):
                put = fill(folder, prefix)
        except (OSError, StoreError) as error:  # an object store's client has errors of its own
            print(f"attempt {attempt + 1} of {ATTEMPTS}: {' '.join(str(error).split())}", file=sys.stderr)
            time.sleep(PAUSE_S)
        else:
            print(f"put into {prefix}: {', '.join(put) or 'nothing new'}")
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
