"""The model card: every source with its licence, every metric with its meaning, the same bytes for the same facts."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from schemas.checkpoints import Ancestor, CheckpointHeader, LandmarkGeneratorSize
from schemas.errors import SettingsError
from schemas.jobs import Snapshot, SnapshotClip
from schemas.settings import CropSettings, SnapshotSettings
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore
from tasks.evaluation.metric_meanings import meaning
from tasks.training.curves import curves_svg
from tasks.training.data_sources import DataSource, TrainingData, licensed_as, read_licences, training_data
from tasks.training.model_card import ModelFacts, model_card
from tests.training_corpus import BATCH, SNAPSHOT, make_training_corpus

SOURCES = {  # of the clips in their order: those for training, for validation, for tests
    "/footage/anna/1.mp4": "anna",
    "/footage/anna/2.mp4": "anna",
    "/footage/ben/long.mp4": "ben",
    "s3://films/carla/1.mp4": "carla",
    "/secret/tests.mp4": "dora",
}


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    """A store whose clips have sources and speakers of their own."""
    store = make_training_corpus(tmp_path / "corpus", {"train": [10, 20, 50], "val": [15], "test": [10]})
    path = Path(layout.table_location(store.uri, layout.CLIPS, BATCH))
    table = pq.read_table(path)
    for name, values in (("source", list(SOURCES)), ("speaker", list(SOURCES.values()))):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(values, pa.string()))
    pq.write_table(table, path)
    return store


def licences(folder: Path, *rows: str) -> dict[str, str]:
    (folder / "licences.csv").write_text("\n".join(("source,licence", *rows)), encoding="utf-8")
    return read_licences(str(folder / "licences.csv"))


def test_a_licence_holds_for_a_file_or_for_all_in_a_folder_and_the_nearest_counts() -> None:
    listed = {"/footage": "CC BY 4.0", "/footage/anna/1.mp4": "own", "s3://films": "bought"}
    named = {source: licensed_as(source, listed) for source in (*SOURCES, "/footage2/x.mp4")}
    assert named == {
        "/footage/anna/1.mp4": "/footage/anna/1.mp4",
        "/footage/anna/2.mp4": "/footage",
        "/footage/ben/long.mp4": "/footage",
        "s3://films/carla/1.mp4": "s3://films",
        "/secret/tests.mp4": None,
        "/footage2/x.mp4": None,
    }


def test_sources_are_counted_those_without_a_licence_first_and_test_clips_not_at_all(store: CorpusStore, tmp_path: Path) -> None:
    listed = licences(tmp_path, "/footage/anna/,CC BY 4.0", "/footage/anna/2.mp4,own", "/footage/ben/long.mp4,")
    found = training_data(store, store.snapshot(SNAPSHOT), listed)
    assert [(one.name, one.licence, one.clips, round(one.duration_s, 2), one.speakers) for one in found.sources] == [
        ("/footage/ben", None, 1, 2.0, {"ben"}),
        ("s3://films/carla", None, 1, 0.6, {"carla"}),
        ("/footage/anna/2.mp4", "own", 1, 0.8, {"anna"}),
        ("/footage/anna", "CC BY 4.0", 1, 0.4, {"anna"}),
    ]
    assert found.lost_clips == 0


def test_licences_of_what_the_corpus_does_not_hold_are_told(store: CorpusStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = licences(
        tmp_path, "/footage,CC BY 4.0", "/footage/anna/1.mp4,own", "s3://films/carla/,bought", "/secret,own", "/foot,own", "/footage/ana/1.mp4,own"
    )
    training_data(store, store.snapshot(SNAPSHOT), listed)
    assert "2 of the 6 sources in the list of licences gave the corpus no clip: /foot, /footage/ana/1.mp4." in caplog.text
    caplog.clear()
    training_data(store, store.snapshot(SNAPSHOT), {"/footage": "CC BY 4.0"})
    assert not caplog.text


def test_clips_that_the_store_no_longer_has_are_counted(store: CorpusStore) -> None:
    snapshot = store.snapshot(SNAPSHOT)
    gone = SnapshotClip(clip_id="gone-s0t0", batch="b9", speaker="e", split="train")
    assert training_data(store, snapshot.replaced(clips=(*snapshot.clips, gone)), {}).lost_clips == 1


@pytest.mark.parametrize(("content", "fault"), [("source,speaker\na,b\n", "needs the columns source, licence"), (b"\xff\xfe\x00", "cannot be read")])
def test_licences_that_cannot_be_read_are_one_sentence(tmp_path: Path, content: str | bytes, fault: str) -> None:
    path = tmp_path / "licences.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=fault):
        read_licences(str(path))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_licences_may_come_from_any_spreadsheet(tmp_path: Path, line_end: str) -> None:
    path = tmp_path / "licences.csv"
    path.write_bytes(line_end.join(("source,licence", "/a/,own", '/b,"bought, once"', "")).encode("utf-8-sig"))
    assert read_licences(str(path)) == {"/a": "own", "/b": "bought, once"}


def facts(*sources: DataSource, **changes: object) -> ModelFacts:
    clips = tuple(SnapshotClip(clip_id=f"{number}", batch="b", speaker="a", split=split) for number, split in enumerate(("train", "train", "val")))
    values = {
        "version": "0123456789ab",
        "header": CheckpointHeader(
            kind="landmark-generator", architecture=LandmarkGeneratorSize(), crop=CropSettings(padding=0.1, anchor="upper-face"), step=500, code_version="1.2.3"
        ),
        "settings": {"store": "s3://key:word@bucket/corpus", "learning_rate": 0.0001},
        "snapshot": Snapshot(name="first", selection=SnapshotSettings(), format={}, clips=clips, left_out={}, split_by="speaker"),
        "data": TrainingData(sources, 0),
        "score": -0.0061,
        "metrics": {"l1": 0.0061, "leak": -0.05},
        "absent": {"closure_f1": "In the clips that are looked at nobody closes the lips."},
        "has_curves": True,
    }
    return ModelFacts(**values | changes)


ANNA = DataSource("/footage/anna", "CC BY 4.0", clips=2, duration_s=7200.0, speakers={"anna", "ann|a"})
BEN = DataSource("/footage/b|n", None, clips=1, duration_s=90.0, speakers={"ben"})


def test_the_card_says_all_that_one_must_know() -> None:
    card = model_card(facts(BEN, ANNA, former_version="ffff", former_score=-0.0075, former_metrics={"l1": 0.0075}))
    for said in (
        "# Landmark generator 0123456789ab",
        "**synthetic media**",
        "padding 0.1, anchor upper-face, size 128",
        "sample_rate 16000",
        "for 500 steps on the snapshot `first` with dubmill 1.2.3",
        "No foreign weights",
        "**The licence of 1 of 2 sources is not stated: 1 of 3 clips, 1 min 30 s.**",
        "| /footage/b\\|n | **not stated** | 1 | 1 min 30 s | 1 |\n| /footage/anna | CC BY 4.0 | 2 | 2 h 0 min | 2 |",
        "**Score -0.0061** (minus `l1`; higher is better). The version in use before, ffff, has -0.0075.",
        "| Metric | Value | Version ffff | Meaning |",
        f"| `l1` | 0.0061 | 0.0075 | {meaning('l1', 'landmark generator')} |",
        f"| `leak` | -0.05 |  | {meaning('leak', 'landmark generator')} |",
        "* `closure_f1` is not measured: In the clips that are looked at nobody closes the lips.",
        "![curves](curves.svg)",
        "2 train, 1 val, 0 test clips, split by speaker",
        "learning_rate: 0.0001",
    ):
        assert said in card
    assert "key:word" not in card


def test_the_card_begins_with_what_model_hubs_read() -> None:
    front = yaml.safe_load(model_card(facts(ANNA)).split("---")[1])
    assert (front["library_name"], front["license_name"]) == ("dubmill", "CC BY 4.0")
    assert {"landmark-generator", "synthetic-media"} <= set(front["tags"])
    assert yaml.safe_load(model_card(facts(ANNA, BEN)).split("---")[1])["license_name"] == "not-stated"


def test_without_a_former_version_or_held_out_clips_the_card_says_so() -> None:
    card = model_card(facts(ANNA, metrics={"l1": 0.1, "held_out": 0.0}, has_curves=False))
    assert "| Metric | Value | Meaning |" in card
    assert "the snapshot has no validation clips, so these numbers say little" in card
    assert "`held_out`" not in card
    assert "curves.svg" not in card


def test_the_same_facts_give_the_same_bytes() -> None:
    assert model_card(facts(BEN, ANNA)) == model_card(facts(BEN, ANNA))
    assert model_card(facts(BEN, ANNA)) != model_card(facts(BEN, ANNA, score=-0.006))


ROWS = [{"step": step, "split": "train", "l1": 1 / (step + 1), "gradient_norm": 3.0} for step in range(1000)] + [
    {"step": step, "split": "val", "psnr": float("nan") if step == 500 else 20 + step / 100, "l1": 0.5} for step in (0, 500, 999)
]


def test_curves_are_one_file_with_a_chart_for_each_measure() -> None:
    svg = curves_svg(ROWS)
    assert svg.startswith("<svg xmlns=")
    assert svg.count("<g ") == 2, "psnr and l1; the gradient's norm is no measure"
    assert svg.index(">psnr<") < svg.index("29.99 in the end")
    lines = [line.split('points="')[1].split('"')[0].split() for line in svg.split("<polyline")[1:]]
    assert [len(line) for line in lines] == [2, 300, 3]
    assert lines[1][-1].split(",")[0] == lines[2][-1].split(",")[0], "thinned out, a curve still goes to its last step"
    assert "nan" not in svg


def test_a_falling_curve_falls() -> None:
    svg = curves_svg([{"step": step, "split": "val", "l1": 1.0 - step / 10} for step in range(5)])
    heights = [float(point.split(",")[1]) for point in svg.split('points="')[1].split('"')[0].split()]
    assert heights == sorted(heights), "downwards y grows in SVG"
    assert curves_svg([]) == ""


def test_what_training_began_with_is_said_before_the_licences() -> None:
    ancestors = (Ancestor(version="0a1b", origin="imported", step=3), Ancestor(version="2c3d", origin="trained", step=70, snapshot="first"))
    alone = facts(ANNA)
    data = model_card(replace(alone, header=alone.header.replaced(ancestors=ancestors))).split("## Data")[1].split("##")[0]
    assert "`0a1b`, published weights of IP_LAP's format, which were imported; then `2c3d`, trained for 70 steps on the snapshot `first`" in data
    assert "began with other weights" not in model_card(alone)
