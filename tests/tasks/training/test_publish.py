"""Publishing: the better network goes into use, whatever happens on the way."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from models.checkpoint import load_landmark_generator, read_header, save_checkpoint
from schemas.checkpoints import LandmarkGeneratorSize
from schemas.errors import CheckpointError, SettingsError, StoreError
from schemas.jobs import PublishSummary
from schemas.settings import CropSettings, DubSettings, LandmarkGeneratorTraining, Limit, PublishSettings, RendererTraining
from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.file_hash import file_hash
from tasks.published import CURRENT, decision_location, weights_in_use, with_weights_in_use
from tasks.training import landmark_generator
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.measuring import Measured
from tasks.training.publish import publish_model
from tasks.training.renderer import train_renderer
from tasks.training.validation import score
from tests.s3_server import s3_bucket
from tests.training_corpus import SNAPSHOT, make_training_corpus

SIZE = LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32)
KIND = "landmark-generator"


@pytest.fixture(scope="module")
def runs(corpus: CorpusStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], str]]:
    """The folder of a training run by its seed: a step each."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(landmark_generator.PRESETS, "small", SIZE)

        def run(seed: int, steps: int = 1) -> str:
            out = str(folder / f"{seed}-{steps}")
            settings = LandmarkGeneratorTraining(
                store=corpus.uri, out=out, snapshot=SNAPSHOT, preset="small", device="cpu", steps=steps, batch_size=4, learning_rate=3e-3,
                validate_every=steps, validation_samples=4, validation_clips=1, preview_every=0, seed=seed,
            )  # fmt: skip
            if not places.exists(f"{out}/{KIND}.safetensors"):
                train_landmark_generator(settings)
            return out

        yield run


@dataclass
class Shelf:
    """A folder of models, and how good each pretended network is."""

    corpus: CorpusStore
    models: str
    l1: dict[str, float] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def publish(self, run: str, l1: float | None = None, **changes: object) -> PublishSummary:
        """Publishes a run whose network has that L1 distance."""
        if l1 is not None:
            self.l1[version_of(run)] = l1
        return publish_model(self.settings(run).replaced(**changes), measure=self.measure)

    def settings(self, run: str) -> PublishSettings:
        return PublishSettings(kind=KIND, run=run, store=self.corpus.uri, models=self.models, device="cpu")

    def measure(self, weights: str) -> Measured:
        with places.local_copy(weights) as path:
            version = file_hash(path)[:12]
        self.measured.append(version)
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()
        return Measured({"l1": self.l1[version], "leak": 0.25}, {"closure_f1": "Nobody closes the lips."})

    def in_use(self) -> str:
        return str(json.loads(places.read_bytes(f"{self.models}/{KIND}/{CURRENT}"))["version"])

    def names(self, version: str) -> list[str]:
        return places.list_names(f"{self.models}/{KIND}/{version}")


def version_of(run: str) -> str:
    return file_hash(Path(run) / f"{KIND}.safetensors")[:12]


@pytest.fixture
def shelf(corpus: CorpusStore, tmp_path: Path) -> Shelf:
    return Shelf(corpus, str(tmp_path / "models"))


Runs = Callable[..., str]
FILES = ["README.md", "curves.svg", "landmark-generator.safetensors", "metrics.json", "settings.yaml"]


def test_the_first_network_is_published_with_all_that_belongs_to_it(shelf: Shelf, runs: Runs) -> None:
    summary = shelf.publish(runs(1), 0.03)
    version = version_of(runs(1))
    assert (summary.published, summary.version, summary.former_score) == (True, version, None)
    assert summary.sentence == f"The landmark generator {version} is published: its score is -0.03, and none was to be compared with."
    assert shelf.in_use() == version
    folder = Path(summary.location)
    assert folder == Path(shelf.models) / KIND / version
    assert shelf.names(version) == FILES
    assert file_hash(folder / f"{KIND}.safetensors")[:12] == version
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["score"], metrics["metrics"]["leak"], metrics["snapshot"], metrics["former"]) == (-0.03, 0.25, SNAPSHOT, None)
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert (settings["seed"], settings["store"], settings["snapshot"]) == (1, shelf.corpus.uri, SNAPSHOT)


