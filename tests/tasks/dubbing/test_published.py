"""Dubbing with published networks: the `current.json` of each kind in the place of weights."""

from pathlib import Path

import pytest

from schemas.errors import CheckpointError
from schemas.settings import BulkDubSettings, DubSettings
from tasks.dubbing import bulk
from tasks.dubbing.bulk import bulk_dub_here
from tasks.dubbing.generate import Networks
from tasks.published import Current, current_location, weights_in_use, write_current
from tests.tasks.dubbing.random_networks import write_random_networks


def put_into_use(models: Path, version: str, seed: int) -> DubSettings:
    """Publishes both networks under a version; settings that name their `current.json`."""
    weights = write_random_networks(models / "made", seed=seed)
    for kind, location in (("landmark-generator", weights.landmark_generator), ("renderer", weights.renderer)):
        folder = models / kind / version
        folder.mkdir(parents=True)
        Path(location).rename(folder / f"{kind}.safetensors")
        write_current(current_location(str(models), kind), Current(version=version, weights=f"{version}/{kind}.safetensors"))
    return weights.replaced(landmark_generator=f"{models}/landmark-generator/current.json", renderer=f"{models}/renderer/current.json")


def test_networks_are_those_in_use(tmp_path: Path) -> None:
    settings = put_into_use(tmp_path, "a", seed=1)
    first = Networks.load(settings).versions
    put_into_use(tmp_path, "b", seed=2)
    assert set(Networks.load(settings).versions.values()).isdisjoint(first.values())


def test_the_file_may_be_named_from_within_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_into_use(tmp_path, "a", seed=1)
    monkeypatch.chdir(tmp_path / "renderer")
    assert weights_in_use("current.json") == "a/renderer.safetensors"
    assert weights_in_use("../landmark-generator/current.json") == "../landmark-generator/a/landmark-generator.safetensors"


def test_what_is_said_of_a_place_without_models_holds_no_secrets() -> None:
    with pytest.raises(CheckpointError, match=r"No model is published at memory://models/current.json yet"):
        weights_in_use("memory://key:secret@models/current.json")


def test_a_bulk_run_keeps_the_networks_that_were_in_use_when_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = put_into_use(tmp_path, "a", seed=1)
    (tmp_path / "jobs.csv").write_text("job_id,video,speech,out\n1,nowhere.mp4,nowhere.wav,1.mp4\n")
    in_use: list[tuple[str, str]] = []

    def load(given: DubSettings) -> Networks:
        put_into_use(tmp_path, "b", seed=2)
        in_use.append((Path(given.landmark_generator).parent.name, Path(given.renderer).parent.name))
        return Networks(*[None] * 4, hashes={"landmark_generator": "a", "renderer": "a"})

    monkeypatch.setattr(bulk.Networks, "load", load)
    summary = bulk_dub_here(BulkDubSettings(**settings.model_dump(), jobs=str(tmp_path / "jobs.csv"), out=str(tmp_path / "dubs")))
    assert in_use == [("a", "a")]
    assert sum(summary.failed.values()) == 1
