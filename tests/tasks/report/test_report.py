"""What the pages say, that they are whole in themselves, and that nothing in them is taken for markup."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schemas.errors import StoreError
from tasks.dubbing.results import ResultWriter
from tasks.report import DemoFacts, corpus_report, demo_report, dubs_report, training_report
from tasks.report.dubs import dubs_facts
from tests.tasks.report.conftest import result_row

WICKED = "<script>alert(1)</script>"


class Page(HTMLParser):
    """A page read back: its tags with their attributes, its text, and tags that are not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.goes_on = False  # a word does, after the place where it may break
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.goes_on = tag == "wbr"
        if tag not in ("meta", "img", "wbr", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(self.words.pop() + data if self.goes_on else data)
        self.goes_on = False

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def read_whole_page(path: Path) -> Page:
    """The page, after checks that hold for all: closed tags, no scripts, nothing loaded from elsewhere."""
    page = Page(path)
    assert page.open == []
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    loaded = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "poster")]
    assert all(value and value.startswith("data:") for value in loaded)
    assert not re.search(r"https?://|@import|url\(", page.source)
    assert "prefers-color-scheme: dark" in page.source
    assert 'name="viewport"' in page.source
    return page


def test_corpus(store: Path, tmp_path: Path) -> None:
    corpus_report(store, tmp_path / "corpus.html")
    page = read_whole_page(tmp_path / "corpus.html")
    assert "3 sources found" in page.text
    assert "2 sources that gave clips" in page.text
    assert "not-media the file is not video, sound or a picture that ffmpeg knows; give another file" in page.text
    assert WICKED in page.text
    assert "Ada & Bob" in page.text
    assert "2 clips whose face is smaller than 96 px in the source are left out by min_face_px ; 0 stay" in page.text
    assert "0 clips taken" in page.text
    captions = [str(attributes["alt"]).partition(" · ")[0] for tag, attributes in page.tags if tag == "img"]
    assert captions[2:] == ["Ada & Bob", WICKED], "each clip among those left out, then each among the best of all"
    assert len(captions) == 4


def test_corpus_without_clips(store: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "settings.json").write_bytes((store / "settings.json").read_bytes())
    corpus_report(empty, tmp_path / "corpus.html")
    assert "There are no clips to show." in read_whole_page(tmp_path / "corpus.html").text


def test_training(landmark_generator_dir: Path, tmp_path: Path) -> None:
    training_report(landmark_generator_dir, tmp_path / "training.html")
    page = read_whole_page(tmp_path / "training.html")
    assert "Training the landmark generator" in page.text
    assert "l1 0.4 0.1 0.25" in page.text
    assert page.count("svg") == 2
    assert "held-out clips" in page.text
    assert "snapshot frozen" in page.text


def test_training_of_the_renderer(renderer_dir: Path, tmp_path: Path) -> None:
    training_report(renderer_dir, tmp_path / "training.html")
    page = read_whole_page(tmp_path / "training.html")
    assert page.count("img") == 3
    assert "random features" in page.text
    assert "nan" not in page.source.split("</style>")[1].split("<img")[0]


def test_training_that_has_only_begun(landmark_generator_dir: Path, tmp_path: Path) -> None:
    (landmark_generator_dir / "landmark-generator.safetensors").unlink()
    training_report(landmark_generator_dir, tmp_path / "training.html")
    assert "has not written its weights yet" in read_whole_page(tmp_path / "training.html").text


def test_dubs(bulk_out: Path, tmp_path: Path) -> None:
    dubs_report(bulk_out, tmp_path / "dubs.html")
    page = read_whole_page(tmp_path / "dubs.html")
    assert "3 jobs" in page.text
    assert "2 done" in page.text
    assert "no face was found in it; give footage of a face seen from the front" in page.text
    assert WICKED in page.text
    assert "no face in <b>wall.mp4</b>" in page.text
    assert page.count("video") == 1
    assert "lost.mp4 is not there" in page.text
    dubs_report(bulk_out / "results", tmp_path / "same.html")
    assert (tmp_path / "same.html").read_text() == page.source


