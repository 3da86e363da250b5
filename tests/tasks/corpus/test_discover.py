import os
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from schemas.errors import SettingsError, StoreError
from tasks import places
from tasks.corpus.discover import NAME_NOT_UTF8, discover
from tasks.corpus.speakers import SpeakerList
from tasks.places import PlacedFile


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("alone.mp4", "anna/a.mov", "anna/day one/b.MKV", ".hidden.mp4", ".cache/c.mp4", "notes.txt", "anna/._a.mov"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return root


def found(*locations: Path | str, speakers: SpeakerList | None = None) -> dict[str, str]:
    speakers = speakers or SpeakerList()
    by_uri = {source.uri: source.speaker for source in discover(tuple(map(str, locations)), speakers)}
    return by_uri | speakers.named_by_end()


def test_videos_in_nested_folders_are_found_and_spoken_by_their_folder(tree: Path) -> None:
    assert found(tree) == {str(tree / "alone.mp4"): "alone", str(tree / "anna/a.mov"): "anna", str(tree / "anna/day one/b.MKV"): "day one"}


def test_a_file_given_by_itself_is_its_own_root_whatever_its_suffix(tree: Path) -> None:
    assert found(tree / "anna/a.mov", tree / "notes.txt") == {str(tree / "anna/a.mov"): "a", str(tree / "notes.txt"): "notes"}


def test_size_and_time_tell_versions_apart(tree: Path) -> None:
    path = tree / "alone.mp4"
    os.utime(path, ns=(1, 1234567890123456789))
    source = next(discover((str(path),), SpeakerList()))
    assert (source.size, source.version) == (5, "1234567890123456789")


def test_links_are_followed_recorded_as_their_targets_and_may_lead_in_circles(tree: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "0001.mp4").write_bytes(b"1")
    (tree / "clara").mkdir()
    (tree / "clara" / "talk.mp4").symlink_to(raw / "0001.mp4")
    (tree / "linked").symlink_to(raw)
    (tree / "clara" / "circle").symlink_to(tree)
    (tree / "lost.mp4").symlink_to(raw / "gone.mp4")
    sources = list(discover((str(tree),), SpeakerList()))
    by_uri = {source.uri: source for source in reversed(sources)}
    assert by_uri[str(raw / "0001.mp4")].speaker == "clara"
    assert by_uri[str(raw / "gone.mp4")].version == "missing"
    assert {"linked", "clara"} <= {source.speaker for source in sources if source.uri == str(raw / "0001.mp4")}


def test_a_place_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere is not there\.$"):
        found(tmp_path / "nowhere")


def test_a_list_of_speakers_goes_before_folders(tree: Path, tmp_path: Path) -> None:
    listed = tmp_path / "speakers.csv"
    listed.write_text(f"\ufeffspeaker,source,note\nBert,alone.mp4,x\nClara,anna/a.mov,\nDora,{tree}/anna/day one/b.MKV,\n", encoding="utf-8")
    speakers = SpeakerList.read(str(listed))
    assert sorted(found(tree, speakers=speakers).values()) == ["Bert", "Clara", "Dora"]


def listed_speakers(tmp_path: Path, *rows: str) -> SpeakerList:
    (tmp_path / "speakers.csv").write_text("\n".join(("source,speaker", *rows)))
    return SpeakerList.read(str(tmp_path / "speakers.csv"))


def test_a_listed_path_may_begin_above_the_given_folder(tree: Path, tmp_path: Path) -> None:
    speakers = listed_speakers(tmp_path, "root/anna/a.mov,Clara", "root/alone.mp4,Bert")
    assert sorted(found(tree, speakers=speakers).values()) == ["Bert", "Clara", "day one"]
    assert found(tree / "anna", speakers=speakers)[str(tree / "anna/a.mov")] == "Clara"


def test_the_end_of_a_path_counts_through_links_and_only_whole_names(tree: Path, tmp_path: Path) -> None:
    (tree / "anna" / "linked.mp4").symlink_to(tree / "alone.mp4")
    assert found(tree / "anna", speakers=listed_speakers(tmp_path, "root/anna/linked.mp4,Bert"))[str(tree / "alone.mp4")] == "Bert"
    assert "Bert" not in found(tree, speakers=listed_speakers(tmp_path, "oot/alone.mp4,Bert")).values()


def test_rows_that_fit_no_source_or_several_are_told(tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        (tree / name / "corpus").mkdir(parents=True)
        (tree / name / "corpus" / "c01.mp4").touch()
    speakers = listed_speakers(tmp_path, "corpus/c01.mp4,Bert", "gone.mp4,Clara", "alone.mp4,Dora")
    assert "Bert" not in found(tree, speakers=speakers).values()
    assert "2 of the 3 sources in the list of speakers were not found, or fit several: corpus/c01.mp4, gone.mp4." in caplog.text
    caplog.clear()
    found(tree, speakers=listed_speakers(tmp_path, "alone.mp4,Dora"))
    assert caplog.text == ""


def test_links_to_themselves_are_missing_and_nothing_else_is_lost(tree: Path) -> None:
    (tree / "self.mp4").symlink_to(tree / "self.mp4")
    (tree / "folder").symlink_to(tree / "folder")
    (tree / "there.mp4").symlink_to(tree / "back.mp4")
    (tree / "back.mp4").symlink_to(tree / "there.mp4")
    sources = list(discover((str(tree),), SpeakerList()))
    assert {Path(source.uri).name for source in sources if source.version == "missing"} == {"self.mp4", "there.mp4", "back.mp4"}
    assert len(sources) == 6


def test_a_name_that_is_not_utf8_is_escaped_and_nothing_else_is_lost(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tree / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"\xff.mp4")).touch()
    sources = {source.uri: source for source in discover((str(tree),), SpeakerList())}
    escaped = str(tree) + "/caf\\xe9/\\xff.mp4"
    assert len(sources) == 4
    assert (sources[escaped].version, sources[escaped].speaker) == (NAME_NOT_UTF8, "caf\\xe9")
    assert sources[escaped].model_dump_json()
    assert "is not UTF-8" in caplog.text


def test_a_kind_of_place_that_is_not_known_is_one_sentence() -> None:
    with pytest.raises(StoreError, match="nowhere://footage cannot be reached"):
        list(discover(("nowhere://footage",), SpeakerList()))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2\n", "needs the columns"),
        ("source,speaker\na.mp4,\n", "Line 2"),
        ("source,speaker\na.mp4,x\na.mp4,y\n", "two speakers: x and y"),
        ("source,speaker\na.mp4,x\n./a.mp4,y\n", "two speakers: x and y"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path: Path, text: str, sentence: str) -> None:
    listed = tmp_path / "speakers.csv"
    listed.write_text(text)
    with pytest.raises(SettingsError, match=sentence):
        SpeakerList.read(str(listed))


def test_a_missing_list_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not there"):
        SpeakerList.read(str(tmp_path / "none.csv"))


def endless_bucket(location: str) -> Iterator[PlacedFile]:
    """More objects than there is memory for."""
    return (PlacedFile(f"{location}/anna/{number:09}.mp4", 1, "etag") for number in count())


def test_a_bucket_is_read_as_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "list_objects", endless_bucket)
    first = list(islice(discover(("s3://footage",), SpeakerList({"anna/000000001.mp4": "Bert"})), 3))
    assert [(source.uri, source.speaker) for source in first] == [
        ("s3://footage/anna/000000000.mp4", "anna"),
        ("s3://footage/anna/000000001.mp4", "Bert"),
        ("s3://footage/anna/000000002.mp4", "anna"),
    ]


