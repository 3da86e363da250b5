"""What a corpus store takes up, by folder."""

from collections import Counter
from dataclasses import dataclass

from tasks import places

WORDS = {
    "faces": "face pictures, in tar files",
    "landmarks": "landmarks, a row a frame",
    "audio": "mel spectrograms and sound",
    "clips": "the clips and their measures",
    "rejects": "what was turned away, and why",
    "plans": "which sources make up which batch",
    "snapshots": "frozen choices of clips",
    "known": "an index of the sources, for planning",
}
"""What lies in the folders of a store."""


@dataclass(frozen=True)
class StorageRow:
    """A folder of a store. Shares are of the store's bytes."""

    folder: str
    explanation: str
    bytes: int
    files: int
    share: float
    bytes_a_frame: float | None
    files_a_million_frames: float | None
    """None where there are no frames."""


def storage_rows(store_uri: str, frames: int) -> list[StorageRow]:
    """A row a folder, the largest first; the last one is the whole store. Lists the store once."""
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    root = _path(store_uri)
    for found in places.list_objects(store_uri):
        below = _path(found.path).removeprefix(root).lstrip("/")
        folder = below.partition("/")[0] if "/" in below else ""
        sizes[folder] += found.size
        files[folder] += 1
    whole = sum(sizes.values())
    rows = [_row(folder, size, files[folder], whole, frames) for folder, size in sizes.most_common()]
    return [*rows, _row("together", whole, sum(files.values()), whole, frames)]


def _row(folder: str, size: int, files: int, whole: int, frames: int) -> StorageRow:
    name, words = folder or "settings.json", WORDS.get(folder, "" if folder else "the store's settings")
    return StorageRow(name, words, size, files, size / max(whole, 1), size / frames if frames else None, 1e6 * files / frames if frames else None)


def _path(location: str) -> str:
    """A location without its protocol and the slashes at its ends, which a listing may write otherwise."""
    return (location.partition("://")[2] if places.is_remote(location) else str(places.local_path(location))).strip("/")
