"""Upwards: what a dub, a model, a snapshot or a clip was made of."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
from pydantic import JsonValue

from schemas.checkpoints import Ancestor, Kind
from schemas.jobs import Snapshot
from schemas.locations import without_secrets
from tasks.lineage.checkpoints import FoundModel
from tasks.lineage.corpora import CONTENT_DIGITS, Corpus
from tasks.lineage.dubs import NETWORKS, VERSION_DIGITS, Row
from tasks.lineage.node import Node
from tasks.lineage.searched import Searched

NOT_THERE = "These weights are not under --models."
IMPORTED = "They were imported, and do not say what they learnt from."
UNNAMED = "They do not say what they were trained on."


def origins_of_dub(searched: Searched, row: Row) -> tuple[Node, ...]:
    """Its video, its speech and both models. row: `dubs.TABLE`."""
    footage = (_footage_node(searched, "video", row["video"], row["video_sha256"]), _footage_node(searched, "speech", row["speech"], row["speech_sha256"]))
    return (*footage, *(_used_model(searched, kind, row) for kind in NETWORKS))


def _footage_node(searched: Searched, kind: Literal["video", "speech"], location: str | None, sha256: str | None) -> Node:
    """A video or speech, with the sources of the stores that have its content, under whatever name."""
    name = without_secrets(location) if location else str(sha256)[:CONTENT_DIGITS]
    if sha256 is None:
        return Node(kind=kind, name=name, unknown=("Its content was not noted, so it is known by its name alone.",))
    sources = (node for corpus in searched.corpora.given for node in source_nodes(corpus.of_contents([sha256[:CONTENT_DIGITS]])))
    return Node(kind=kind, name=name, facts={"sha256": sha256}, children=tuple(sources))


def _used_model(searched: Searched, kind: Kind, row: Row) -> Node:
    network = NETWORKS[kind]
    version, snapshot = row[f"{network}_sha256"] or row[network], row[f"{network}_snapshot"]
    found = searched.models.of_version(version, kind, snapshot)
    if found:
        return model_node(searched, found[0])
    told = Ancestor(version=version, origin="trained", step=0, snapshot=snapshot)
    return Node(kind=kind, name=version[:VERSION_DIGITS], facts={"sha256": version}, unknown=(NOT_THERE,), children=_snapshot_of(searched, told))


def model_node(searched: Searched, model: FoundModel) -> Node:
    """A model with all that it was made of."""
    return Node(
        kind=model.header.kind,
        name=model.version[:VERSION_DIGITS],
        facts=model_facts(model),
        unknown=_unsaid(model.own_training),
        children=origins_of_model(searched, model),
    )


def model_facts(model: FoundModel) -> dict[str, JsonValue]:
    """What a model's file says of it, without what there is none of."""
    header = model.header
    facts: dict[str, JsonValue] = {"location": without_secrets(model.location), "step": header.step, "dag_run": header.dag_run}
    return {name: value for name, value in (facts | {"imported_sha256": header.imported_sha256, "code_version": header.code_version}).items() if value}


def origins_of_model(searched: Searched, model: FoundModel) -> tuple[Node, ...]:
    """The snapshot that it learnt from, and the weights that its training began with."""
    return (*_snapshot_of(searched, model.own_training), *_ancestors(searched, model.header.kind, model.header.ancestors))


def _ancestors(searched: Searched, kind: Kind, ancestors: Sequence[Ancestor]) -> tuple[Node, ...]:
    """The last of them, as its descendant tells of it, and below it those before."""
    if not ancestors:
        return ()
    *before, last = ancestors
    found = searched.models.of_version(last.version, kind, last.snapshot)
    facts: dict[str, JsonValue] = model_facts(found[0]) if found else {"step": last.step}
    children = (*_snapshot_of(searched, last), *_ancestors(searched, kind, before))
    return (Node(kind=kind, name=last.version, facts=facts, unknown=(*(() if found else (NOT_THERE,)), *_unsaid(last)), children=children),)


def _unsaid(trained: Ancestor) -> tuple[str, ...]:
    if trained.snapshot is not None:
        return ()
    return (IMPORTED,) if trained.origin == "imported" else (UNNAMED,)


def _snapshot_of(searched: Searched, trained: Ancestor) -> tuple[Node, ...]:
    """The snapshot that weights were trained on, where they name one."""
    name = trained.snapshot
    if name is None:
        return ()
    corpus = searched.corpora.of(trained)
    if corpus is None:
        lay = f" It lay in {trained.store}." if trained.store else ""
        return (Node(kind="snapshot", name=name, unknown=(f"It is in no corpus store that was looked through.{lay}",)),)
    if corpus.has_snapshot_of(trained):
        return (snapshot_node(corpus, corpus.snapshot(name)),)
    replaced = tuple(snapshot_node(corpus, corpus.snapshot(there)) for there in corpus.replacements(name))
    gone = "It is no longer there, since somebody was taken out of it; what is left of it is below."
    return (Node(kind="snapshot", name=name, facts={"store": corpus.place}, unknown=(gone,), children=replaced),)


def snapshot_node(corpus: Corpus, snapshot: Snapshot) -> Node:
    """A snapshot with the speakers of its clips."""
    rows = corpus.chosen(snapshot)
    lost = len(snapshot.clips) - len(rows)
    unknown = (f"{lost} of its clips are in the store no longer.",) if lost else ()
    return Node(kind="snapshot", name=snapshot.name, facts=snapshot_facts(corpus, snapshot), unknown=unknown, children=speaker_nodes(rows))


def snapshot_facts(corpus: Corpus, snapshot: Snapshot) -> dict[str, JsonValue]:
    """Where a snapshot is, and how many clips of which split it holds."""
    clips: dict[str, JsonValue] = dict(Counter[str](clip.split for clip in snapshot.clips))
    return {"store": corpus.place, **clips, **({"checksum": snapshot.checksum} if snapshot.checksum else {})}


def speaker_nodes(rows: pa.Table) -> tuple[Node, ...]:
    """The speakers of some clips, each with its sources, by name. rows: `corpora.COLUMNS`."""
    by_speaker: dict[str, dict[str, int]] = {}
    for row in _counted(rows, "speaker", "source"):
        by_speaker.setdefault(row["speaker"], {})[without_secrets(row["source"])] = row["clip_id_count"]
    return tuple(Node(kind="speaker", name=name, facts={"clips": sum(sources.values()), "sources": list(sources)}) for name, sources in by_speaker.items())


def source_nodes(rows: pa.Table) -> tuple[Node, ...]:
    """The sources of some clips, each with its speaker, by name. rows: `corpora.COLUMNS`."""
    return tuple(
        Node(
            kind="source",
            name=without_secrets(row["source"]),
            facts={"clips": row["clip_id_count"]},
            children=(Node(kind="speaker", name=row["speaker"]),),
        )
        for row in _counted(rows, "source", "speaker")
    )


def _counted(rows: pa.Table, *keys: str) -> list[Row]:
    """Clips by those columns, in their order."""
    counted = rows.group_by(list(keys)).aggregate([("clip_id", "count")])
    found: list[Row] = counted.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return found
