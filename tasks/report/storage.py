"""What a corpus store takes up, by folder."""

from dataclasses import dataclass

from tasks.corpus.stats import MILLION, StoredFiles, stored_files

WORDS = {
    "faces": "face pictures, in tar files",
    "landmarks": "landmarks, a row a frame",
    "audio": "mel spectrograms and sound",
    "clips": "the clips and their measures",
    "rejects": "what was turned away, and why",
    "plans": "which sources make up which batch",
    "snapshots": "frozen choices of clips",
    "known": "an index of the sources, for planning",
    "forgotten.parquet": "what does not come back, as hashes",
    "settings.json": "the store's settings",
}
"""What lies in a store."""


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
    """A row a folder or a file beside the folders, the largest first; the last one is the whole store."""
    held = stored_files(store_uri)
    together = StoredFiles(files=sum(folder.files for folder in held.values()), bytes=sum(folder.bytes for folder in held.values()))
    rows = [_row(name, held[name], together.bytes, frames) for name in sorted(held, key=lambda name: -held[name].bytes)]
    return [*rows, _row("together", together, together.bytes, frames)]


def _row(name: str, held: StoredFiles, whole: int, frames: int) -> StorageRow:
    a_frame, a_million = (held.bytes / frames, MILLION * held.files / frames) if frames else (None, None)
    return StorageRow(name, WORDS.get(name, ""), held.bytes, held.files, held.bytes / max(whole, 1), a_frame, a_million)
