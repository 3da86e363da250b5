"""Settings: flat YAML in, frozen models out, one sentence when something is wrong."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.settings import CropSettings, DubSettings, IngestSettings, check_settings, read_settings, write_settings


def test_settings_come_back_from_their_file(tmp_path: Path) -> None:
    settings = IngestSettings(sources=("footage", "s3://bucket/日本"), store="store", crop=CropSettings(padding="iplap-train"))
    write_settings(settings, str(tmp_path / "ingest.yaml"))
    assert check_settings(IngestSettings, read_settings(str(tmp_path / "ingest.yaml"))) == settings


def test_every_wrong_field_is_named_in_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"store: Field required; batch_sources: .*; colour: Extra inputs") as caught:
        check_settings(IngestSettings, {"batch_sources": 0, "colour": "red"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"a: [1\n", b"\xff\xfe\x00"])
def test_a_file_that_is_no_settings_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_settings(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml is not there"):
        read_settings(str(tmp_path / "nowhere.yaml"))


def test_an_empty_settings_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    assert read_settings(str(tmp_path / "empty.yaml")) == {}


def test_replaced_leaves_out_none_and_checks_again() -> None:
    settings = DubSettings(landmark_generator="a", renderer="b")
    assert settings.replaced(references=5, fps=None) == DubSettings(landmark_generator="a", renderer="b", references=5)
    with pytest.raises(SettingsError, match="references"):
        settings.replaced(references=0)


def test_the_format_of_ingest_holds_what_a_store_freezes() -> None:
    settings = IngestSettings(store="s", picture="jpeg", segment_s=5, batch_sources=3, workers=2)
    assert settings.format == IngestSettings(store="t", picture="jpeg", segment_s=5).format
    assert settings.format != IngestSettings(store="s", picture="png", segment_s=5).format