def test_a_better_network_takes_the_place_of_the_one_in_use_which_stays_on_the_shelf(shelf: Shelf, runs: Runs) -> None:
    former = shelf.publish(runs(1), 0.03)
    summary = shelf.publish(runs(2), 0.02)
    assert (summary.published, shelf.in_use()) == (True, version_of(runs(2)))
    assert (summary.score, summary.former_score) == (-0.02, -0.03)
    assert f"better by 0.01 than that of version {former.version}" in summary.sentence
    assert shelf.names(former.version) == FILES


def test_a_network_within_its_thresholds_is_published_and_one_beyond_them_is_not_and_why_stands_in_its_run(shelf: Shelf, runs: Runs) -> None:
    thresholds = {"leak": Limit(at_most=0.3), "l1": Limit(at_most=0.025)}
    refused = shelf.publish(runs(1), 0.03, landmark_generator_thresholds=thresholds, renderer_thresholds={"psnr": Limit(at_least=99)})
    assert (refused.published, refused.location) == (False, "")
    assert refused.sentence == f"The landmark generator {version_of(runs(1))} is not published: l1 is 0.03, over 0.025."
    assert PublishSummary.model_validate_json(places.read_bytes(decision_location(runs(1)))) == refused
    assert shelf.publish(runs(2), 0.02, landmark_generator_thresholds=thresholds).published
    assert shelf.in_use() == version_of(runs(2))
    unmeasured = shelf.publish(runs(1), 0.01, landmark_generator_thresholds={"closure_f1": Limit(at_least=0.5)})
    assert unmeasured.sentence.endswith("is not published: closure_f1 was not measured: Nobody closes the lips.")


def test_a_worse_network_changes_nothing_and_is_told_by_how_much_it_lost(shelf: Shelf, runs: Runs) -> None:
    former = shelf.publish(runs(1), 0.03)
    summary = shelf.publish(runs(2), 0.035)
    assert not summary.published
    assert summary.sentence == (
        f"The landmark generator {version_of(runs(2))} is not published: its score -0.035 is worse by 0.005"
        f" than the -0.03 of version {former.version}, which stays in use."
    )
    assert (summary.location, summary.former_metrics["l1"]) == (former.location, 0.03)
    assert shelf.in_use() == former.version
    assert shelf.names(summary.version) == []


def test_as_good_is_not_better_and_what_another_seed_may_give_can_be_kept_out(shelf: Shelf, runs: Runs) -> None:
    former = shelf.publish(runs(1), 0.03)
    assert "is no better than the -0.03" in shelf.publish(runs(2), 0.03).sentence
    little = shelf.publish(runs(2), 0.0292, min_gain_share=0.03)
    assert not little.published
    assert little.sentence == (
        f"The landmark generator {version_of(runs(2))} is not published: its score -0.0292 is better by only 0.0008"
        f" than the -0.03 of version {former.version}, which stays in use, and more than 0.0009 (min_gain_share 0.03) is asked for."
    )
    assert shelf.publish(runs(2), 0.0290, min_gain_share=0.03).published


def test_how_much_is_asked_for_may_be_set(shelf: Shelf, runs: Runs) -> None:
    shelf.publish(runs(1), 0.03)
    assert not shelf.publish(runs(2), 0.0286, min_gain_share=0.05).published
    assert shelf.publish(runs(2), 0.0284, min_gain_share=0.05).published
    assert shelf.publish(runs(3), 0.02839).published


def test_a_network_whose_score_is_no_number_is_not_published(shelf: Shelf, runs: Runs) -> None:
    summary = shelf.publish(runs(1), float("nan"))
    assert (summary.published, summary.location) == (False, "")
    assert summary.sentence.endswith("its score is no number.")


def test_the_licences_are_read_once_before_anything_is_measured(shelf: Shelf, runs: Runs, tmp_path: Path) -> None:
    licences = tmp_path / "licences.csv"
    licences.write_text("source,licence\n/footage,CC BY 4.0\n")
    shelf.meanwhile = licences.unlink
    assert shelf.publish(runs(1), 0.03, licences=str(licences)).published


def test_a_retry_publishes_the_same_and_changes_no_byte(shelf: Shelf, runs: Runs) -> None:
    shelf.publish(runs(1), 0.03)
    first = shelf.publish(runs(2), 0.02)
    before = {path: path.read_bytes() for path in Path(shelf.models).rglob("*.*")}
    shelf.measured.clear()
    again = shelf.publish(runs(2), 0.02)
    assert again == first.replaced(sentence=again.sentence)
    assert "already" in again.sentence
    assert shelf.measured == []
    assert {path: path.read_bytes() for path in Path(shelf.models).rglob("*.*")} == before


