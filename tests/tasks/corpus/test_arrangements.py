"""How data sets are arranged: what is taken, who speaks, which split; the same on this machine and in a bucket."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import SettingsError, StoreError
from tasks import places
from tasks.corpus.arrangements import Layout, arrangement_of
from tasks.corpus.discover import discover
from tasks.corpus.speakers import SpeakerList
from tests.s3_server import s3_bucket

LRS2_FILES = {
    "main/5535415699068794046/00001.mp4": "",
    "main/5535415699068794046/00002.mp4": "",
    "main/6330311066473698535/00011.mp4": "",
    "main/6330311066473698535/00018.mp4": "",
    "main/6330311066473698535/00011.txt": "Text:  SO WHY DON'T WE GO",
    "pretrain/5535415699068794046/00001.mp4": "",
    "pretrain/5535415699068794046/00007.mp4": "",
}
LRS2_LISTS = {
    "train.txt": "5535415699068794046/00001\n",
    "val.txt": "6330311066473698535/00011\r\n",
    "test.txt": "6330311066473698535/00018 MV\n6330311066473698535/00011 NF\n",
    "pretrain.txt": "5535415699068794046/00007\n",
}
LRS2_SPLITS = {
    "main/5535415699068794046/00001.mp4": ("5535415699068794046", "train"),
    "main/5535415699068794046/00002.mp4": ("5535415699068794046", None),
    "main/6330311066473698535/00011.mp4": ("6330311066473698535", "test"),
    "main/6330311066473698535/00018.mp4": ("6330311066473698535", "test"),
}
CMLR_FILES = {
    "s1/20170121/section_3_067.43_069.48.mp4": "",
    "s1/20100601/section_1_002.40_005.76.mp4": "",
    "s11/20180203/section_2_000.00_003.10.mp4": "",
    "s2/20100601/section_1_010.00_012.25.mp4": "",
}
CMLR_LISTS = {
    "train.csv": "s1/20170121/section_3_067.43_069.48\ns1/20100601/section_1_002.40_005.76.mp4,137\n",
    "val.csv": "cmlr,s11/20180203/section_2_000.00_003.10,77\n",
}
CMLR_SPLITS = {
    "s1/20100601/section_1_002.40_005.76.mp4": ("s1", "train"),
    "s1/20170121/section_3_067.43_069.48.mp4": ("s1", "train"),
    "s11/20180203/section_2_000.00_003.10.mp4": ("s11", "val"),
    "s2/20100601/section_1_010.00_012.25.mp4": ("s2", None),
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("arranged") as prefix:
        yield prefix


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place, on this machine or in a bucket."""
    if request.param == "local":
        return str(tmp_path / "given")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/given"


def put(root: str, files: dict[str, str], below: str = "") -> None:
    for name, content in files.items():
        places.write_bytes(places.join(root, f"{below}{name}"), content.encode())


def found(location: str, layout: Layout = "auto", pretrain: bool = False) -> dict[str, tuple[str, str | None]]:
    """Speaker and split by the path below the place, in the order of discovery."""
    sources = discover((location,), SpeakerList(), layout, pretrain)
    return {source.uri.removeprefix(location).lstrip("/"): (source.speaker, source.split) for source in sources}


@pytest.mark.parametrize("lists_at", ["", "../"])
@pytest.mark.parametrize("layout", ["auto", "lrs2"])
def test_lrs2_with_its_lists_beside_main_or_above(root: str, lists_at: str, layout: Layout) -> None:
    put(root, LRS2_FILES)
    put(root if not lists_at else root.rpartition("/")[0], LRS2_LISTS)
    assert found(root, layout) == LRS2_SPLITS
    with_pretrain = found(root, layout, pretrain=True)
    assert with_pretrain == LRS2_SPLITS | {
        "pretrain/5535415699068794046/00001.mp4": ("5535415699068794046", None),
        "pretrain/5535415699068794046/00007.mp4": ("5535415699068794046", "train"),
    }, "a number of main is not that of pretrain"


def test_lrs2_as_its_archive_unpacks_and_main_by_itself(root: str) -> None:
    put(root, LRS2_FILES, "mvlrs_v1/")
    put(root, LRS2_LISTS)
    assert found(root) == {f"mvlrs_v1/{name}": told for name, told in LRS2_SPLITS.items()}
    assert found(f"{root}/mvlrs_v1/main") == {name.removeprefix("main/"): told for name, told in LRS2_SPLITS.items()}


@pytest.mark.parametrize(("videos", "lists"), [("", ""), ("video/", ""), ("video/", "video/")])
@pytest.mark.parametrize("layout", ["auto", "cmlr"])
def test_cmlr_speakers_are_its_own_folders_not_the_days(root: str, videos: str, lists: str, layout: Layout) -> None:
    put(root, CMLR_FILES, videos)
    put(root, CMLR_LISTS, lists)
    put(root, {"audio/s1/20170121/section_3_067.43_069.48.wav": "", "text/s1/20170121/section_3_067.43_069.48.txt": ""})
    assert found(root, layout) == {f"{videos}{name}": told for name, told in CMLR_SPLITS.items()}
    assert list(found(root, layout)) == [f"{videos}{name}" for name in CMLR_SPLITS], "in the order of names"


def test_any_other_tree_is_taken_whole(root: str) -> None:
    put(root, {"main/anna/talk.mp4": "", "s1/b.mov": "", "train.txt": "notes of a train journey\n", "train.csv": "a,b\n"})
    assert found(root) == {"main/anna/talk.mp4": ("anna", None), "s1/b.mov": ("s1", None)}


def test_a_data_set_may_be_taken_as_any_tree(root: str) -> None:
    put(root, LRS2_FILES | LRS2_LISTS)
    assert len(found(root, "folder")) == 6
    assert {split for _, split in found(root, "folder").values()} == {None}


@pytest.mark.parametrize(
    ("layout", "files", "sentence"),
    [
        ("lrs2", {"a.mp4": ""}, r"is not arranged as lrs2: there is no folder main/ in it\.$"),
        ("lrs2", LRS2_FILES, r"is not arranged as lrs2: train\.txt, val\.txt or test\.txt with lines such as \S+ must be in it or above it\.$"),
        ("lrs2", LRS2_FILES | {"train.txt": "these are no lines of it\n"}, "with lines such as 5535415699068794046/00001 must"),
        ("cmlr", LRS2_FILES | LRS2_LISTS, r"is not arranged as cmlr: there are no folders s1 to s11 in it\.$"),
        ("cmlr", CMLR_FILES, r"lines such as s1/20170121/section_"),
    ],
)
def test_a_layout_that_is_not_there_is_one_sentence(root: str, layout: Layout, files: dict[str, str], sentence: str) -> None:
    put(root, files)
    with pytest.raises(SettingsError, match=sentence):
        found(root, layout)


def test_what_was_recognised_is_told(root: str, caplog: pytest.LogCaptureFixture) -> None:
    put(root, LRS2_FILES | LRS2_LISTS)
    caplog.set_level(logging.INFO, logger="tasks.corpus.arrangements")
    arrangement_of(root, "auto", pretrain=True)
    assert f"{root} is arranged as lrs2: sources are taken from main/, pretrain/, splits from its lists." in caplog.text


def test_a_list_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    put(str(tmp_path), LRS2_FILES)
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match=r"The list .*train\.txt cannot be read\.$"):
        found(str(tmp_path))
