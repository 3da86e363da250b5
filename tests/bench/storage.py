"""What a corpus store takes: files and bytes a million frames, and bytes a frame beside a PNG file for each.

    python -m tests.bench.storage STORE

Bytes a frame are those of the store as it is. Files are reckoned for batches of the default size, since a small store has
small batches: a batch holds as many sources like those of the store as `batch_sources` and `batch_mb` let it, and has a plan,
four tables, and a face shard for each `shard_mb` begun. A run with more workers than it has such batches makes smaller ones.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from schemas.settings import IngestSettings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.known import read_plans
from tasks.corpus.store import CorpusStore

MILLION = 1_000_000
MEGABYTE = 1_000_000
BLOCK = 4096
"""Bytes of a file system's block (ext4, xfs): what a file takes is rounded up to it."""
INODE = 256
"""Bytes that ext4 keeps of a file besides its blocks."""
FOLDERS = (layout.FACES, layout.LANDMARKS, layout.AUDIO, layout.CLIPS, layout.REJECTS, layout.PLANS)
FILES_A_BATCH = 1 + len(layout.TABLES)
"""Besides shards: its plan and its tables."""


@dataclass(frozen=True)
class Holdings:
    """What a store holds. sources and source_bytes: those of its finished batches that became clips or not."""

    frames: int
    sources: int
    source_bytes: int
    picture_sizes: np.ndarray
    bytes_by_folder: dict[str, int]
    files: int


def holdings(store: CorpusStore) -> Holdings:
    """Counted in the store's finished batches, without the copies of a clip that lies there under two names."""
    rows = store.clips(["frames", "faces_size"])
    sources = [source for plan in read_plans(store.uri, store.batches()) for source in plan.sources]
    found = {folder: list(places.list_objects(places.join(store.uri, folder))) for folder in FOLDERS}
    return Holdings(
        frames=sum(rows["frames"].to_pylist()),
        sources=len(sources),
        source_bytes=sum(source.size for source in sources),
        picture_sizes=np.concatenate([np.asarray(sizes) for sizes in rows["faces_size"].to_pylist()]),
        bytes_by_folder={folder: sum(file.size for file in files) for folder, files in found.items()},
        files=sum(map(len, found.values())),
    )


def frames_a_batch(held: Holdings, settings: IngestSettings) -> float:
    """Frames of a batch of the default size, of sources like those that are here."""
    mean_source_mb = held.source_bytes / held.sources / MEGABYTE
    sources = min(settings.batch_sources, max(1.0, settings.batch_mb / mean_source_mb))
    return sources * held.frames / held.sources


def files_a_million(held: Holdings, settings: IngestSettings) -> float:
    """Files that a million frames become, in batches of the default size."""
    frames = frames_a_batch(held, settings)
    shards = ceil(frames * held.bytes_by_folder[layout.FACES] / held.frames / (settings.shard_mb * MEGABYTE))
    return MILLION / frames * (FILES_A_BATCH + shards)


def report(held: Holdings, settings: IngestSettings) -> Iterator[str]:
    """Lines of Markdown."""
    pictures = held.picture_sizes.mean()
    alone = (np.ceil(held.picture_sizes / BLOCK) * BLOCK + INODE).mean()
    faces = held.bytes_by_folder[layout.FACES] / held.frames
    total = sum(held.bytes_by_folder.values()) / held.frames
    yield f"{held.frames} frames of {held.sources} sources, {held.files} files\n"
    yield "| bytes a frame | |\n|---|---|"
    yield from (f"| {folder} | {size / held.frames:.0f} |" for folder, size in held.bytes_by_folder.items())
    yield f"| all | {total:.0f} |"
    yield f"| a coded picture | {pictures:.0f} |"
    yield f"| the picture in its shard: {faces / pictures - 1:+.1%} | {faces:.0f} |"
    yield f"| the picture as a file of its own: {alone / pictures - 1:+.1%} | {alone:.0f} |"
    yield f"\nFrames a batch of default size: {frames_a_batch(held, settings):.0f}"
    yield f"A million frames: {files_a_million(held, settings):.0f} files, {total * MILLION / 1e9:.1f} GB; pictures, sketches and points in files: 3000000"


def main() -> None:
    """Prints the report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("store")
    store = CorpusStore.open(options.parse_args().store)
    print("\n".join(report(holdings(store), IngestSettings(store=store.uri))))


if __name__ == "__main__":
    main()
