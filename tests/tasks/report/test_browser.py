"""The pages in a real browser, on a desktop and on a phone, in light and dark: nothing sticks out, every picture and video is there."""

import html
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import EvaluateSettings
from tasks.evaluation.evaluate import evaluate_here
from tasks.progress import silent
from tasks.report import corpus_report, dubs_report, evaluation_report, training_report
from tests.footage import make_talking_clip
from tests.manipulations import mouth_frozen

CHROMIUM = Path("/usr/bin/chromium")
DESKTOP_PX, PHONE_PX = 1280, 390
PATIENCE_S = 120
MEASURE = """<script>
addEventListener("load", () => setTimeout(() => {
  const broken = [...document.images].filter((image) => !image.complete || !image.naturalWidth).length;
  const videos = [...document.querySelectorAll("video")];
  parent.postMessage({
    name: NAME, sticks_out_px: document.documentElement.scrollWidth - innerWidth, broken, images: document.images.length,
    videos: videos.length, playable: videos.filter((video) => video.readyState >= 1 && video.videoWidth > 0).length,
    background: getComputedStyle(document.body).backgroundColor,
  }, "*");
}, 1500));
</script>"""
"""Put into a copy of a page: what the browser makes of it."""
FRAME = """<!doctype html><body><pre id="told"></pre><script>
addEventListener("message", (event) => { document.getElementById("told").append(JSON.stringify(event.data) + "\\n"); });
</script>FRAMES</body>"""

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two evaluations: of a clip beside itself, and of it with a mouth that stands still."""
    folder = tmp_path_factory.mktemp("evaluations")
    real = make_talking_clip(folder / "real" / "one.mp4", 1.0)
    for name in ("first", "second"):
        (folder / name).mkdir()
    (folder / "second" / "one.mp4").write_bytes(real.read_bytes())
    mouth_frozen(real, folder / "first" / "one.mp4", 25)
    outs = [folder / f"{name}.out" for name in ("first", "second")]
    for name, out in zip(("first", "second"), outs, strict=True):
        evaluate_here(EvaluateSettings(generated=str(folder / name), real=str(folder / "real"), out=str(out), pictures=2, resamples=10), silent)
    return outs


@dataclass(frozen=True)
class Shown:
    """What a browser made of a page."""

    sticks_out_px: int
    broken: int
    images: int
    videos: int
    playable: int
    background: str


def shown_in_browser(pages: dict[str, Path], folder: Path, *options: str) -> dict[tuple[str, int], Shown]:
    """Each page in a frame as wide as a desktop's window and in one as wide as a phone's."""
    frames = []
    for name, page in pages.items():
        for width in (DESKTOP_PX, PHONE_PX):
            measured = folder / f"{name}-{width}.html"
            measured.write_text(page.read_text().replace("</body>", MEASURE.replace("NAME", json.dumps(f"{name} {width}")) + "</body>"))
            frames.append(f'<iframe src="{html.escape(measured.as_uri())}" width="{width}" height="800"></iframe>')
    (folder / "all.html").write_text(FRAME.replace("FRAMES", "".join(frames)))
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,900", "--virtual-time-budget=20000", *options]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "all.html").as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, done.stdout[:2000]
    answers: list[dict[str, Any]] = [json.loads(line) for line in html.unescape(told.group(1)).splitlines()]
    return {(answer["name"].split()[0], int(answer["name"].split()[1])): Shown(**{k: v for k, v in answer.items() if k != "name"}) for answer in answers}


@pytest.mark.timeout(600)
def test_every_page_fits_a_desktop_and_a_phone_and_all_in_it_can_be_seen(
    store: Path, landmark_generator_dir: Path, renderer_dir: Path, bulk_out: Path, evaluations: list[Path], tmp_path: Path
) -> None:
    pages = {name: tmp_path / f"{name}.html" for name in ("corpus", "landmarks", "renderer", "evaluation", "dubs")}
    corpus_report(store, pages["corpus"])
    training_report(landmark_generator_dir, pages["landmarks"])
    training_report(renderer_dir, pages["renderer"])
    evaluation_report(evaluations[1], pages["evaluation"], before=evaluations[:1])
    dubs_report(bulk_out, pages["dubs"])
    light = shown_in_browser(pages, tmp_path)
    assert set(light) == {(name, width) for name in pages for width in (DESKTOP_PX, PHONE_PX)}
    for where, shown in light.items():
        assert shown.sticks_out_px <= 0, where
        assert (shown.broken, shown.playable) == (0, shown.videos), where
    assert {name: (light[name, PHONE_PX].videos > 0, light[name, PHONE_PX].images > 0) for name in pages} == {
        "corpus": (False, True), "landmarks": (False, False), "renderer": (False, True), "evaluation": (True, True), "dubs": (True, False),
    }  # fmt: skip
    dark = shown_in_browser({"evaluation": pages["evaluation"]}, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert dark["evaluation", PHONE_PX].background != light["evaluation", PHONE_PX].background


def test_an_evaluation_is_shown_with_curves_over_versions_and_sketches_over_faces(evaluations: list[Path], tmp_path: Path) -> None:
    evaluation_report(evaluations[1], tmp_path / "alone.html")
    evaluation_report(evaluations[1], tmp_path / "both.html", before=evaluations[:1])
    alone, both = ((tmp_path / name).read_text() for name in ("alone.html", "both.html"))
    assert "Over versions" not in alone
    assert both.count("<svg") > alone.count("<svg") + 3
    assert 'alt="real and generated face' in alone
    assert "Gate passed." in alone