def test_a_version_that_comes_into_use_again_after_a_roll_back_is_left_as_it_was(shelf: Shelf, runs: Runs) -> None:
    former = shelf.publish(runs(1), 0.03)
    pointer = Path(shelf.models, KIND, CURRENT)
    first = pointer.read_bytes()
    shelf.publish(runs(2), 0.02)
    before = {path: path.read_bytes() for path in Path(shelf.models).rglob(f"{version_of(runs(2))}/*")}
    pointer.write_bytes(first)
    again = shelf.publish(runs(2), 0.025)
    assert shelf.in_use() == version_of(runs(2))
    assert again.sentence.endswith(f"better by 0.005 than that of version {former.version}. Its folder was there already and stays as it was.")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("killed_at", range(len(FILES) + 1))
def test_a_publishing_that_is_killed_between_two_files_leaves_the_former_in_use(
    shelf: Shelf, runs: Runs, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    former = shelf.publish(runs(1), 0.03)
    written: list[str] = []

    def dying(write: Callable[..., None]) -> Callable[..., None]:
        def write_or_die(*args: object) -> None:
            if len(written) == killed_at:
                raise KeyboardInterrupt
            written.append(str(args[-1]))
            write(*args)

        return write_or_die

    with monkeypatch.context() as patch:
        patch.setattr(places, "write_bytes", dying(places.write_bytes))
        patch.setattr(places, "put", dying(places.put))
        with pytest.raises(KeyboardInterrupt):
            shelf.publish(runs(2), 0.02)
    assert shelf.in_use() == former.version
    assert load_landmark_generator(weights_in_use(f"{shelf.models}/{KIND}/{CURRENT}"))
    assert shelf.publish(runs(2), 0.02).published
    assert shelf.names(version_of(runs(2))) == FILES


def test_of_two_at_once_the_later_one_is_compared_with_the_earlier(shelf: Shelf, runs: Runs) -> None:
    shelf.publish(runs(1), 0.03)
    shelf.l1[version_of(runs(2))] = 0.01
    shelf.meanwhile = lambda: shelf.publish(runs(2))
    late = shelf.publish(runs(3), 0.02)
    assert not late.published
    assert f"worse by 0.01 than the -0.01 of version {version_of(runs(2))}" in late.sentence
    assert shelf.in_use() == version_of(runs(2))


def test_a_network_that_another_run_publishes_meanwhile_is_published_already(shelf: Shelf, runs: Runs) -> None:
    shelf.publish(runs(1), 0.03)
    shelf.meanwhile = lambda: shelf.publish(runs(2))
    late = shelf.publish(runs(2), 0.02)
    assert (late.published, late.former_score) == (True, -0.03)
    assert "is the published one already" in late.sentence


def test_the_card_of_a_network_that_was_compared_again_tells_of_the_last_comparison(shelf: Shelf, runs: Runs) -> None:
    shelf.publish(runs(1), 0.03)
    shelf.l1[version_of(runs(2))] = 0.02
    shelf.meanwhile = lambda: shelf.publish(runs(2))
    late = shelf.publish(runs(3), 0.01)
    assert (late.published, late.former_score) == (True, -0.02)
    assert json.loads(Path(late.location, "metrics.json").read_text())["former"]["version"] == version_of(runs(2))
    assert "stays as it was" not in late.sentence


def test_networks_of_different_crops_are_not_compared_and_the_former_stays(shelf: Shelf, runs: Runs) -> None:
    former = shelf.publish(runs(1), 0.03)
    weights = f"{former.location}/{KIND}.safetensors"
    network = load_landmark_generator(weights)
    save_checkpoint(weights, network, read_header(weights).replaced(crop=CropSettings(anchor="all-points")))
    summary = shelf.publish(runs(2), 0.001)
    assert not summary.published
    assert "cannot be compared on one corpus" in summary.sentence
    assert "anchor upper-face" in summary.sentence
    assert shelf.in_use() == former.version


def test_a_version_whose_weights_were_taken_away_stands_in_nobodys_way(shelf: Shelf, runs: Runs) -> None:
    former = shelf.publish(runs(1), 0.01)
    Path(former.location, f"{KIND}.safetensors").unlink()
    assert shelf.publish(runs(2), 0.05).published


def test_a_longer_training_beats_a_shorter_one_by_the_real_measure_and_is_not_beaten_back(corpus: CorpusStore, runs: Runs, tmp_path: Path) -> None:
    short, long = (PublishSettings(kind=KIND, run=runs(1, steps), store=corpus.uri, models=str(tmp_path), device="cpu") for steps in (1, 30))
    assert publish_model(short).published
    better = publish_model(long)
    assert better.published
    assert better.former_score is not None
    assert better.score > better.former_score
    assert not publish_model(short).published


def test_the_renderer_is_published_too(corpus: CorpusStore, renderer_settings: RendererTraining, quick_networks: None, tmp_path: Path) -> None:
    train_renderer(renderer_settings.replaced(steps=1, preview_every=0, validation_clips=1))
    summary = publish_model(PublishSettings(kind="renderer", run=renderer_settings.out, store=corpus.uri, models=str(tmp_path / "models"), device="cpu"))
    assert summary.published
    assert summary.metrics["psnr"] > 0
    assert summary.score == score("renderer", summary.metrics, renderer_settings.size)
    card = Path(summary.location, "README.md").read_text()
    assert "random weights from a fixed seed" in card


def test_it_works_on_s3(runs: Runs, corpus: CorpusStore) -> None:
    with s3_bucket("shelf") as bucket:
        shelf = Shelf(corpus, f"{bucket}/models")
        places.put(Path(runs(2), f"{KIND}.safetensors"), f"{bucket}/run/{KIND}.safetensors")
        for name in ("checkpoints/000000001.pt", "metrics.jsonl"):
            places.put(Path(runs(2), "state", name), f"{bucket}/run/state/{name}")
        former = shelf.publish(runs(1), 0.03)
        shelf.l1[version_of(runs(2))] = 0.02
        summary = shelf.publish(f"{bucket}/run")
        assert (summary.published, summary.former_score, shelf.in_use()) == (True, -0.03, version_of(runs(2)))
        assert sorted(shelf.names(former.version)) == sorted(shelf.names(summary.version)) == FILES
        assert not shelf.publish(runs(3), 0.025).published


def test_what_is_missing_is_one_sentence(shelf: Shelf, runs: Runs, tmp_path: Path) -> None:
    weights = Path(runs(1), f"{KIND}.safetensors")
    places.put(weights, f"{tmp_path}/wrong/renderer.safetensors")
    places.put(weights, f"{tmp_path}/alone/{KIND}.safetensors")
    with pytest.raises(CheckpointError, match=r"There is no landmark-generator.safetensors to publish in .*nowhere"):
        shelf.publish(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="is a checkpoint of the landmark generator, not of the renderer"):
        shelf.publish(f"{tmp_path}/wrong", kind="renderer")
    with pytest.raises(CheckpointError, match="no training state"):
        shelf.publish(f"{tmp_path}/alone", 0.1)
    with pytest.raises(SettingsError, match=r"licences file .* is not there"):
        shelf.publish(runs(1), 0.03, licences=str(tmp_path / "nowhere.csv"))


def test_another_store_with_a_snapshot_of_that_name_is_refused(runs: Runs, tmp_path: Path) -> None:
    other = make_training_corpus(tmp_path / "other", {"train": [20], "val": [20]})
    with pytest.raises(StoreError, match="holds other clips than the network was trained on"):
        publish_model(PublishSettings(kind=KIND, run=runs(1), store=other.uri, models=str(tmp_path / "models"), device="cpu"))


def test_dubbing_takes_what_is_in_use_and_only_looks_once(shelf: Shelf, runs: Runs, tmp_path: Path) -> None:
    pointer = f"{shelf.models}/{KIND}/{CURRENT}"
    settings = DubSettings(landmark_generator=pointer, renderer=str(tmp_path / "renderer.safetensors"))
    with pytest.raises(CheckpointError, match="No model is published"):
        with_weights_in_use(settings)
    former = shelf.publish(runs(1), 0.03)
    chosen = with_weights_in_use(settings)
    assert (chosen.landmark_generator, chosen.renderer) == (f"{former.location}/{KIND}.safetensors", settings.renderer)
    shelf.publish(runs(2), 0.02)
    assert with_weights_in_use(chosen) == chosen
    assert with_weights_in_use(settings) != chosen
