"""What the corpus page counts, measures and shows."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.jobs import PlannedSource
from schemas.reasons import Reason
from schemas.settings import SnapshotSettings
from schemas.tables import CLIPS, LEFT_OUT, REJECTS
from tasks import places
from tasks.corpus import layout
from tasks.corpus.plan import plan_batch
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.report import contact_sheets
from tasks.report.charts import HEIGHT, WIDTH
from tasks.report.contact_sheets import _goodness, _one_a_source, best_and_worst, left_out_sheets, reject_pictures
from tasks.report.corpus import CLIP_COLUMNS, corpus_facts, corpus_report
from tasks.report.funnel import Choice, _left_out, choices, example_rows, source_funnel
from tasks.report.histograms import Bins, Threshold, histogram
from tasks.report.measures import NO_BREAK, measure_figures, with_unit
from tasks.report.page import breakable, shortened, spoken_bytes
from tasks.report.rejects import EXAMPLES, reject_groups
from tasks.report.storage import storage_rows

WICKED = "<script>alert(1)</script>"


def clip_rows(count: int, **columns: list) -> pa.Table:
    """Rows of `clips`: 3 s long, 200 px, straight ahead, nothing amiss, each of its own source, unless columns say otherwise."""
    values = {
        "clip_id": [f"{index:016x}-s0t0" for index in range(count)],
        "batch": ["b0"] * count,
        "source": [f"/footage/{index}.mp4" for index in range(count)],
        "speaker": ["a"] * count,
        "frames": [75] * count,
        "duration_s": [3.0] * count,
        "face_px": [200.0] * count,
        "detected_share": [1.0] * count,
    }
    zeros = {name: [0.0] * count for name in CLIP_COLUMNS if name not in values}
    schema = pa.schema([CLIPS.field(name) if name != "batch" else pa.field("batch", pa.string()) for name in {**values, **zeros}])
    return pa.Table.from_pydict({**values, **zeros, **columns}, schema=schema)


def reject_row(source: str, reason: Reason, clip_id: str | None = None) -> dict:
    return {"source": source, "clip_id": clip_id, "stage": "faces", "reason": reason, "detail": f"{source} is of no use", "retryable": False}


def rejects(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=REJECTS)


def test_each_source_is_counted_once() -> None:
    clips = clip_rows(2, source=["/kept.mp4", "/kept.mp4"])
    turned_away = rejects(reject_row("/faceless.mp4", Reason.NO_FACE), reject_row("/kept.mp4", Reason.TOO_SHORT, "0-s2t0"))
    funnel = source_funnel({"/kept.mp4", "/faceless.mp4", "/copy.mp4"}, clips, turned_away)
    assert (funnel.found, funnel.gave_clips, funnel.repeated, funnel.turned_away) == (3, 1, 1, 1)


def test_reasons_come_with_sources_and_pieces_apart_and_a_few_examples() -> None:
    short = [reject_row(f"/{index}.mp4", Reason.TOO_SHORT, f"{index}-s0t0") for index in range(9)]
    first, second = reject_groups(rejects(reject_row("/w.mp4", Reason.NO_FACE), *short), {f"/{index}.mp4" for index in range(9)})
    assert (first.reason, first.sources, first.pieces, len(first.examples), first.more_sources) == ("too-short", 0, 9, EXAMPLES, 9 - EXAMPLES)
    assert (second.reason, second.sources, second.pieces, second.examples) == ("no-face", 1, 0, ["/w.mp4 is of no use"])


def test_the_sources_of_the_reasons_add_up_to_those_turned_away() -> None:
    turned_away = rejects(
        reject_row("/faceless.mp4", Reason.NO_FACE),
        *(reject_row("/scraps.mp4", reason, f"1-s{number}t0") for number, reason in enumerate((Reason.OTHER_FACE, Reason.TOO_SHORT, Reason.TOO_SHORT))),
        reject_row("/broken.mp4", Reason.TOO_SHORT, "2-s0t0"),
        reject_row("/broken.mp4", Reason.DAMAGED),
        reject_row("/kept.mp4", Reason.TOO_SHORT, "3-s1t0"),
        reject_row("/kept.mp4", Reason.DAMAGED),
    )
    groups = {group.reason: (group.sources, group.pieces) for group in reject_groups(turned_away, {"/kept.mp4"})}
    assert groups == {"too-short": (1, 4), "damaged": (1, 1), "no-face": (1, 0), "other-face": (0, 1)}
    assert sum(sources for sources, _ in groups.values()) == source_funnel(set(), clip_rows(1, source=["/kept.mp4"]), turned_away).turned_away == 3


def test_the_pieces_of_a_source_are_one_line() -> None:
    alike = [{**reject_row("/a.mp4", Reason.TOO_SHORT, f"1-s{number}t0"), "detail": "It is there for 1 frame."} for number in range(2)]
    other = [{**reject_row("/b.mp4", Reason.TOO_SHORT, f"2-s{number}t0"), "detail": f"It is there for {number + 1} frames."} for number in range(3)]
    (group,) = reject_groups(rejects(*alike, *other, {**other[0], "source": "/c.mp4"}), {"/a.mp4"})
    assert group.examples == [
        "/a.mp4, 2 pieces: It is there for 1 frame.",
        "/b.mp4, 3 pieces, one of them: It is there for 1 frames.",
        "/c.mp4, 1 piece: It is there for 1 frames.",
    ]


def test_names_break_after_signs_and_long_ones_keep_their_end() -> None:
    assert breakable("a_long-name/of <b>.mp4") == "a_<wbr>long-<wbr>name/<wbr>of &lt;b&gt;.mp4"
    assert shortened("short.mp4", 20) == "short.mp4"
    assert shortened("a_very_long_name_of_an_interview_p4.mp4", 20) == "a_very…erview_p4.mp4"


def test_what_a_snapshot_leaves_out_is_counted_in_the_order_of_its_settings() -> None:
    groups = _left_out({"twins": 1, "max_yaw_deg": 2, "min_face_px": 3}, None, SnapshotSettings(max_yaw_deg=30), 10)
    assert [(group.setting, group.count, group.left) for group in groups] == [("min_face_px", 3, 7), ("max_yaw_deg", 2, 5), ("twins", 1, 4)]
    assert groups[1].explanation == "with the head turned aside by more than 30°"


def test_examples_are_spread_from_end_to_end() -> None:
    rows = pa.table({"value": list(range(100))})
    assert [row["value"] for row in example_rows(rows, 4)] == [0, 33, 66, 99]
    assert [row["value"] for row in example_rows(rows.slice(0, 2), 4)] == [0, 1]
    assert example_rows(None, 4) == example_rows(rows.slice(0, 0), 4) == []


def test_without_a_snapshot_the_defaults_are_shown_and_with_one_it_is(store: Path, tmp_path: Path) -> None:
    opened = _own_copy(store, tmp_path)
    (preview,) = choices(opened)
    assert (preview.name, preview.clips, preview.settings) == ("", 2, SnapshotSettings())
    freeze_snapshot(opened, SnapshotSettings(name="mine", min_face_px=0))
    (choice,) = choices(opened)
    assert (choice.name, len(choice.chosen), choice.splits["train"]) == ("mine", 2, 2)


def test_bars_lie_in_the_chart_and_those_beyond_a_threshold_look_otherwise() -> None:
    bins = Bins(np.linspace(0, 200, 5), np.array([5, 0, 1000, 10]))
    chart = histogram(bins, "px", [Threshold(100, is_lowest=True)])
    bars = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', chart)
    assert [bar[0] for bar in bars] == ["left", "taken", "taken"]
    assert all(float(x) + float(width) <= WIDTH and float(y) + float(height) <= HEIGHT for _, x, y, width, height in bars)
    heights = [float(bar[4]) for bar in bars]
    assert heights[1] == max(heights)
    assert heights[0] >= 1, "a few among thousands are seen"
    assert 'class="threshold"' in chart
    assert ">100</text>" in chart


def test_measures_are_drawn_with_the_snapshots_thresholds_and_units() -> None:
    clips = clip_rows(3, face_px=[80.0, 120.0, 300.0], av_offset_frames=[1.0, 2.0, None], av_confidence=[0.9, 0.1, None])
    figures = {figure.name: figure for figure in measure_figures(clips, SnapshotSettings(min_face_px=123))}
    assert 'class="threshold"' in figures["face size"].chart
    assert ">123</text>" in figures["face size"].chart
    assert 'class="threshold"' not in figures["sharpness"].chart
    assert (figures["face size"].median, figures["face found"].median) == (with_unit(120, "px"), with_unit(100, "%"))
    assert figures["sound against picture"].unmeasured == 2, "one was not measured, one not with confidence"
    assert figures["sound against picture"].chart.count('<rect class="taken"') == 1


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [float("nan"), 1.0], [float("nan")], [-1e9, 0.0, 1e9]])
def test_odd_measures_are_drawn(values: list[float]) -> None:
    figures = measure_figures(clip_rows(len(values), sharpness=values, loudness_db=values), SnapshotSettings())
    assert not any("nan" in figure.chart + figure.median for figure in figures)


def test_an_outlier_does_not_flatten_the_others() -> None:
    clips = clip_rows(2000, sharpness=[1e9, *np.linspace(100, 200, 1999)])
    (chart,) = [figure.chart for figure in measure_figures(clips, SnapshotSettings()) if figure.name == "sharpness"]
    assert chart.count("<rect") > 10
    assert "histogram of 2000 clips" in chart, "and is among them"


def test_the_best_are_large_and_sharp_and_look_ahead_and_no_source_comes_twice() -> None:
    clips = clip_rows(4, face_px=[100.0, 300.0, 290.0, 200.0], yaw_extent_deg=[30.0, 1.0, 2.0, 10.0], source=["/a", "/b", "/b", "/c"])
    order = np.argsort(-_goodness(clips), kind="stable")
    assert [row["source"] for row in _one_a_source(clips, order)] == ["/b", "/c", "/a"]
    assert [row["source"] for row in _one_a_source(clips, order[::-1])] == ["/a", "/c", "/b"]
    assert next(iter(_one_a_source(clips, order)))["face_px"] == 300


def test_a_clip_that_cannot_be_read_is_a_sentence_on_its_sheet(store: Path, tmp_path: Path) -> None:
    opened = _own_copy(store, tmp_path)
    for shard in (tmp_path / "store" / "faces").iterdir():
        shard.write_bytes(b"")
    best = best_and_worst(opened, opened.clips(CLIP_COLUMNS), frozenset())[0]
    assert [picture.uri for picture in best.pictures] == [None, None]
    assert "ends before byte" in best.pictures[0].caption


def test_each_setting_shows_some_of_the_clips_it_left_out(store: Path) -> None:
    opened = CorpusStore.open(str(store))
    clip_id = opened.clips(("speaker",))["clip_id"][0].as_py()
    batch = opened.batches()[0]
    left = pa.Table.from_pylist([{"clip_id": clip_id, "batch": batch, "setting": "min_face_px", "value": 60.0, "twin_of": None}], schema=LEFT_OUT)
    groups = _left_out({"min_face_px": 1}, left, SnapshotSettings(), 2)
    pictures = left_out_sheets(opened, Choice("s", SnapshotSettings(), 2, frozenset(), {}, "", groups))["min_face_px"]
    assert [picture.caption for picture in pictures] == [f"{with_unit(60, 'px')} · {clip_id}"]
    assert pictures[0].uri


def test_turned_away_sources_are_shown_where_they_can_be_seen(clip: Path, tmp_path: Path) -> None:
    turned_away = rejects(reject_row(str(clip), Reason.NO_FACE), reject_row(str(tmp_path / "gone.mp4"), Reason.NO_FACE), reject_row(str(clip), Reason.DAMAGED))
    pictures = reject_pictures(reject_groups(turned_away, set()))
    assert [picture.caption for picture in pictures["no-face"]] == [clip.name]
    assert "damaged" not in pictures, "what could not be decoded once is not decoded for a page"


def test_storage_adds_up(store: Path) -> None:
    rows = {row.folder: row for row in storage_rows(str(store), frames=1000)}
    files = [path for path in store.rglob("*") if path.is_file()]
    assert rows["together"].bytes == sum(path.stat().st_size for path in files)
    assert rows["together"].files == len(files)
    assert rows["clips"].files_a_million_frames == 1000 * rows["clips"].files
    assert rows["faces"].bytes_a_frame == rows["faces"].bytes / 1000
    assert storage_rows(str(store), frames=0)[-1].bytes_a_frame is None


def test_planned_batches_that_are_not_finished_are_said(store: Path, tmp_path: Path) -> None:
    opened = _own_copy(store, tmp_path)
    assert corpus_facts(opened.uri).unfinished == 0
    source = PlannedSource(uri="/later.mp4", size=1, version="1", speaker="a")
    places.write_bytes(layout.plan_location(opened.uri, "later"), plan_batch([source], opened.format).model_dump_json().encode())
    corpus_report(opened.uri, tmp_path / "page.html")
    assert corpus_facts(opened.uri).unfinished == 1
    assert "1 batch is planned but not finished" in (tmp_path / "page.html").read_text()


def test_pages_of_large_stores_stay_small(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheets, "_strip", lambda *_: np.zeros((128, 384, 3), np.uint8))
    opened = _own_copy(store, tmp_path)
    table = tmp_path / "store" / "clips" / f"{opened.batches()[0]}.parquet"
    row = pq.read_table(table).slice(0, 1).to_pylist()[0]
    hashes = np.random.default_rng(0).integers(0, 2**63, (3000, 3))  # no twins among them
    names = [{"clip_id": f"{index:016x}-s0t0", "source": f"/{index}", "speaker": WICKED + str(index)} for index in range(3000)]
    many = [{**row, **names[index], "face_px": index % 400, "face_hash": hashes[index].tolist()} for index in range(3000)]
    pq.write_table(pa.Table.from_pylist(many, schema=CLIPS), table)
    facts = corpus_facts(str(tmp_path / "store"))
    assert (facts.clips, len(facts.speakers), facts.other_speakers) == (3000, 40, 2960)
    corpus_report(tmp_path / "store", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 500_000
    assert WICKED not in (tmp_path / "page.html").read_text()


def test_words_for_bytes_and_measures() -> None:
    assert [spoken_bytes(count) for count in (0, 812, 4200, 123_456, 1.3e9)] == ["0 bytes", "812 bytes", "4.2 kB", "123 kB", "1.3 GB"]
    assert [with_unit(*pair).replace(NO_BREAK, " ") for pair in ((3.25, "s"), (-2.9, "frames"), (12.93, "°"), (0.5, ""), (1234.5, ""))] == [
        "3.25 s",
        "−2.9 frames",
        "12.9°",
        "0.5",
        "1,234",
    ]


def _own_copy(store: Path, folder: Path) -> CorpusStore:
    shutil.copytree(store, folder / "store")
    return CorpusStore.open(str(folder / "store"))
