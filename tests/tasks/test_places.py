import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError, HTTPClientError

from schemas.errors import StoreError
from tasks import places
from tests.s3_server import s3_bucket


@pytest.mark.parametrize("name", ["plain", "take [1]", "a*b", "a?b"])
def test_many_files_are_read_in_order_whatever_their_folder_is_called(tmp_path: Path, name: str) -> None:
    locations = [f"{tmp_path}/{name}/{number}.json" for number in (2, 0, 1)]
    for number, location in enumerate(locations):
        places.write_bytes(location, b"%d" % number)
    places.write_bytes(f"{tmp_path}/axb/0.json", b"what a pattern would find")
    assert places.read_many(locations) == [b"0", b"1", b"2"]
    assert places.read_many(locations[:1]) == [b"0"]
    assert places.read_many([]) == []


def test_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    places.write_bytes(f"{tmp_path}/there", b"")
    with pytest.raises(FileNotFoundError):
        places.read_many([f"{tmp_path}/there", f"{tmp_path}/gone"])


def test_only_the_first_writer_wins(tmp_path: Path) -> None:
    location = f"{tmp_path}/new folder/file"
    assert places.write_once(location, b"first")
    (tmp_path / "other").write_bytes(b"second")
    assert not places.write_once(location, tmp_path / "other")
    assert places.read_bytes(location) == b"first"
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["file"], "nothing else is left"


def test_of_many_writers_at_once_one_wins(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: places.write_once(f"{tmp_path}/file", b"%d" % number), range(32)))
    assert won.count(True) == 1
    assert places.read_bytes(f"{tmp_path}/file") == b"%d" % won.index(True)


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert places.write_once(f"{tmp_path}/file", b"first")
    assert not places.write_once(f"{tmp_path}/file", b"second")
    assert places.read_bytes(f"{tmp_path}/file") == b"first"


def test_what_is_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for work in (lambda: places.write_once(f"{tmp_path}/file/below", b""), lambda: places.put(tmp_path / "file", f"{tmp_path}/file/below")):
        with pytest.raises(StoreError, match=r"cannot be written: .*\.$"):
            work()


def test_removing(tmp_path: Path) -> None:
    places.write_bytes(f"{tmp_path}/file", b"")
    places.remove(f"{tmp_path}/file")
    places.remove(f"{tmp_path}/file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="cannot be removed"):
        places.remove(str(tmp_path))


@pytest.mark.parametrize("root", ["{}", "memory:/{}"])
def test_listing_files_at_any_depth(tmp_path: Path, root: str) -> None:
    root = root.format(tmp_path)
    for number, name in enumerate(("b/two", "a", "b/c/three")):
        places.write_bytes(f"{root}/{name}", bytes(number))
    found = {file.path.partition(tmp_path.name)[2]: file.size for file in places.list_objects(root)}
    assert found == {"/a": 1, "/b/two": 0, "/b/c/three": 2}
    assert [file.size for file in places.list_objects(f"{root}/b/c/three")] == [2]
    assert list(places.list_objects(f"{root}/nowhere")) == []
    assert places.total_bytes(root) == 3


def test_a_listing_in_s3_comes_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LISTED_AT_ONCE", 2)
    with s3_bucket("listed") as bucket:
        for name in ("c/x", "a", "b/y", "c/folder/", "cc"):
            places.write_bytes(f"{bucket}/{name}", b"1") if not name.endswith("/") else places._filesystem(bucket)[0].pipe_file(f"listed/{name}", b"")
        files = list(places.list_objects(bucket))
        assert [file.path for file in files] == [f"{bucket}/{name}" for name in ("a", "b/y", "c/x", "cc")]
        assert {len(file.version) for file in files} == {32}
        assert [file.path for file in places.list_objects(f"{bucket}/c")] == [f"{bucket}/c/x"], "not what only begins alike"
        assert [file.path for file in places.list_objects(f"{bucket}/cc")] == [f"{bucket}/cc"]
        assert list(places.list_objects(f"{bucket}/nowhere")) == list(places.list_objects("s3://no-such-bucket")) == []


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.EBUSY, "Please reduce your request rate"), True),
        (HTTPClientError(error="closed"), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (EndpointConnectionError(endpoint_url="http://nowhere"), False),
    ],
)
def test_only_what_may_pass_is_asked_again(monkeypatch: pytest.MonkeyPatch, error: Exception, passes: bool) -> None:
    paused: list[float] = []
    monkeypatch.setattr(places.time, "sleep", paused.append)

    def fail() -> None:
        raise error

    with pytest.raises((OSError, StoreError)):
        places._patiently("somewhere", fail)
    assert len(paused) == (len(places.PAUSES_S) if passes else 0)
    assert paused == sorted(paused)


def test_a_store_that_is_away_for_a_minute_is_waited_for() -> None:
    assert 60 <= sum(places.PAUSES_S) <= 120


def half_written(target: Path) -> Path:
    """What a writer leaves that is killed before the file has its name."""
    with pytest.MonkeyPatch.context() as patch, places.writing(str(target)) as path:
        path.write_text("half")
        patch.setattr(Path, "replace", lambda *_: None)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        return path


STEMS = ["take", "take.b", "take.b.0123abcd", "take 2", "take [ab]", "takea", "t*", "t?ke", "*", "[!x]*", ".take", "名", "two\nlines"]
"""Of which some are the beginning of others, and some would be patterns for others."""


@pytest.mark.parametrize("stem", STEMS)
def test_what_is_half_written_is_removed_of_that_stem_alone(tmp_path: Path, stem: str) -> None:
    folder = tmp_path / "in [brackets] *"
    left = {half_written(folder / f"{name}.mp4") for name in STEMS if name != stem}
    for own in (f"{stem}.mp4", f".{stem}.partial.mp4", f".{stem}"):
        (folder / own).write_text("a person's own")
        left.add(folder / own)
    assert half_written(folder / f"{stem}.mp4").exists()
    places.remove_partials(str(folder), stem)
    assert set(folder.iterdir()) == left


def test_what_is_half_written_may_have_no_suffix(tmp_path: Path) -> None:
    left = half_written(tmp_path / "take2")
    half_written(tmp_path / "take")
    places.remove_partials(str(tmp_path), "take")
    assert list(tmp_path.iterdir()) == [left]


def test_what_is_half_written_is_removed_of_all_stems_and_from_no_folder_below(tmp_path: Path) -> None:
    below = half_written(tmp_path / "below" / "take.mp4")
    for stem in STEMS:
        half_written(tmp_path / f"{stem}.mp4")
    (tmp_path / "take.mp4").write_text("whole")
    places.remove_partials(str(tmp_path))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {below, tmp_path / "take.mp4"}
    places.remove_partials(str(tmp_path / "nowhere"))
    places.remove_partials("s3://no-such-bucket")
