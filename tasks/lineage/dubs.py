"""Dubs under some places: rows of bulk runs, and stamps of videos that no row names."""

import functools
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.checkpoints import Kind
from schemas.errors import DubmillError
from schemas.tables import DUB_RESULTS
from tasks import places
from tasks.dubbing.results import FOLDER, latest_rows
from tasks.lineage.checkpoints import files_under

NETWORKS: dict[Kind, str] = {"landmark-generator": "landmark_generator", "renderer": "renderer"}
"""How rows and stamps call each network."""
NAMES = ("job_id", "output", "video", "speech", "status", "consent", "dag_run")
FOOTAGE = ("video", "speech")
"""What is seen and heard in a dub, as rows and stamps call it."""
HASHES = (*(f"{name}_sha256" for name in FOOTAGE), *(f"{network}_sha256" for network in NETWORKS.values()))
TABLE = pa.schema(
    [
        pa.field(name, pa.string())
        for name in DUB_RESULTS.names
        if name in {*NAMES, *HASHES, *NETWORKS.values(), *(f"{network}_snapshot" for network in NETWORKS.values())}
    ]
)
"""The columns of result rows that tell of what a dub was made; null: it is not known."""
VIDEOS = (".mp4", ".mov", ".m4v")
"""Names of dubs end so."""
MOST_OPENED = 1000
"""Videos without a row that are opened for their stamps: some milliseconds each, or a request or two to a bucket."""
READERS = 16
VERSION_DIGITS = 12
"""Hex digits by which a version is told apart: as many as the shortest that anything names."""
CONTENT_DIGITS = 16
"""Hex digits of a source's SHA-256 with which its clip_ids begin."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Dubs:
    """All dubs that were found. rows: TABLE."""

    rows: pa.Table
    unopened: int = 0
    """Videos without a row that were too many to be opened."""

    def made_with(self, kind: Kind, version: str) -> pa.Table:
        """Rows of dubs that weights of a version made."""
        network = NETWORKS[kind]
        # A dub of an older dubmill has the version alone; both begin alike.
        return self.rows.filter(pc.starts_with(self.rows[network], version[:VERSION_DIGITS]).fill_null(fill_value=False))

    def of_footage(self, sources: Collection[str], contents: Collection[str]) -> pa.Table:
        """Rows of dubs whose video or speech is one of those sources (URIs, links followed) or contents (CONTENT_DIGITS of SHA-256)."""
        named, of_content = pa.array(sorted(sources), pa.string()), pa.array(sorted(contents), pa.string())
        masks = [pc.is_in(_followed(self.rows[name]), named) for name in FOOTAGE]
        masks += [pc.is_in(_array(pc.utf8_slice_codeunits(self.rows[f"{name}_sha256"], 0, CONTENT_DIGITS)), of_content) for name in FOOTAGE]
        return self.rows.filter(functools.reduce(pc.or_, masks))

    def called(self, name: str) -> list[Row]:
        """Rows of that output, or of a job of that name."""
        named = pc.or_(pc.equal(self.rows["output"], name), pc.equal(self.rows["job_id"], name))
        found: list[Row] = self.rows.filter(named).to_pylist()
        return found


def _followed(locations: pa.ChunkedArray) -> pa.Array:
    """Locations as a store names its sources, links followed; each distinct one is looked at once, since many dubs share a video."""
    encoded = _array(locations).dictionary_encode()
    followed = [places.followed(where) for where in encoded.dictionary.to_pylist()]
    return pa.array(followed, pa.string()).take(encoded.indices)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def find_dubs(locations: Iterable[str]) -> Dubs:
    """Every dub that is done under the places, which may be folders, prefixes, or videos. StoreError where nothing is."""
    files = list(dict.fromkeys(path for location in locations for path in files_under(location, (".parquet", *VIDEOS))))
    tables = [_done(latest_rows(run, TABLE.names)) for run in sorted(set(map(_run_of, files)) - {""})]
    rows = pa.concat_tables([TABLE.empty_table(), *tables])
    # By its name alone: a run's folder may have been moved since its rows were written.
    named = {PurePosixPath(output).name for output in rows["output"].to_pylist()}
    loose = (path for path in files if path.lower().endswith(VIDEOS) and PurePosixPath(path).name not in named)
    opened = list(islice(loose, MOST_OPENED))
    with ThreadPoolExecutor(READERS) as readers:
        stamped = [row for row in readers.map(stamped_row, opened) if row is not None]
    return Dubs(pa.concat_tables([rows, pa.Table.from_pylist(stamped, schema=TABLE)]), sum(1 for _ in loose))


def _run_of(path: str) -> str:
    """The output folder of the bulk run that a result table belongs to; empty for any other file."""
    run, _, name = path.rpartition(f"/{FOLDER}/")
    return run if path.endswith(".parquet") and "/" not in name else ""


def _done(rows: pa.Table) -> pa.Table:
    done = rows.filter(pc.equal(rows["status"], "done"))
    return done.select(TABLE.names).cast(TABLE)


def stamped_row(location: str) -> Row | None:
    """What a video's stamp says, as a row; None for one that is no dub or cannot be read."""
    from tasks.dubbing.stamp import read_dub_stamp  # here: a media library, which is needed only with videos at hand

    try:
        stamp: dict[str, Any] = read_dub_stamp(location)
    except (DubmillError, OSError):
        return None
    row: Row = dict.fromkeys(TABLE.names)
    return row | dict(_of_stamp(stamp)) | {"output": location, "status": "done"}


def _of_stamp(stamp: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("consent", *(f"{name}_sha256" for name in FOOTAGE), *NETWORKS.values()):
        yield name, stamp.get(name)
    for network in NETWORKS.values():
        yield f"{network}_sha256", stamp.get("models_sha256", {}).get(network)
        yield f"{network}_snapshot", stamp.get("snapshots", {}).get(network)
