"""What outside of a store was made of its clips: checkpoints trained on its snapshots, dubs of its sources."""

from collections.abc import Collection, Iterable, Iterator

from schemas.errors import CheckpointError, StoreError
from tasks import places
from tasks.dubbing.results import FOLDER as RESULTS
from tasks.dubbing.results import read_results

CHECKPOINT_SUFFIX = ".safetensors"
REPLACEMENT = "-without-"
"""Stands between the name of a snapshot and the hash of the one that replaces it without somebody."""


def find_models(folders: Iterable[str], snapshots: Collection[str]) -> list[str]:
    """Checkpoints under the folders that were trained on one of those snapshots, or on one that such a snapshot has replaced.

    A replaced snapshot held all that its replacement holds. Files that are no checkpoints of ours are passed over.
    """
    return sorted(path for folder in folders for path in _files(folder, CHECKPOINT_SUFFIX) if _is_trained_on(path, snapshots))


def find_dubs(folders: Iterable[str], sources: Collection[str]) -> list[str]:
    """Outputs of bulk dubbing runs under the folders whose video is one of those sources (URIs, links followed)."""
    wanted = {_followed(source) for source in sources}
    runs = {run for folder in folders for run in _runs(folder)}
    rows = (row for run in sorted(runs) for row in read_results(run).values())
    return sorted({str(row["output"]) for row in rows if row["output"] and _followed(str(row["video"])) in wanted})


def _files(folder: str, suffix: str) -> Iterator[str]:
    if not places.exists(folder):
        raise StoreError(f"There is nothing at {folder} to look through.")
    return (file.path for file in places.list_objects(folder) if file.path.endswith(suffix))


def _is_trained_on(path: str, snapshots: Collection[str]) -> bool:
    from models.checkpoint import read_header  # here: it brings torch, which is needed only with checkpoints at hand

    try:
        trained_on = read_header(path).snapshot
    except CheckpointError:
        return False
    return trained_on is not None and any(name == trained_on or name.startswith(trained_on + REPLACEMENT) for name in snapshots)


def _runs(folder: str) -> Iterator[str]:
    for path in _files(folder, ".parquet"):
        run, _, name = path.rpartition(f"/{RESULTS}/")
        if run and "/" not in name:
            yield run


def _followed(location: str) -> str:
    return location if places.is_remote(location) else str(places.local_path(location).resolve())
