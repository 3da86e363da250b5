"""Following the lineage of whatever a person names: a dub, a model, a snapshot, a clip, a source or a speaker."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import JsonValue

from schemas.errors import SettingsError
from schemas.locations import absolute_location, without_secrets
from tasks import places
from tasks.file_hash import file_hash
from tasks.lineage.checkpoints import SUFFIX, FoundModel, find_checkpoints
from tasks.lineage.corpora import CONTENT_DIGITS, Corpora, Corpus
from tasks.lineage.destinations import destinations_of_clips, destinations_of_model, destinations_of_snapshot, dub_node
from tasks.lineage.dubs import NETWORKS, VIDEOS, find_dubs, stamped_row
from tasks.lineage.node import Lineage, Node, NodeKind
from tasks.lineage.origins import NOT_THERE, model_node, origins_of_dub, snapshot_node, source_nodes
from tasks.lineage.searched import Searched
from tasks.published import CURRENT, weights_in_use

CLIP_ID = re.compile(r"[0-9a-f]{16}-s\d+t\d+")
VERSION = re.compile(r"[0-9a-f]{8,64}")
"""The beginning of a weights file's SHA-256: fewer digits might be of several files."""


def follow(what: Sequence[str], stores: Sequence[str] = (), models: Sequence[str] = (), dubs: Sequence[str] = ()) -> list[Lineage]:
    """The lineage of each thing, both ways, as far as the places tell; a name that means several things gives all of them.

    what: the location of a dub or of weights (or their `current.json`), the version of a model, the name of a snapshot or a speaker, a
    clip_id, the location of a source, the output or job_id of a dub. stores, models, dubs: what is looked through, besides weights that
    are named themselves and stores that weights name. SettingsError for what is not found, StoreError for places where nothing is.
    """
    weights = [one for one in what if one.endswith((SUFFIX, CURRENT))]
    searched = Searched(Corpora(stores), find_checkpoints([*models, *weights]), find_dubs(dubs))
    followed = [(one, list(_found(searched, one))) for one in what]
    unknown = [without_secrets(one) for one, found in followed if not found]
    if unknown:
        raise SettingsError(f"{' and '.join(unknown)} is nothing that these places know: give --store, --models and --dubs where it may be.")
    notes = _notes(searched, bool(models), bool(dubs))
    return [lineage.model_copy(update={"notes": notes}) for _, found in followed for lineage in found]


def _notes(searched: Searched, models: bool, dubs: bool) -> tuple[str, ...]:
    """What was not looked through, in sentences."""
    sentences = {
        "Without --store only those corpus stores are known that the weights name.": not searched.corpora.given,
        "Without --models it is not known which models there are.": not models,
        "Without --dubs it is not known which dubs there are.": not dubs,
        f"{searched.dubs.unopened} videos that no result row names were too many to be opened.": bool(searched.dubs.unopened),
    }
    return tuple(sentence for sentence, holds in sentences.items() if holds)


def _found(searched: Searched, what: str) -> Iterator[Lineage]:
    """All that a person may mean."""
    if what.endswith((SUFFIX, CURRENT)):
        location = weights_in_use(what) if what.endswith(CURRENT) else what
        yield from (_of_model(searched, model) for model in searched.models.found if _same_place(model.location, location))
        return
    found = [*(_of_version(searched, what) if VERSION.fullmatch(what) else ())]
    found += (lineage for corpus in searched.corpora.given for lineage in _of_corpus(searched, corpus, what))
    found += _of_dubs(searched, what)
    yield from found or _turned_away(searched, what)


def _same_place(one: str, other: str) -> bool:
    return one == other if places.is_remote(one) else os.path.realpath(one) == os.path.realpath(places.local_path(other))


def _of_model(searched: Searched, model: FoundModel) -> Lineage:
    node = model_node(searched, model)
    return _lineage(node, destinations_of_model(searched, model.header.kind, model.version))


def _of_version(searched: Searched, version: str) -> Iterator[Lineage]:
    """The models of a version; where none is there, what result rows tell of it."""
    found = searched.models.of_version(version)
    yield from (_of_model(searched, model) for model in found)
    for kind in NETWORKS:
        if not found and len(made := destinations_of_model(searched, kind, version)):
            yield _lineage(Node(kind=kind, name=version, unknown=(NOT_THERE,)), made)


def _of_corpus(searched: Searched, corpus: Corpus, what: str) -> Iterator[Lineage]:
    """What a store knows under that name."""
    if CLIP_ID.fullmatch(what):
        if len(rows := corpus.having("clip_id", [what])):
            yield _lineage(_clip_node("clip", what, corpus, rows, source_nodes(rows)), destinations_of_clips(searched, corpus, rows))
        return
    if what in corpus.snapshots:
        snapshot = corpus.snapshot(what)
        node = snapshot_node(corpus, snapshot)
        yield _lineage(node, destinations_of_snapshot(searched, snapshot))
    if len(rows := corpus.having("speaker", [what])):
        yield _lineage(_clip_node("speaker", what, corpus, rows, ()), destinations_of_clips(searched, corpus, rows))
    if len(rows := _rows_of_source(corpus, what)):
        yield _lineage(_clip_node("source", what, corpus, rows, _speakers_of(rows)), destinations_of_clips(searched, corpus, rows))


def _rows_of_source(corpus: Corpus, location: str) -> pa.Table:
    """Clips of a source by its location; of a file here that the store knows under another name, by its content."""
    name = places.followed(location)
    rows = corpus.having("source", [name])
    if len(rows) or places.is_remote(location) or not Path(name).is_file():
        return rows
    return corpus.of_contents([file_hash(Path(name))[:CONTENT_DIGITS]])


def _turned_away(searched: Searched, location: str) -> Iterator[Lineage]:
    """A source of which a store has no clip, and why."""
    for corpus in searched.corpora.given if "/" in location else ():
        for why in corpus.turned_away(places.followed(location)):
            yield _lineage(Node(kind="source", name=without_secrets(location), facts={"store": corpus.place}, unknown=(f"It was turned away: {why}.",)), ())


def _speakers_of(rows: pa.Table) -> tuple[Node, ...]:
    return tuple(Node(kind="speaker", name=name) for name in sorted(rows["speaker"].unique().to_pylist()))


def _clip_node(kind: NodeKind, name: str, corpus: Corpus, rows: pa.Table, children: tuple[Node, ...]) -> Node:
    facts: dict[str, JsonValue] = {"store": corpus.place}
    if kind != "clip":
        facts["clips"] = len(rows["clip_id"].unique())
    if kind == "speaker":
        facts["sources"] = [*sorted(map(without_secrets, rows["source"].unique().to_pylist()))]
    return Node(kind=kind, name=without_secrets(name), facts=facts, children=children)


def _of_dubs(searched: Searched, what: str) -> Iterator[Lineage]:
    """Dubs of that output or job_id, and a video that has a stamp."""
    stamped = stamped_row(what) if what.lower().endswith(VIDEOS) else None
    rows = searched.dubs.called(what) or searched.dubs.called(absolute_location(what))
    for row in rows or ([stamped] if stamped else []):
        # A row of an older dubmill says less than the stamp, and a stamp names no place.
        told = row | {name: value for name, value in (stamped or {}).items() if row[name] is None}
        yield _lineage(dub_node(told).model_copy(update={"children": origins_of_dub(searched, told)}), ())


def _lineage(subject: Node, went_into: tuple[Node, ...]) -> Lineage:
    return Lineage(subject=subject.model_copy(update={"children": ()}), made_of=subject.children, went_into=went_into)
