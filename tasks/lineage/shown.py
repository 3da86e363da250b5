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


class Shown:
    """Turns lineage into lines, each with its depth. What was shown in full once is not again."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, str]] = set()

    def lines(self, lineage: Lineage) -> Iterator[tuple[int, str]]:
        """Depth and text of each line."""
        yield 0, title(lineage.subject)
        yield from ((1, sentence) for sentence in lineage.subject.unknown)
        for what, nodes in (("made of", lineage.made_of), ("went into", lineage.went_into)):
            if nodes:
                yield 1, what
                yield from self._nodes(2, nodes)
        yield from ((1, sentence) for sentence in lineage.notes)

    def _nodes(self, depth: int, nodes: tuple[Node, ...]) -> Iterator[tuple[int, str]]:
        for node in nodes[:MOST_CHILDREN]:
            key = (node.kind, node.name, str(node.facts.get("store") or node.facts.get("location")))
            known = bool(node.children) and key in self._seen
            self._seen.add(key)
            yield depth, f"{title(node)}, {AS_ABOVE}" if known else title(node)
            if not known:
                yield from ((depth + 1, sentence) for sentence in node.unknown)
                yield from self._nodes(depth + 1, node.children)
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
    shown = Shown()
    return [f"{INDENT * depth}{text}" for lineage in lineages for depth, text in shown.lines(lineage)]


def tree(lineage: Lineage) -> "Tree":
    """The same as a tree for rich."""
    from rich.text import Text  # only where a person looks
    from rich.tree import Tree

    (_, first), *rest = Shown().lines(lineage)
    root = Tree(Text(first))
    path = [root]
    for depth, text in rest:
        del path[depth:]
        path.append(path[-1].add(Text(text)))
    return root
