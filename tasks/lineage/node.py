"""What the command `lineage` answers with: what was asked for, what it was made of, and what it went into."""

from typing import Literal

from pydantic import Field, JsonValue

from schemas.settings import Settings

NodeKind = Literal["dub", "dubs", "landmark-generator", "renderer", "snapshot", "speaker", "source", "clip", "video", "speech"]


class Node(Settings):
    """A thing, and what hangs on it: what it was made of, or what it went into, as the tree goes."""

    kind: NodeKind
    name: str
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    unknown: tuple[str, ...] = Field(default=(), description="links that cannot be followed, a sentence each")
    children: tuple["Node", ...] = ()


class Lineage(Settings):
    """The lineage of one thing."""

    subject: Node = Field(description="without children")
    made_of: tuple[Node, ...]
    went_into: tuple[Node, ...]
    notes: tuple[str, ...] = Field(default=(), description="what was not looked through")
