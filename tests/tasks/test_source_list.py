"""Lists that say one thing about each source: whatever program wrote them, and one sentence where they cannot be used."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError
from tasks.source_list import read_source_list


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_rows_come_in_order_from_any_spreadsheet_and_other_columns_do_not_matter(tmp_path: Path, line_end: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(line_end.join(("note,licence,source", "x, own ,/a/b.mp4", ',"bought, once",é', "x,,/c", "x", "")).encode("utf-8-sig"))
    assert read_source_list(str(path), "licence", "licences") == [
        ("/a/b.mp4", "own", 2),
        ("é", "bought, once", 3),
        ("/c", "", 4),
        ("", "", 5),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The speakers file {} needs the columns source, speaker in its first line."),
        (b"source,licence\na,b\n", "The speakers file {} needs the columns source, speaker in its first line."),
        (b"\xff\xfe\x00", "The speakers file {} cannot be read."),
        (b"source,speaker\na," + b"b" * 2**18, "The speakers file {} cannot be read."),
        (None, "The speakers file {} is not there."),
    ],
)
def test_a_list_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_source_list(str(path), "speaker", "speakers")
    assert str(refused.value) == sentence.format(path)


def test_the_sentence_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(location: str) -> bytes:
        raise FileNotFoundError(location)

    monkeypatch.setattr("tasks.places.read_bytes", not_there)
    with pytest.raises(SettingsError) as refused:
        read_source_list("s3://key:word@bucket/list.csv", "speaker", "speakers")
    assert "word" not in str(refused.value)
