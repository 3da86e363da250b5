"""Which GPUs of a cluster work counts on: one rule for training, publishing, dubbing and evaluation."""

import pytest

from ray_jobs.actors import gpus_for, gpus_will_come


@pytest.mark.parametrize(
    ("device", "nodes", "address", "gpus"),
    [
        ("auto", [{"CPU": 8.0}], "cluster", 0),  # a cluster of processors alone does without
        ("auto", [{"CPU": 8.0}, {"GPU": 2.0}, {"GPU": 1.0}], "cluster", 3),
        ("cuda", [{"GPU": 2.0}], "cluster", 2),
        ("cuda", [{"CPU": 8.0}], "cluster", 1),
        ("cuda", [], "", 0),
        ("cpu", [{"GPU": 2.0}], "cluster", 0),
    ],
)
def test_gpus_that_are_there_count_and_those_that_will_come(
    device: str, nodes: list[dict[str, float]], address: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert gpus_for(device, nodes) == gpus


def test_only_what_is_asked_for_by_name_comes_and_only_to_a_cluster_that_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "cluster")
    assert [device for device in ("auto", "cpu", "cuda") if gpus_will_come(device)] == ["cuda"]
    monkeypatch.delenv("RAY_ADDRESS")
    assert not gpus_will_come("cuda")


def test_a_wait_for_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "cluster")
    gpus_for("cuda", [{"GPU": 1.0}])
    assert not caplog.records
    gpus_for("cuda", [{"CPU": 1.0}])
    assert "The cluster has no GPU yet" in caplog.text