def test_a_folder_is_read_as_it_is_listed(tmp_path: Path) -> None:
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mp4").touch()
    sources = discover((str(tmp_path),), SpeakerList())
    assert next(sources).uri.endswith("/1/a.mp4")
    (tmp_path / "2" / "b.mp4").touch()
    assert [source.uri[-8:] for source in sources] == ["/2/a.mp4", "/2/b.mp4"]


def test_what_is_hidden_in_a_bucket_or_no_video_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a.mp4", ".b.mp4", ".cache/c.mp4", "d/.e/f.mp4", "notes.txt", "d/g.MOV", "d/h", "mp4", ".mp4")
    monkeypatch.setattr(places, "list_objects", lambda location: (PlacedFile(f"{location}/{name}", 1, "etag") for name in names))
    assert found("s3://footage/.raw") == {"s3://footage/.raw/a.mp4": "a", "s3://footage/.raw/d/g.MOV": "d"}


def test_of_several_rows_that_end_a_path_the_longest_counts(tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    speakers = listed_speakers(tmp_path, "anna/day one/b.MKV,short", "root/anna/day one/b.MKV,long", "day one/b.MKV,exact")
    assert found(tree / "anna", speakers=speakers)[str(tree / "anna/day one/b.MKV")] == "exact"
    speakers = listed_speakers(tmp_path, "anna/day one/b.MKV,short", "root/anna/day one/b.MKV,long")
    assert found(tree / "anna", speakers=speakers)[str(tree / "anna/day one/b.MKV")] == "long"
    assert "1 of the 2 sources in the list of speakers were not found, or fit several: anna/day one/b.MKV." in caplog.text
