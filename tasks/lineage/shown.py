"""Lineage for people: a tree on a terminal, plain lines in a log."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import JsonValue

from tasks.lineage.node import Lineage, Node

if TYPE_CHECKING:
    from rich.tree import Tree

MOST_CHILDREN = 20
"""Things of one kind below another that are shown."""
MOST_WORDS = 3
"""Names of a list among a thing's facts that are shown."""
SHORT_HASH = 12
INDENT = "  "
AS_ABOVE = "as above"
HASHES = ("sha256", "imported_sha256", "checksum")


def lines_of(lineage: Lineage) -> Iterator[tuple[int, str]]:
    """Depth and text of each line."""
    yield 0, title(lineage.subject)
    yield from ((1, sentence) for sentence in lineage.subject.unknown)
    for what, nodes in (("made of", lineage.made_of), ("went into", lineage.went_into)):
        if nodes:
            yield 1, what
            yield from _lines_below(2, nodes, set())
    yield from ((1, sentence) for sentence in lineage.notes)


def _lines_below(depth: int, nodes: tuple[Node, ...], shown: set[str]) -> Iterator[tuple[int, str]]:
    """shown: snapshots that stand above with all that hangs on them: both networks of a dub mostly learnt from the same."""
    for node in nodes[:MOST_CHILDREN]:
        if node.kind == "snapshot" and title(node) in shown:
            yield depth, f"{title(node)}, {AS_ABOVE}"
            continue
        if node.kind == "snapshot":
            shown.add(title(node))
        yield depth, title(node)
        yield from ((depth + 1, sentence) for sentence in node.unknown)
        yield from _lines_below(depth + 1, node.children, shown)
    if len(nodes) > MOST_CHILDREN:
        yield depth, f"and {len(nodes) - MOST_CHILDREN} more (--json names them)"


def title(node: Node) -> str:
    """A thing in one line: what it is, its name, and its facts."""
    facts = ", ".join(_fact(name, value) for name, value in node.facts.items())
    return f"{node.kind.replace('-', ' ')} {node.name}{': ' if facts else ''}{facts}"


def _fact(name: str, value: JsonValue) -> str:
    shown = str(value)
    if isinstance(value, list):
        more = f" and {len(value) - MOST_WORDS} more" if len(value) > MOST_WORDS else ""
        shown = f"{', '.join(map(str, value[:MOST_WORDS]))}{more}"
    elif name in HASHES:
        shown = shown[:SHORT_HASH]
    return f"{name.replace('_', ' ')} {shown}"


def plain_lines(lineages: list[Lineage]) -> list[str]:
    """Indented lines."""
    return [f"{INDENT * depth}{text}" for lineage in lineages for depth, text in lines_of(lineage)]


def tree(lineage: Lineage) -> "Tree":
    """The same as a tree for rich."""
    from rich.text import Text  # only where a person looks
    from rich.tree import Tree

    (_, first), *rest = lines_of(lineage)
    root = Tree(Text(first))
    path = [root]
    for depth, text in rest:
        del path[depth:]
        path.append(path[-1].add(Text(text)))
    return root
