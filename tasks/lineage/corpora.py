"""What corpus stores say of speakers, sources, clips and snapshots, as far as lineage asks."""

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from schemas.checkpoints import Ancestor
from schemas.errors import DubmillError
from schemas.jobs import Snapshot
from schemas.locations import absolute_location, without_secrets
from tasks.corpus.store import CorpusStore
from tasks.lineage.checkpoints import REPLACEMENT, is_of_snapshot

COLUMNS = ("clip_id", "source", "speaker")
CONTENT_DIGITS = 16
"""Hex digits of its source's SHA-256 with which a clip_id begins."""


class Corpus:
    """A store. Its clips are read when they are first asked for; of its snapshots one at a time is held."""

    def __init__(self, location: str) -> None:
        """StoreError when there is none."""
        self.store = CorpusStore.open(location)
        self.place = without_secrets(self.store.uri)
        self._held: Snapshot | None = None

    @cached_property
    def rows(self) -> pa.Table:
        """COLUMNS and `batch` of every row of `clips`; content that lies in the store under two names has a row for each."""
        return self.store.clip_rows(COLUMNS)

    @cached_property
    def snapshots(self) -> tuple[str, ...]:
        """Names of the snapshots, in order."""
        return tuple(self.store.snapshots())

    def snapshot(self, name: str) -> Snapshot:
        """As CorpusStore.snapshot."""
        if self._held is None or self._held.name != name:
            self._held = self.store.snapshot(name)
        return self._held

    def having(self, column: str, values: Collection[str]) -> pa.Table:
        """Rows whose column is one of those values."""
        return self.rows.filter(pc.is_in(self.rows[column], pa.array(sorted(values), pa.string())))

    def turned_away(self, source: str) -> list[str]:
        """Why clips of a source, or all of it, were turned away, each reason once."""
        rejects = self.store.rejects()
        return sorted(set(rejects.filter(pc.equal(rejects["source"], source))["reason"].to_pylist()))

    def of_contents(self, contents: Collection[str]) -> pa.Table:
        """Rows of clips of those contents: the digits with which their clip_ids begin."""
        begin = pc.utf8_slice_codeunits(self.rows["clip_id"], 0, CONTENT_DIGITS)
        return self.rows.filter(pc.is_in(begin, pa.array(sorted(contents), pa.string())))

    def chosen(self, snapshot: Snapshot) -> pa.Table:
        """Rows of a snapshot's clips, without those of clips that the store no longer has."""
        named = pa.array([f"{clip.batch}/{clip.clip_id}" for clip in snapshot.clips], pa.string())
        return self.rows.filter(pc.is_in(pc.binary_join_element_wise(self.rows["batch"], self.rows["clip_id"], "/"), named))

    def replacements(self, name: str) -> list[str]:
        """Snapshots that have taken the place of one of that name."""
        return [there for there in self.snapshots if there.startswith(name + REPLACEMENT)]

    def has_snapshot_of(self, trained: Ancestor) -> bool:
        """Whether the very snapshot is there that weights were trained on."""
        name = trained.snapshot
        return name is not None and name in self.snapshots and is_of_snapshot(trained, name, self.snapshot(name).checksum)


class Corpora:
    """The stores that are looked through, and those that weights name."""

    def __init__(self, locations: Iterable[str]) -> None:
        """StoreError when there is none at one of them."""
        self.given = tuple(map(Corpus, dict.fromkeys(locations)))
        self._named: dict[str, Corpus | None] = {absolute_location(corpus.place): corpus for corpus in self.given}

    def of(self, trained: Ancestor) -> Corpus | None:
        """A given store, or the one that weights name, which has their snapshot, or the one that has replaced it when somebody was taken out."""
        likely = [*self.given, *self._at(trained.store)]
        exact = (corpus for corpus in likely if corpus.has_snapshot_of(trained))
        replaced = (corpus for corpus in likely if trained.snapshot and corpus.replacements(trained.snapshot))
        return next(exact, None) or next(replaced, None)

    def _at(self, place: str | None) -> Iterator[Corpus]:
        if place is None:
            return
        if place not in self._named:
            self._named[place] = _opened(place)
        corpus = self._named[place]
        if corpus is not None:
            yield corpus


def _opened(place: str) -> Corpus | None:
    """The store that weights name; None where it is no longer, or cannot be reached from here."""
    try:
        return Corpus(place)
    except (DubmillError, OSError):
        return None
