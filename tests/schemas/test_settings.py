"""Settings: flat YAML in, frozen models out, one sentence when something is wrong."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.settings import (
    BulkDubSettings,
    CropSettings,
    DubSettings,
    IngestSettings,
    LandmarkGeneratorTraining,
    RendererTraining,
    ReviewSettings,
    Settings,
    check_settings,
    read_settings,
    write_settings,
)


def test_settings_come_back_from_their_file(tmp_path: Path) -> None:
    settings = IngestSettings(sources=("footage", "s3://bucket/日本"), store="store", crop=CropSettings(padding="iplap-train"))
    write_settings(settings, str(tmp_path / "ingest.yaml"))
    assert check_settings(IngestSettings, read_settings(str(tmp_path / "ingest.yaml"))) == settings


def test_every_wrong_field_is_named_in_one_sentence() -> None:
    with pytest.raises(
        SettingsError, match=r"store is not given; batch_sources: .*; colour is no setting here \(`dubmill settings` prints those there are\)"
    ) as caught:
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


@pytest.mark.parametrize("padding", [-0.7, 2.1, float("nan"), float("inf"), "iplap"])
def test_a_crop_that_cuts_nothing_or_no_face_is_refused(padding: object) -> None:
    with pytest.raises(SettingsError, match=r"crop\.padding"):
        check_settings(IngestSettings, {"store": "s", "crop": {"padding": padding}})


@pytest.mark.parametrize("padding", [0, 0.08, 2, "iplap-train", "iplap-dub"])
def test_every_crop_that_works_is_taken(padding: object) -> None:
    assert check_settings(CropSettings, {"padding": padding}).padding == padding


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (IngestSettings(sources=("a", "s3://b/c"), store="d", speakers="e"), {"sources": ("a", "s3://b/c"), "store": ("d",), "speakers": ("e",)}),
        (IngestSettings(store="d"), {"store": ("d",)}),
        (LandmarkGeneratorTraining(store="a", out="b"), {"store": ("a",), "out": ("b",)}),
        (LandmarkGeneratorTraining(store="a", out="b", cache="c"), {"store": ("a",), "out": ("b",), "cache": ("c",)}),
        (RendererTraining(store="a", out="b", perceptual_weights="c"), {"store": ("a",), "out": ("b",), "perceptual_weights": ("c",)}),
        (
            BulkDubSettings(landmark_generator="a", renderer="b", jobs="c", out="d"),
            {"landmark_generator": ("a",), "renderer": ("b",), "jobs": ("c",), "out": ("d",)},
        ),
    ],
)
def test_settings_know_which_of_them_are_places(settings: Settings, fields: dict[str, tuple[str, ...]]) -> None:
    assert settings.locations() == fields


def test_absolute_locations_mean_the_same_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/anna")
    settings = IngestSettings(sources=("films", "s3://b/c", "~/clips", "/data"), store="file://store", batch_sources=3)
    absolute = settings.with_absolute_locations()
    assert absolute.sources == (f"{tmp_path}/films", "s3://b/c", "/home/anna/clips", "/data")
    assert absolute == settings.replaced(sources=absolute.sources, store=f"{tmp_path}/store")


@pytest.mark.parametrize("location", ["foo://bucket/settings.yaml", "https://anna:hidden@127.0.0.1:9/settings.yaml?signature=hidden"])
def test_a_place_that_cannot_be_reached_is_one_sentence_without_secrets(location: str) -> None:
    with pytest.raises(SettingsError, match=r"settings\.yaml .*\.$") as caught:
        read_settings(location)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("rate", [25, 25.0, "25"])
def test_a_rate_may_be_written_as_a_number(tmp_path: Path, rate: object) -> None:
    (tmp_path / "dub.yaml").write_text(f"landmark_generator: a\nrenderer: b\nfps: {rate!r}\n")
    assert check_settings(DubSettings, read_settings(str(tmp_path / "dub.yaml"))).fps == "25"
    with pytest.raises(SettingsError, match="fps"):
        check_settings(DubSettings, {"landmark_generator": "a", "renderer": "b", "fps": 30})


def test_a_key_that_is_none_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"thresholds\.lip_lmd: Input should be .*'jitter'"):
        check_settings(ReviewSettings, {"dub_settings": "d", "review": "r", "thresholds": {"lip_lmd": {"at_most": 1}}})


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(SettingsError, match=r"lerning_rate is no setting here \(did you mean learning_rate\?\)"):
        check_settings(LandmarkGeneratorTraining, {"store": "s", "out": "o", "lerning_rate": 1})


@pytest.mark.parametrize(("given", "anchor"), [({}, "upper-face"), ({"padding": 0.2}, "upper-face"), ({"padding": "iplap-dub"}, "all-points")])
def test_the_crop_follows_the_upper_face_unless_it_is_the_original_s(given, anchor):
    assert CropSettings.model_validate(given).anchor == anchor


def test_a_default_that_follows_from_a_wrong_field_is_no_fault_of_its_own():
    with pytest.raises(SettingsError) as error:
        check_settings(CropSettings, {"padding": 3})
    assert "anchor" not in str(error.value)
