"""What names a file by its content: checkpoints in result rows, inputs in a dub's stamp."""

import hashlib
from pathlib import Path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits, read piece by piece. FileNotFoundError when it is not there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
