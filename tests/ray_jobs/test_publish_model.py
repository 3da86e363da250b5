"""The jobs before and after a training: freezing its clips, and publishing what came of it on a GPU where there is one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from ray_jobs import freeze_snapshot, publish_model
from schemas.errors import CheckpointError, StoreError
from schemas.jobs import PublishSummary
from schemas.settings import FreezeSettings, PublishSettings, SnapshotSettings
from tasks.corpus.store import CorpusStore
from tasks.progress import silent
from tests.training_corpus import SNAPSHOT, make_training_corpus


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    return make_training_corpus(tmp_path / "corpus", {"train": [30, 40, 50], "val": [30]})


def test_freezing_chooses_by_the_selection_and_names_by_the_content(store: CorpusStore) -> None:
    settings = FreezeSettings(store=store.uri, selection=SnapshotSettings(min_frames=35))
    frozen = freeze_snapshot.run(settings, silent)
    assert sum(frozen.clips.values()) == 2
    assert {clip.clip_id for clip in store.snapshot(frozen.snapshot).clips} == {f"{number:016x}-s0t0" for number in (1, 2)}
    assert freeze_snapshot.run(settings, silent) == frozen, "a retry freezes the same"


def test_a_snapshot_that_is_named_is_taken_and_nothing_frozen(store: CorpusStore) -> None:
    frozen = freeze_snapshot.run(FreezeSettings(store=store.uri, snapshot=SNAPSHOT), silent)
    assert (frozen.snapshot, frozen.clips) == (SNAPSHOT, {"train": 3, "val": 1, "test": 0})
    assert store.snapshots() == [SNAPSHOT]
    with pytest.raises(StoreError, match="has no snapshot other; there are: frozen"):
        freeze_snapshot.run(FreezeSettings(store=store.uri, snapshot="other"), silent)


SETTINGS = PublishSettings(kind="renderer", run="runs/1", store="s3://b/corpus", models="models")
SUMMARY = PublishSummary(kind="renderer", published=True, version="v", location="models/renderer/v", score=1.0, metrics={}, sentence="It is published.")


@contextmanager
def connected() -> Iterator[None]:
    yield


def with_gpus(gpus: int, monkeypatch: pytest.MonkeyPatch, outcome: PublishSummary | Exception) -> list[Any]:
    """A Ray with so many GPUs; gives what is asked of it."""
    asked: list[Any] = []

    def get(outcome: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def remote(num_gpus: int) -> Any:
        asked.append(num_gpus)
        return lambda _: SimpleNamespace(remote=lambda settings: asked.append(settings) or outcome)

    monkeypatch.setattr(publish_model, "connect", connected)
    monkeypatch.setattr(publish_model, "publish_model", lambda settings, progress: asked.append("here") or SUMMARY)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0} | ({"GPU": float(gpus)} if gpus else {}))
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "get", get)
    return asked


@pytest.mark.parametrize(
    ("device", "gpus", "address", "is_here"),
    [
        ("auto", 0, "cluster", True), ("auto", 1, "cluster", False), ("cuda", 2, "cluster", False), ("cpu", 1, "cluster", True),
        ("cuda", 0, "cluster", False), ("cuda", 0, "", True),
    ],
)  # fmt: skip
def test_a_gpu_of_the_cluster_measures_where_there_is_one_or_will_be(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, address: str, is_here: bool
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    asked = with_gpus(gpus, monkeypatch, SUMMARY)
    assert publish_model.run(SETTINGS.replaced(device=device), silent) == SUMMARY
    if is_here:
        assert asked == ["here"]
    else:
        assert asked[0] == 1
        assert asked[1].run == str(Path.cwd() / "runs/1"), "a worker's current folder is another"


def test_a_sentence_for_people_comes_from_there_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(1, monkeypatch, RayTaskError("publish_model", "trace", CheckpointError("There are no weights.")))
    with pytest.raises(CheckpointError, match=r"^There are no weights\.$"):
        publish_model.run(SETTINGS, silent)
    with_gpus(1, monkeypatch, RayTaskError("publish_model", "trace", ZeroDivisionError()))
    with pytest.raises(RayTaskError):
        publish_model.run(SETTINGS, silent)
