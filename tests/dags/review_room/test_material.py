"""Review material: found below the prefixes, read again only when it changed, and never beyond what it names."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from dags.review_room.material import Material
from schemas.errors import StoreError
from schemas.review import ReviewBatch, ReviewItem
from tests.dags.review_room.made_up import RISKS, made_up_item, write_batch


def test_batches_of_all_prefixes_are_found_and_of_one_name_the_first(tmp_path: Path) -> None:
    write_batch(tmp_path / "one", "monday", title="of the first")
    write_batch(tmp_path / "two", "monday", title="of the second")
    write_batch(tmp_path / "two", "tuesday")
    for nothing in (".hidden", "no batch"):
        (tmp_path / "one" / nothing).mkdir()
    material = Material((str(tmp_path / "one"), str(tmp_path / "none"), str(tmp_path / "two")))
    assert [(batch.name, batch.content and batch.content.title) for batch in material.batches()] == [("monday", "of the first"), ("tuesday", "")]
    found = material.batch("monday")
    assert found is not None
    assert found.folder == str(tmp_path / "one" / "monday")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../one", "none", "a\0b", "x" * 121, ".hidden"])
def test_no_name_leads_out_of_a_prefix(tmp_path: Path, name: str) -> None:
    write_batch(tmp_path / "one", "monday")
    assert Material((str(tmp_path / "one"),)).batch(name) is None


def test_a_batch_that_grows_is_read_again(tmp_path: Path) -> None:
    material = Material((str(tmp_path),))
    for risks in ({"a": 0.5}, {"a": 0.5, "b": 0.25}):
        write_batch(tmp_path, "monday", risks)
        batch = material.batch("monday")
        assert batch is not None
        assert batch.content is not None
        assert len(batch.content.rows) == len(risks)
        assert material.batch("monday").content is batch.content  # type: ignore[union-attr]


def test_only_items_that_the_batch_lists_are_read(tmp_path: Path) -> None:
    folder = write_batch(tmp_path, "monday", {"a": 0.5})
    (folder / "items" / "b.json").write_text(made_up_item("b", 0.1).model_dump_json())
    material = Material((str(tmp_path),))
    batch = material.batch("monday")
    assert batch is not None
    assert material.item(batch, "a") == made_up_item("a", 0.5)
    assert material.item(batch, "b") is None
    (folder / "items" / "a.json").write_text(made_up_item("b", 0.1).model_dump_json())
    with pytest.raises(StoreError, match="of another job"):
        material.item(batch, "a")
    (folder / "items" / "a.json").write_text("{")
    with pytest.raises(StoreError, match="is no review material"):
        material.item(batch, "a")


def test_a_prefix_that_cannot_be_reached_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        Material(("nothing-like-that://bucket",)).batches()


@pytest.mark.parametrize("location", ["/etc/passwd", "../../other.mp4", "s3://bucket/../x.mp4", "previews/a.mp4\0.mp4", "a.mkv"])
def test_an_item_names_videos_alone(location: str) -> None:
    values = made_up_item("a", 0.5).model_dump(mode="json")
    with pytest.raises(ValidationError, match="MP4"):
        ReviewItem.model_validate({**values, "dub": location})


def test_material_is_plain_json(tmp_path: Path) -> None:
    folder = write_batch(tmp_path, "monday")
    rows = json.loads((folder / "batch.json").read_text())["rows"]
    assert {row["job_id"] for row in rows} == set(RISKS)
    twice = {"rows": [rows[0], rows[0]]}
    with pytest.raises(ValidationError, match="more than once"):
        ReviewBatch.model_validate(twice)
