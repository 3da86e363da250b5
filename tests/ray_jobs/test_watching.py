"""A small ingest and a small bulk run on a real Ray: what its Prometheus endpoint says of them, and what its workers' log lines say they belong to."""

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest
import ray

from ray_jobs import dub, ingest
from ray_jobs.cluster import connect
from schemas.job_log import DAG_RUN_VARIABLE, LOG_VARIABLE, SUBMISSION_VARIABLE
from schemas.jobs import BulkDubSummary, IngestSummary
from schemas.settings import BulkDubSettings, IngestSettings
from tasks.dubbing.results import read_results
from tasks.progress import silent
from tests.footage import make_speech, make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks

IDS = {SUBMISSION_VARIABLE: "ingest_corpus.ingest.0a1b.g0.a1", DAG_RUN_VARIABLE: "ingest_corpus/monday/ingest"}
REPORT_EVERY_MS = "1000"
"""The least that Ray takes; its default of ten seconds would make the test longer."""
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Watched:
    """What the jobs said of themselves, and what is seen of them."""

    folder: Path
    ingested: IngestSummary
    dubbed: BulkDubSummary

    def rows(self) -> list[dict[str, object]]:
        return list(read_results(self.dubbed.out).values())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Both jobs have run; the Ray that they ran on is still there."""
    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in (IDS | {LOG_VARIABLE: "json", "RAY_metrics_report_interval_ms": REPORT_EVERY_MS}).items():
            patch.setenv(name, value)
        with connect():
            yield Watched(folder, run_ingest(folder), run_dub(folder))


def run_ingest(folder: Path) -> IngestSummary:
    make_talking_clip(folder / "footage" / "anna.mp4", seconds=0.8, seed=0)
    make_talking_clip(folder / "footage" / "mute.mp4", seconds=0.4, sound=False)
    for name in ("text", "more text"):
        (folder / "footage" / f"{name}.mp4").write_text(f"no video {name}")
    return ingest.run(IngestSettings(sources=(str(folder / "footage"),), store=str(folder / "corpus"), batch_sources=2, workers=1), silent)


def run_dub(folder: Path) -> BulkDubSummary:
    clip, speech = make_talking_clip(folder / "clip.mp4", seconds=0.24, size=(160, 160)), make_speech(folder / "speech.wav", seconds=0.2)
    videos = {"good": clip, "also good": clip, "text": folder / "footage" / "text.mp4", "missing": folder / "nowhere.mp4"}
    rows = [{"job_id": name, "video": str(video), "speech": str(speech), "out": f"{name}.mp4"} for name, video in videos.items()]
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    networks = write_random_networks(folder / "networks").replaced(references=1, landmark_references=2)
    settings = BulkDubSettings(**networks.model_dump(), jobs=str(folder / "jobs.jsonl"), out=str(folder / "dubs"), workers=1)
    return dub.run(settings, silent)


def scraped() -> dict[str, dict[tuple[str, ...], float]]:
    """dubmill's metrics as Prometheus would read them: by name the values by our tags, over nodes and workers added up."""
    from prometheus_client.parser import text_string_to_metric_families  # comes with Ray's agent

    found: dict[str, Counter[tuple[str, ...]]] = {}
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        for sample in (sample for family in families for sample in family.samples if sample.name.startswith("ray_dubmill_")):
            ours = tuple(sample.labels[tag] for tag in ("reason", "status", "shows", "stage") if tag in sample.labels)
            found.setdefault(sample.name.removeprefix("ray_dubmill_"), Counter())[ours] += sample.value
    return {name: dict(values) for name, values in found.items()}


def test_the_endpoint_s_numbers_are_the_summaries_numbers(watched: Watched) -> None:
    ingested, rows = watched.ingested, watched.rows()
    assert ingested.clips
    assert watched.dubbed.done == 2
    expected = {
        "batches_total": {(): len(ingested.batches)},
        "clips_total": {(): ingested.clips},
        "clip_frames_total": {(): ingested.frames},
        "rejects_total": {(reason,): count for reason, count in ingested.rejects.items()},
        "dubs_total": {("", "done"): watched.dubbed.done} | {(reason, "failed"): count for reason, count in watched.dubbed.failed.items()},
        "dub_frames_total": frames_shown(rows),
        "dub_seconds_count": {(): watched.dubbed.done},
    }
    until = monotonic() + PATIENCE_S
    while (seen := {name: scraped().get(name) for name in expected}) != expected and monotonic() < until:
        sleep(0.5)
    assert seen == expected
    stages = scraped()["dub_stage_seconds_total"]
    assert stages[("render",)] > 0
    assert ("wait",) in stages


def frames_shown(rows: list[dict[str, object]]) -> dict[tuple[str, ...], float]:
    """Frames of all dubs by what they show, as far as there are any."""
    frames, dubbed = (sum(int(str(row[name] or 0)) for row in rows) for name in ("frames", "dubbed_frames"))
    return {(shows,): count for shows, count in (("dubbed", dubbed), ("source", frames - dubbed)) if count}


def worker_lines() -> list[dict[str, object]]:
    """Log lines of the workers, from the files that a log shipper would read."""
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    lines = [line for path in logs.glob("worker-*.err") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_lines_of_workers_carry_the_ids_of_job_run_and_piece_of_work(watched: Watched) -> None:
    lines = worker_lines()
    of_job = {"submission": IDS[SUBMISSION_VARIABLE], "dag_run": IDS[DAG_RUN_VARIABLE]}
    assert all(of_job.items() <= line.items() for line in lines)
    turned_away = [line for line in lines if str(line["event"]).startswith("Turned away")]
    assert {str(line["source"]).rpartition("/")[2] for line in turned_away} == {"text.mp4", "more text.mp4", "mute.mp4"}
    assert {line["job"] for line in turned_away} == {"ingest"}
    assert {line["batch"] for line in turned_away} <= set(watched.ingested.batches)
    dubs = {line["job_id"]: line for line in lines if line["job"] == "dub"}
    assert dubs.keys() == {"good", "also good", "text", "missing"}
    assert dubs["missing"]["level"] == "info"