def test_dubs_say_where_to_look_first_and_where_the_source_shows(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    worst = [{"second": 0, "confidence": 0.41, "why": "the head is turned away"}, {"second": 3, "confidence": 0.7, "why": "the face is small"}]
    shown = [{"start_s": start_s, "end_s": start_s + 0.5, "reason": reason} for start_s, reason in ((2, "covered"), (61, "no-face"), (70, "covered"))]
    usual = {"status": "done", "duration_s": 100.0, "frames": 2500, "dubbed_frames": 2450, "frames_per_second": 3.5}
    told = {"source_shown_s": 1.5, "source_shown": json.dumps(shown), "confidence": [0.41, 1.0, 1.0, 0.7], "worst": json.dumps(worst)}
    with ResultWriter(str(tmp_path)) as results:
        results.add(result_row(job_id="sure", output="s.mp4", **usual, source_shown_s=0.0, source_shown="[]", confidence=[1.0, 0.999], worst="[]"))
        results.add(result_row(job_id="risky", output="a.mp4", **usual, **told))
        results.add(result_row(job_id="older", output="o.mp4", **usual))
    dubs_report(tmp_path, tmp_path / "dubs.html")
    page = read_whole_page(tmp_path / "dubs.html")
    first, _, table = page.text.partition("Dubs, the least sure first")
    assert "confidence, all seconds 85% worth a look 2.0 s" in first
    assert "0:00 of risky 41%: the head is turned away" in first
    assert "the dub cannot be read 0:03 of risky 70%: the face is small" in first, "the clip lasts for a second"
    assert page.count("img") == 1
    assert table.index("risky") < table.index("sure") < table.index("older")
    assert "78% least 41% 0:00 41% the head is turned away 0:03 70% the face is small" in table
    assert "1.0 s the mouth is covered, first at 0:02 0.5 s no face is found, first at 1:01" in table
    assert "99% least 99% nothing nowhere 2,500 2,450 dubbed" in table
    assert "o.mp4 – – – 2,500" in table


def test_one_dub_does_not_hide_the_others_moments(clip: Path, tmp_path: Path) -> None:
    def worst(confidence: float) -> str:
        return json.dumps([{"second": second, "confidence": confidence, "why": "the face is small"} for second in range(10)])

    with ResultWriter(str(tmp_path)) as results:
        for number in range(6):
            told = {"confidence": [number / 10] * 10, "worst": worst(number / 10), "duration_s": 10.0}
            results.add(result_row(job_id=f"job {number}", status="done", output=str(clip), frames=250, dubbed_frames=250, frames_per_second=1.0, **told))
    moments = dubs_facts(str(tmp_path)).moments
    assert [moment.job_id for moment in moments] == [f"job {number}" for number in range(4) for _ in range(3)]


def demo_facts(store: Path, landmark_generator_dir: Path, renderer_dir: Path, clip: Path, dub: Path, speech: Path) -> DemoFacts:
    return DemoFacts(
        store=store,
        landmark_generator_dir=landmark_generator_dir,
        renderer_dir=renderer_dir,
        dub=dub,
        dub_source=clip,
        speech=speech,
        seconds_by_stage={"ingest_corpus": 42.0, "bulk_dubbing": 75.0},
        steps={"landmark_generator": 1400, "renderer": 60},
    )


def test_demo(store: Path, landmark_generator_dir: Path, renderer_dir: Path, clip: Path, dub: Path, speech: Path, tmp_path: Path) -> None:
    demo_report(demo_facts(store, landmark_generator_dir, renderer_dir, clip, dub, speech), tmp_path / "demo.html")
    page = read_whole_page(tmp_path / "demo.html")
    assert page.count("video") == 2
    assert "landmark L1 went from 0.4 at step 0 to 0.1 at step 40: 0.25 of what it was" in page.text
    assert "1,400 steps (landmark generator) and 60 steps (renderer)" in page.text
    assert "do not make a good mouth" in page.text
    assert "dubmill checkpoint import" in page.text
    assert "ingest corpus 42 s" in page.text
    assert "together 1 min 57 s" in page.text
    assert page.count("svg") >= 3
    assert WICKED in page.text


def test_demo_says_what_is_absent(store: Path, tmp_path: Path, clip: Path, speech: Path) -> None:
    nowhere = tmp_path / "nowhere"
    demo_report(demo_facts(nowhere, nowhere, nowhere, clip, nowhere / "dub.mp4", speech), tmp_path / "demo.html")
    text = read_whole_page(tmp_path / "demo.html").text
    assert "There is no dubbed video at" in text
    assert "There is no corpus store at" in text
    assert text.count("There is no training run at") == 2


@pytest.mark.parametrize(
    ("report", "sentence"),
    [(corpus_report, "There is no corpus store at"), (training_report, "There is no training run at"), (dubs_report, "There are no dubbing results at")],
)
def test_nothing_there_is_one_sentence(report, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        report(tmp_path / "nowhere", tmp_path / "page.html")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_damaged_run_is_one_sentence(landmark_generator_dir: Path, tmp_path: Path) -> None:
    (landmark_generator_dir / "state" / "metrics.jsonl").write_text("{broken")
    with pytest.raises(StoreError, match="are damaged"):
        training_report(landmark_generator_dir, tmp_path / "page.html")
    (landmark_generator_dir / "state" / "metrics.jsonl").write_text("")
    (landmark_generator_dir / "landmark-generator.safetensors").write_bytes(b"\x04\0\0\0\0\0\0\0{}  ")
    with pytest.raises(StoreError, match="do not say what they are"):
        training_report(landmark_generator_dir, tmp_path / "page.html")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\xff" * 7 + b"\x7f", b"\x40\x42\x0f" + bytes(5) + b"[" * 1_000_000])
def test_weights_that_are_something_else_are_one_sentence(landmark_generator_dir: Path, tmp_path: Path, content: bytes) -> None:
    (landmark_generator_dir / "landmark-generator.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match="do not say what they are"):
        training_report(landmark_generator_dir, tmp_path / "page.html")


def test_reports_load_without_torch() -> None:
    block = "import sys\nfor name in ('torch', 'mediapipe', 'ray'): sys.modules[name] = None\nimport tasks.report"
    assert subprocess.run([sys.executable, "-c", block], cwd=Path(__file__).parents[3], capture_output=True).returncode == 0
