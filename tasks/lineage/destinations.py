"""Downwards: what clips, a snapshot or a model went into."""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from schemas.checkpoints import Ancestor, Kind
from schemas.jobs import Snapshot
from schemas.locations import without_secrets
from tasks.lineage.checkpoints import FoundModel, is_of_snapshot
from tasks.lineage.corpora import CONTENT_DIGITS, Corpus
from tasks.lineage.dubs import VERSION_DIGITS, Row
from tasks.lineage.node import Node
from tasks.lineage.origins import model_facts
from tasks.lineage.searched import Searched


def destinations_of_clips(searched: Searched, corpus: Corpus, rows: pa.Table) -> tuple[Node, ...]:
    """The snapshots that hold any of the clips, each with its models and their dubs; then the dubs of the footage itself. rows: `corpora.COLUMNS`."""
    clip_ids = frozenset(rows["clip_id"].to_pylist())
    snapshots = (_holding(searched, corpus, corpus.snapshot(name), clip_ids) for name in corpus.snapshots)
    return (*(node for node in snapshots if node is not None), *_dubs_of_footage(searched, rows))


def _holding(searched: Searched, corpus: Corpus, snapshot: Snapshot, clip_ids: frozenset[str]) -> Node | None:
    """A snapshot, with how many of the clips are in each split of it; None when it holds none."""
    held: dict[str, JsonValue] = dict(Counter[str](clip.split for clip in snapshot.clips if clip.clip_id in clip_ids))
    if not held:
        return None
    facts: dict[str, JsonValue] = {"store": corpus.place, **held, "of": len(snapshot.clips)}
    return Node(kind="snapshot", name=snapshot.name, facts=facts, children=destinations_of_snapshot(searched, snapshot))


def _dubs_of_footage(searched: Searched, rows: pa.Table) -> tuple[Node, ...]:
    contents = pc.unique(pc.utf8_slice_codeunits(rows["clip_id"], 0, CONTENT_DIGITS)).to_pylist()
    made = searched.dubs.of_footage(pc.unique(rows["source"]).to_pylist(), contents)
    return _dubs("whose video or speech it is", made)


def destinations_of_snapshot(searched: Searched, snapshot: Snapshot) -> tuple[Node, ...]:
    """The models that learnt from it, each with what was made of it."""
    return tuple(_models_on(searched, snapshot))


def _models_on(searched: Searched, snapshot: Snapshot) -> Iterator[Node]:
    for model in searched.models.found:
        if is_of_snapshot(model.own_training, snapshot.name, snapshot.checksum):
            yield _made_model(searched, model)
            continue
        # What began with weights that are there is told below those.
        learnt = [ancestor for ancestor in model.header.ancestors if is_of_snapshot(ancestor, snapshot.name, snapshot.checksum)]
        if learnt and not any(_is_there(searched, model.header.kind, ancestor) for ancestor in learnt):
            yield _made_model(searched, model, began_with=learnt[-1].version)


def _is_there(searched: Searched, kind: Kind, ancestor: Ancestor) -> bool:
    return bool(searched.models.of_version(ancestor.version, kind, ancestor.snapshot))


def _made_model(searched: Searched, model: FoundModel, **facts: JsonValue) -> Node:
    children = destinations_of_model(searched, model.header.kind, model.version)
    said = {"snapshot": model.header.snapshot} if model.header.snapshot else {}
    return Node(kind=model.header.kind, name=model.version[:VERSION_DIGITS], facts=model_facts(model) | said | facts, children=children)


def destinations_of_model(searched: Searched, kind: Kind, version: str) -> tuple[Node, ...]:
    """The dubs that weights of a version made, and the models that were trained on from them."""
    grown = tuple(_made_model(searched, model) for model in searched.models.begun_with(version) if model.header.kind == kind)
    return (*_dubs("made with it", searched.dubs.made_with(kind, version)), *grown)


def _dubs(how: str, rows: pa.Table) -> tuple[Node, ...]:
    """Dubs as one node, by output; none where there are none."""
    if not len(rows):
        return ()
    dubs = tuple(dub_node(row) for row in rows.sort_by("output").to_pylist())
    return (Node(kind="dubs", name=how, facts={"count": len(dubs)}, children=dubs),)


def dub_node(row: Row) -> Node:
    """A dub with what its row says, without what there is none of. row: `dubs.TABLE`."""
    facts: dict[str, JsonValue] = {name: row[name] for name in ("job_id", "consent", "dag_run") if row[name]}
    return Node(kind="dub", name=without_secrets(row["output"]), facts=facts)
