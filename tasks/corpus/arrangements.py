"""How sources are arranged in a given place: any tree, or as the LRS2 and CMLR data sets are published, with lists of their splits.

A place is looked at by names that are known beforehand, never listed, so that the first look costs the same in a bucket of a million.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from schemas.errors import SettingsError, StoreError
from schemas.jobs import Split
from schemas.locations import without_secrets
from tasks import places
from tasks.corpus.speakers import default_speaker

logger = logging.getLogger(__name__)

Layout = Literal["auto", "folder", "lrs2", "cmlr"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""In the order in which lists are read: a file that two of them name is in the later one, so that nothing tested is trained on."""
LRS2_FOLDERS = ("", "mvlrs_v1")
"""Where `main` lies below the given place: directly, or in the folder that the published archive unpacks to."""
CMLR_FOLDERS = ("", "video")
"""Where `s1` to `s11` lie below the given place: directly, or beside the published text and sound."""
CMLR_SPEAKERS = tuple(f"s{number}" for number in range(1, 12))
LISTED_IN_LRS2 = re.compile(r"^([^/\s]+/\d+)(?:\.\w+)?(?:\s+\S+)?\s*$")
"""`<video>/<number>`, and in the published list of tests a second word."""
LISTED_IN_CMLR = re.compile(r"(?:^|[/,\s\"])(s\d+/\d+/section_[^,\s\"]+?)(?:\.mp4)?(?=[,\s\"]|$)")
"""`s1/20170121/section_3_067.43_069.48`, as the first column or among others."""


class _Kind(NamedTuple):
    """What tells a published data set."""

    name: str
    listed: re.Pattern[str]
    """A line of its lists; the group is what `_key` makes of a file."""
    suffix: str
    """Of its lists."""


LRS2 = _Kind("lrs2", LISTED_IN_LRS2, ".txt")
CMLR = _Kind("cmlr", LISTED_IN_CMLR, ".csv")


@dataclass(frozen=True)
class Arrangement:
    """Which files of a place are sources, who speaks in them, and which split lists put them in."""

    name: str = "folder"
    folders: tuple[str, ...] = ("",)
    """Where sources lie, relative to the place, in order; the place itself is the empty name."""
    below: str = ""
    """The folder, relative to the place, from which the lists count; may lead up (`..`)."""
    splits: dict[str, Split] = field(default_factory=dict)
    """By the file's path from there, without its suffix."""

    def speaker(self, relative: str) -> str:
        """Who speaks in the file at that path below the place."""
        return self._key(relative).split("/")[0] if self.name == "cmlr" else default_speaker(relative)

    def split(self, relative: str) -> Split | None:
        """What the lists say of the file at that path below the place; None where none names it."""
        return self.splits.get(self._key(relative)) if self.splits else None

    def _key(self, relative: str) -> str:
        named = "main/" + relative if self.below == ".." else relative.removeprefix(f"{self.below}/")
        return named.rpartition(".")[0]


def arrangement_of(location: str, layout: Layout, pretrain: bool = False) -> Arrangement:
    """How the sources of a place are arranged; with `auto` a log line says what was found.

    pretrain: with lrs2, whether its pretrain folder is taken too.
    Raises SettingsError when a layout is asked for that the place does not have, StoreError when the place cannot be reached.
    """
    if layout == "folder":
        return Arrangement()
    found = next(_recognised(location, layout, pretrain), None)
    if found is None and layout != "auto":
        raise SettingsError(without_secrets(f"The source {location} is not arranged as {layout}: {_missing(location, layout)}."))
    if found is None:
        return Arrangement()
    logger.info("%s is arranged as %s: sources are taken from %s, splits from its lists.", without_secrets(location), found.name, _shown(found.folders))
    return found


def _recognised(location: str, layout: Layout, pretrain: bool) -> Iterator[Arrangement]:
    if layout in ("auto", "lrs2"):
        yield from _lrs2(location, pretrain)
    if layout in ("auto", "cmlr"):
        yield from _cmlr(location)


def _lrs2(location: str, pretrain: bool) -> Iterator[Arrangement]:
    """LRS2 in that place: `main/<video>/<number>.mp4` below it, or the place is `main` itself."""
    for below in _lrs2_roots(location):
        splits = _splits(location, below, LRS2, "main/", SPLITS)
        if not splits:
            continue
        if pretrain and below != "..":
            splits |= _splits(location, below, LRS2, "pretrain/", ("pretrain",))
        wanted = ("main", "pretrain") if pretrain else ("main",)
        folders = tuple(_joined(below, name) for name in wanted if below != ".." and places.exists(places.join(location, _joined(below, name))))
        yield Arrangement("lrs2", folders or ("",), below, splits)


def _lrs2_roots(location: str) -> Iterator[str]:
    if places.name_of(location.rstrip("/")) == "main":
        yield ".."
    for folder in LRS2_FOLDERS:
        if places.exists(places.join(location, _joined(folder, "main"))):
            yield folder


def _cmlr(location: str) -> Iterator[Arrangement]:
    """CMLR in that place: `s1` to `s11`, or some of them, each with dated folders."""
    for below in CMLR_FOLDERS:
        splits = _splits(location, below, CMLR, "", SPLITS)
        folders = [_joined(below, speaker) for speaker in _speakers_there(location, below)] if splits else []
        if folders:
            yield Arrangement("cmlr", tuple(sorted(folders)), below, splits)


def _speakers_there(location: str, below: str) -> Iterator[str]:
    return (speaker for speaker in CMLR_SPEAKERS if places.exists(places.join(location, _joined(below, speaker))))


def _splits(location: str, below: str, kind: _Kind, section: str, lists: tuple[str, ...]) -> dict[str, Split]:
    """Splits by key of the lists that are there, in the first of the places beside and above the footage that has any."""
    for place in _list_places(location, below):
        splits: dict[str, Split] = {}
        for name in lists:
            split: Split = "val" if name == "val" else "test" if name == "test" else "train"
            splits |= {section + key: split for key in _listed(places.join(place, name + kind.suffix), kind.listed)}
        if splits:
            return splits
    return {}


def _list_places(location: str, below: str) -> Iterator[str]:
    """Where lists lie: beside the footage's folders, then in the place that was given, then above it."""
    given = location.rstrip("/") if places.is_remote(location) else str(places.local_path(location).absolute())
    above = given.rpartition("/")[0]
    if below == "..":
        yield from (above, given, above.rpartition("/")[0])
    else:
        yield from dict.fromkeys((places.join(given, below) if below else given, given, above))


def _listed(location: str, line: re.Pattern[str]) -> Iterator[str]:
    """What a list names; nothing where it is not there or is no such list."""
    if not places.exists(location):
        return
    try:
        text = places.read_bytes(location).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(without_secrets(f"The list {location} cannot be read.")) from error
    yield from (found.group(1) for found in map(line.search, text.splitlines()) if found)


def _missing(location: str, layout: Layout) -> str:
    if layout == "lrs2":
        there = any(True for _ in _lrs2_roots(location))
        return (
            "train.txt, val.txt or test.txt with lines such as 5535415699068794046/00001 must be in it or above it"
            if there
            else "there is no folder main/ in it"
        )
    there = any(True for below in CMLR_FOLDERS for _ in _speakers_there(location, below))
    return (
        "train.csv, val.csv or test.csv with lines such as s1/20170121/section_1_000.00_001.00 must be in it or above it"
        if there
        else "there are no folders s1 to s11 in it"
    )


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _shown(folders: tuple[str, ...]) -> str:
    return ", ".join(f"{folder}/" if folder else "all of it" for folder in folders)
