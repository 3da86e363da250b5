"""Which videos are compared with which."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError, StoreError
from schemas.jobs import SnapshotClip
from schemas.settings import EvaluateSettings
from tasks.evaluation.pairs import _partner, find_pairs


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


def test_two_files_are_one_pair_whatever_they_are_called(tmp_path: Path) -> None:
    generated, real = touch(tmp_path, "dub.mp4") + "/dub.mp4", touch(tmp_path, "take 3.MOV") + "/take 3.MOV"
    (pair,) = find_pairs(EvaluateSettings(generated=generated, real=real)).pairs
    assert (pair.name, pair.generated, pair.real) == ("dub", generated, real)


def test_folders_pair_by_the_path_below_them_whatever_the_suffix(tmp_path: Path) -> None:
    generated = touch(tmp_path / "made", "anna/one.mp4", "two.mp4", "notes.txt")
    real = touch(tmp_path / "real", "anna/one.mov", "two.mp4")
    pairs = find_pairs(EvaluateSettings(generated=generated, real=f"{real}/")).pairs
    assert [(pair.name, pair.speaker) for pair in pairs] == [("anna/one", "anna"), ("two", None)]
    assert pairs[0].real == f"{real}/anna/one.mov"


def test_videos_without_a_partner_are_an_error_that_names_them_unless_they_may_be_left_out(tmp_path: Path) -> None:
    generated, real = touch(tmp_path / "made", "one.mp4", "more.mp4"), touch(tmp_path / "real", "one.mp4", "other.mp4")
    with pytest.raises(SettingsError, match=r"more\.mp4.*other\.mp4"):
        find_pairs(EvaluateSettings(generated=generated, real=real))
    found = find_pairs(EvaluateSettings(generated=generated, real=real, allow_unpaired=True))
    assert ([pair.name for pair in found.pairs], found.unpaired) == (["one"], (f"{generated}/more.mp4", f"{real}/other.mp4"))


def test_what_cannot_be_paired_is_said(tmp_path: Path) -> None:
    one, other, twice = touch(tmp_path / "a", "one.mp4"), touch(tmp_path / "b", "two.mp4"), touch(tmp_path / "c", "one.mp4", "one.mov")
    with pytest.raises(SettingsError, match=r"No video in .* has a partner"):
        find_pairs(EvaluateSettings(generated=one, real=other, allow_unpaired=True))
    with pytest.raises(SettingsError, match="have one name"):
        find_pairs(EvaluateSettings(generated=one, real=twice))
    with pytest.raises(StoreError, match="no videos"):
        find_pairs(EvaluateSettings(generated=one, real=str(tmp_path / "nowhere")))
    with pytest.raises(SettingsError, match="two folders"):
        find_pairs(EvaluateSettings(generated=one))
    with pytest.raises(SettingsError, match="not both"):
        find_pairs(EvaluateSettings(generated=one, real=other, store="store"))
    with pytest.raises(SettingsError, match="--renderer"):
        find_pairs(EvaluateSettings(store="store"))


def test_speaker_and_language_come_from_the_table_of_conditions(tmp_path: Path) -> None:
    folder = touch(tmp_path / "made", "anna/one.mp4", "two.mp4")
    (tmp_path / "conditions.csv").write_text("name,language,speaker\none,English,\ntwo,Chinese,bert\n")
    pairs = find_pairs(EvaluateSettings(generated=folder, real=folder, conditions=str(tmp_path / "conditions.csv"))).pairs
    assert [(pair.speaker, pair.language) for pair in pairs] == [("anna", "English"), ("bert", "Chinese")]
    (tmp_path / "conditions.csv").write_text("clip,language\none,English\n")
    with pytest.raises(SettingsError, match="no column name"):
        find_pairs(EvaluateSettings(generated=folder, real=folder, conditions=str(tmp_path / "conditions.csv")))


def test_a_clip_is_dubbed_with_the_speech_of_another_speaker_or_at_least_of_another_source() -> None:
    def clip(source: str, speaker: str) -> SnapshotClip:
        return SnapshotClip(clip_id=f"{source}-s0t0", batch="b", speaker=speaker, split="test")

    anna, anna_too, bert = clip("aa", "anna"), clip("bb", "anna"), clip("cc", "bert")
    assert _partner(anna, [anna, anna_too, bert]) is bert
    assert _partner(bert, [anna, anna_too, bert]) is anna
    assert _partner(anna, [anna, anna_too]) is anna_too
    assert _partner(anna, [anna]) is None
