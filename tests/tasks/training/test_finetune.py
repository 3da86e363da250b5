"""Fine-tuning on one person, with networks that are quick on one core and footage that the tests make themselves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.checkpoint import load_landmark_generator, load_renderer, read_header, save_checkpoint
from models.landmark_generator import LandmarkGenerator
from models.renderer import Renderer
from schemas.checkpoints import CheckpointHeader, LandmarkGeneratorSize, RendererSize
from schemas.errors import CheckpointError, DubmillError, MediaError, SettingsError, StoreError
from schemas.settings import CropSettings, FinetuneSettings
from tasks.corpus.store import CorpusStore
from tasks.progress import silent
from tasks.training import finetune as finetune_module
from tasks.training.finetune import finetune
from tests.footage import make_talking_clip

UPPER = CropSettings(anchor="upper-face", padding=0.1)


def write_start(folder: Path, crop: CropSettings = UPPER, landmark_crop: CropSettings | None = None) -> Path:
    """Checkpoints of both networks with random weights."""
    torch.manual_seed(0)
    landmark_size, renderer_size = LandmarkGeneratorSize(width=32, layers=1, heads=2, feed_forward=32), RendererSize(width=16, size=crop.size)
    networks = {
        "landmark-generator": (LandmarkGenerator(landmark_size), landmark_size, landmark_crop or crop),
        "renderer": (Renderer(renderer_size), renderer_size, crop),
    }
    for kind, (network, size, of) in networks.items():
        save_checkpoint(str(folder / f"{kind}.safetensors"), network, CheckpointHeader(kind=kind, architecture=size, crop=of, step=70))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_clip(tmp_path_factory.mktemp("video") / "anna.mp4", seconds=5.0, size=(320, 320), seed=1)


@pytest.fixture(scope="module")
def settings(start: Path, video: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneSettings:
    return FinetuneSettings(
        videos=(str(video),), start_from=str(start), out=str(tmp_path_factory.mktemp("adapted") / "out"), device="cpu",
        steps=4, validate_every=2, stop_after=2, landmark_batch_size=8, renderer_batch_size=2, learning_rate=1e-3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(settings: FinetuneSettings) -> FinetuneSettings:
    finetune(settings)
    return settings


@pytest.fixture
def ready(finished: FinetuneSettings, tmp_path: Path) -> FinetuneSettings:
    """A folder in which the video is read already, and nothing is trained yet."""
    out = tmp_path / "out"
    shutil.copytree(Path(finished.out) / "corpus", out / "corpus")
    adaptation = finetune_module._adaptation(finished)
    finetune_module._keep(str(out), adaptation)
    return finished.replaced(out=str(out))


def run_again(settings: FinetuneSettings, **changes: object) -> FinetuneSettings:
    """The same video and corpus with other settings."""
    changed = settings.replaced(**changes)
    finetune_module._keep(changed.out, finetune_module._adaptation(changed))
    return changed


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, bool]:
    return {name: torch.equal(tensor, other[name]) for name, tensor in one.items()}


def test_both_networks_learn_and_what_is_frozen_does_not(finished: FinetuneSettings, start: Path) -> None:
    summary = finetune(finished)
    for kind, load, frozen in (
        ("landmark-generator", load_landmark_generator, "audio_encoder."),
        ("renderer", load_renderer, "translation.audio_encoder."),
    ):
        location = str(Path(finished.out) / f"{kind}.safetensors")
        assert read_header(location).crop == UPPER
        stayed = same(load(location).state_dict(), load(str(start / f"{kind}.safetensors")).state_dict())
        frozen_names = {name for name in stayed if name.startswith(frozen) or "normalisation.running" in name}
        assert frozen_names
        assert all(stayed[name] for name in frozen_names)
        assert not all(stayed.values())
    assert summary.unchanged == ()
    assert summary.landmark_generator.metrics["l1"] < summary.landmark_generator.metrics_at_start["l1"]
    assert summary.renderer.metrics["psnr"] > summary.renderer.metrics_at_start["psnr"]


def test_what_is_held_out_is_the_end_of_the_video(finished: FinetuneSettings) -> None:
    summary = finetune(finished)
    store = CorpusStore.open(str(Path(finished.out) / "corpus"))
    starts = {row["clip_id"]: row["segment_start_s"] for row in store.clips(["segment_start_s"]).to_pylist()}
    clips = store.snapshot(summary.renderer.snapshot).clips
    assert store.format.crop == UPPER
    assert summary.clips == {"train": 4, "val": 1}
    assert [starts[clip.clip_id] for clip in clips if clip.split == "val"] == [4.0]
    assert summary.landmark_generator.snapshot == summary.renderer.snapshot


def test_the_mouth_s_spread_on_the_held_out_end_is_told_before_and_after(finished: FinetuneSettings) -> None:
    of = finetune(finished).landmark_generator
    assert {"l1", "articulation"} <= of.metrics.keys() & of.metrics_at_start.keys()


def test_finished_work_is_returned_at_once_also_from_a_folder_that_moved(finished: FinetuneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train_landmark_generator", "train_renderer", "freeze_snapshot"):
        monkeypatch.delattr(finetune_module, name)
    moved = tmp_path / "moved"
    shutil.copytree(finished.out, moved)
    summary = finetune(finished.replaced(out=str(moved)))
    assert summary.out == str(moved)
    assert summary.renderer.checkpoint == str(moved / "renderer.safetensors")
    assert summary.landmark_generator.metrics == finetune(finished).landmark_generator.metrics


def test_where_nothing_becomes_better_the_start_comes_out_as_it_was(ready: FinetuneSettings, start: Path) -> None:
    wild = run_again(ready, learning_rate=100.0, steps=40, stop_after=1)
    summary = finetune(wild)
    assert summary.unchanged == ("landmark-generator", "renderer")
    for kind, run in (("landmark-generator", summary.landmark_generator), ("renderer", summary.renderer)):
        assert (Path(wild.out) / f"{kind}.safetensors").read_bytes() == (start / f"{kind}.safetensors").read_bytes()
        assert run.metrics == run.metrics_at_start
        assert (run.best_step, run.step, run.stopped_early) == (0, 2, True)


def test_an_interrupted_call_goes_on(ready: FinetuneSettings, finished: FinetuneSettings) -> None:
    class InterruptedHere(KeyboardInterrupt):
        pass

    def until(step: int, title: str) -> Callable[..., None]:
        def progress(done: int, total: int | None = None, note: str = "") -> None:
            if note.startswith(title) and done > step:
                raise InterruptedHere

        return progress

    whole = finetune(finished)
    with pytest.raises(InterruptedHere):
        finetune(ready, until(2, "landmark generator"))
    assert not (Path(ready.out) / "renderer.safetensors").exists()
    with pytest.raises(InterruptedHere):
        finetune(ready, until(2, "renderer"))
    seen: list[tuple[str, int]] = []
    summary = finetune(ready, lambda done, total=None, note="": seen.append((note.partition(":")[0], done)))
    assert [done for title, done in seen if title == "renderer"] == [3, 4]
    assert not [done for title, done in seen if title == "landmark generator"]
    for resumed, undisturbed in ((summary.landmark_generator, whole.landmark_generator), (summary.renderer, whole.renderer)):
        assert resumed.metrics == pytest.approx(undisturbed.metrics, rel=1e-6, abs=1e-6)
        assert resumed.best_step == undisturbed.best_step


def test_without_features_pixels_teach_the_renderer_and_with_them_the_published_recipe(ready: FinetuneSettings, start: Path, tmp_path: Path) -> None:
    snapshot = CorpusStore.open(str(Path(ready.out) / "corpus"))
    frozen = snapshot.snapshot(snapshot.snapshots()[0])
    pixels = finetune_module._renderer_settings(ready, frozen, UPPER)
    assert (pixels.pixel_weight, pixels.warp_weight, pixels.perceptual_weight, pixels.adversarial_weight) == (1.0, 0.0, 0.0, 0.0)
    imported = Path(shutil.copytree(start, tmp_path / "imported"))
    (imported / "renderer.vgg19.safetensors").touch()
    recipe = finetune_module._renderer_settings(ready.replaced(start_from=str(imported)), frozen, UPPER)
    assert (recipe.pixel_weight, recipe.warp_weight, recipe.perceptual_weight, recipe.warm_up_steps) == (0.0, 2.5, 4.0, 0)
    assert recipe.perceptual_weights == str(imported / "renderer.vgg19.safetensors")
    given = finetune_module._renderer_settings(ready.replaced(perceptual_weights="vgg.safetensors"), frozen, UPPER)
    assert given.perceptual_weights == "vgg.safetensors"


@pytest.mark.parametrize(("seconds", "segment_s"), [(2.0, 1.0), (5.0, 1.0), (20.0, 4.0), (300.0, 10.0)])
def test_clips_are_short_enough_that_the_end_is_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, segment_s: float) -> None:
    monkeypatch.setattr(finetune_module, "_durations_s", lambda videos: [1.5, seconds])
    assert finetune_module._segment_s(str(tmp_path / "corpus"), FinetuneSettings(start_from="", out="")) == segment_s


def test_a_video_without_a_face_is_told(settings: FinetuneSettings, tmp_path: Path) -> None:
    nobody = make_talking_clip(tmp_path / "nobody.mp4", seconds=1.0, hidden_frames=range(25))
    said: list[str] = []
    with pytest.raises(MediaError, match=r"nobody\.mp4: no face was found") as told:
        finetune(settings.replaced(videos=(str(nobody),), out=str(tmp_path / "out")), lambda done, total=None, note="": said.append(f"{done}/{total} {note}"))
    assert "\n" not in str(told.value)
    assert "store" not in str(told.value), "whoever adapts to one person has made none"
    assert said[-1] == "1/1 videos cut into clips"


def test_a_video_too_short_to_hold_anything_out_is_told(settings: FinetuneSettings, tmp_path: Path) -> None:
    short = make_talking_clip(tmp_path / "short.mp4", seconds=1.2, size=(320, 320))
    with pytest.raises(StoreError, match=r"short\.mp4 gives too little to hold anything out.* 5 s or more"):
        finetune(settings.replaced(videos=(str(short),), out=str(tmp_path / "out")))


def test_a_start_that_is_not_there_or_does_not_belong_together_is_told(settings: FinetuneSettings, start: Path, tmp_path: Path) -> None:
    elsewhere = settings.replaced(out=str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match=r"has no landmark-generator\.safetensors and no renderer\.safetensors"):
        finetune(elsewhere.replaced(start_from=str(tmp_path)))
    other_crop = write_start(tmp_path / "mixed", landmark_crop=UPPER.replaced(anchor="all-points"))
    with pytest.raises(CheckpointError, match="anchor all-points"):
        finetune(elsewhere.replaced(start_from=str(other_crop)))
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    for kind in ("landmark-generator", "renderer"):
        shutil.copy(start / "renderer.safetensors", swapped / f"{kind}.safetensors")
    with pytest.raises(CheckpointError, match="not of the landmark generator"):
        finetune(elsewhere.replaced(start_from=str(swapped)))
    assert not (tmp_path / "out").exists()


def test_the_landmark_generator_may_have_seen_another_size(settings: FinetuneSettings, tmp_path: Path) -> None:
    start = write_start(tmp_path / "start", UPPER.replaced(size=256), landmark_crop=UPPER)
    assert finetune_module._crop_of_start(settings.replaced(start_from=str(start))) == UPPER.replaced(size=256)


def test_a_folder_of_somebody_else_is_left_alone(finished: FinetuneSettings, start: Path, tmp_path: Path) -> None:
    other = make_talking_clip(tmp_path / "bert.mp4", seconds=1.0)
    before = {path: path.stat().st_mtime_ns for path in Path(finished.out).rglob("*")}
    for changes, said in (
        ({"videos": (str(other),)}, r"adapted to .*anna\.mp4, not to .*bert\.mp4"),
        ({"start_from": str(write_start(tmp_path / "start", UPPER.replaced(padding=0.2)))}, "started from other checkpoints"),
        ({"learning_rate": 0.5}, "learning_rate 0.001, not 0.5"),
    ):
        with pytest.raises(SettingsError, match=said):
            finetune(finished.replaced(**changes))
    assert {path: path.stat().st_mtime_ns for path in Path(finished.out).rglob("*")} == before
    own = shutil.copytree(start, tmp_path / "own")
    with pytest.raises(SettingsError, match=r"of something else already"):
        finetune(finished.replaced(start_from=str(own), out=str(own)))


@pytest.mark.parametrize("videos", [(), ("nothing.mp4",), (".",)])
def test_no_video_is_told(settings: FinetuneSettings, tmp_path: Path, videos: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DubmillError, match=r"give at least one|is not there|no video under"):
        finetune(settings.model_copy(update={"videos": videos, "out": str(tmp_path / "out")}), silent)
