"""What is told of jobs, and that telling never fails one."""

from collections import Counter
from collections.abc import Iterator

import pytest

from ray_jobs import metrics
from ray_jobs.metrics import FIGURES, Figure, StepTeller, ToldDubs
from schemas.jobs import DubJob, DubSummary
from tasks.corpus.batch import BatchCounts
from tasks.training.session import StepFacts

Told = Counter[tuple[str, ...]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Counters by name and tags added up; of gauges and histograms the last value."""
    values: Told = Counter()

    def tell(figure: Figure, value: float, **tags: str) -> None:
        assert set(tags) == set(figure.tags)
        key = (figure.name, *(tags[name] for name in figure.tags))
        values[key] = values[key] + value if figure.kind == "Counter" else value

    monkeypatch.setattr(metrics, "tell", tell)
    return values


def test_names_follow_prometheus_habits() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    for figure in FIGURES:
        assert figure.name.startswith("dubmill_")
        assert figure.name.endswith("_total") == (figure.kind == "Counter")
        assert "seconds" in figure.name or "second" not in figure.says.split(",")[0].lower()
        assert not {"clip_id", "job_id", "source", "batch"} & set(figure.tags), "tags are few and bounded"


def test_a_batch_counts_once_and_only_where_this_run_wrote_it(told: Told) -> None:
    metrics.batch_ended(BatchCounts(batch="a", written=True, clips=3, frames=75, rejects={"no-face": 2, "damaged": 1}), 1)
    metrics.batch_ended(BatchCounts(batch="b", written=False, clips=9, frames=9, rejects={"no-face": 9}), 0)
    assert told == {
        ("dubmill_batches_left",): 0,
        ("dubmill_batches_total",): 1,
        ("dubmill_clips_total",): 3,
        ("dubmill_clip_frames_total",): 75,
        ("dubmill_rejects_total", "no-face"): 2,
        ("dubmill_rejects_total", "damaged"): 1,
    }


def test_rows_are_counted_as_they_come_over_canary_and_rest(told: Told) -> None:
    rows = {
        "a": {"status": "done", "reason": None, "frames": 50, "frames_per_second": 10.0},
        "b": {"status": "failed", "reason": "no-face", "frames": None},
        "c": {"status": "done", "reason": None, "frames": 30, "frames_per_second": 10.0},
    }

    def work(jobs: tuple[DubJob, ...]) -> Iterator[dict]:
        yield from (rows[job.job_id] for job in jobs)

    jobs = [DubJob(job_id=name, video="v", speech="s", out=f"{name}.mp4") for name in rows]
    work_told = ToldDubs(work, 3)
    assert list(work_told(tuple(jobs[:1]))) == [rows["a"]]
    assert told[("dubmill_dubs_left",)] == 2
    assert list(work_told(tuple(jobs[1:]))) == [rows["b"], rows["c"]]
    left = {("dubmill_dubs_left",): 0, ("dubmill_dub_seconds",): 3.0}
    assert told == left | {("dubmill_dubs_total", "done", ""): 2, ("dubmill_dubs_total", "failed", "no-face"): 1}


def test_a_dub_tells_frames_and_stages(told: Told) -> None:
    metrics.dub_made(
        DubSummary(
            output="o", frames=50, dubbed_frames=40, duration_s=2.0, fps="25", width=8, height=8, seconds_by_stage={"render": 1.5, "wait": 0.25, "decode": 0.0}
        )
    )
    assert told == {
        ("dubmill_dub_frames_total", "dubbed"): 40,
        ("dubmill_dub_frames_total", "source"): 10,
        ("dubmill_dub_stage_seconds_total", "render"): 1.5,
        ("dubmill_dub_stage_seconds_total", "wait"): 0.25,
    }


def test_of_a_step_each_worker_tells_its_time_and_the_leader_the_rest(told: Told) -> None:
    step = StepFacts({"l1": 0.5, "gradient_norm": 2.0}, samples=8, seconds=0.4, waited_s=0.1)
    for leads in (True, False):
        StepTeller("renderer", leads)(step)
    assert told == {
        ("dubmill_training_seconds_total", "renderer"): 0.8,
        ("dubmill_training_wait_seconds_total", "renderer"): 0.2,
        ("dubmill_training_steps_total", "renderer"): 1,
        ("dubmill_training_samples_total", "renderer"): 8,
        ("dubmill_training_loss", "renderer", "l1"): 0.5,
        ("dubmill_training_loss", "renderer", "gradient_norm"): 2.0,
    }


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_ray_takes_each_of_them(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = metrics._metric(figure)
    assert metric.info["tag_keys"] == figure.tags


def test_telling_never_fails_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.tell(metrics.CLIPS, 1)  # without a Ray
    monkeypatch.setattr("ray.is_initialized", lambda: True)

    def refuse(_: Figure) -> None:
        raise RuntimeError("the agent is away")

    monkeypatch.setattr(metrics, "_metric", refuse)
    metrics.tell(metrics.CLIPS, 1)
    metrics.tell(metrics.REJECTS, 1, unknown="tag")
