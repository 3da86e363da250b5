"""What a person may hand in by mistake: each is one clear sentence, exit code 1, and nothing half-written is left."""

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch

from dubmill import main
from models import LandmarkGenerator, Renderer
from models.checkpoint import save_checkpoint
from models.landmark_generator import PRESETS as LANDMARK_GENERATOR_PRESETS
from models.renderer import PRESETS as RENDERER_PRESETS
from schemas.checkpoints import CheckpointHeader
from schemas.settings import CropSettings
from tests.footage import make_speech, make_talking_clip
from tests.test_dubmill import assert_one_sentence

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def dubmill(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line within this process: to start one for each mistake would take most of the time. `tests/test_dubmill.py` starts them."""

    def run(*words: object) -> CompletedProcess[str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["dubmill", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return CompletedProcess(sys.argv, int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, speech, untrained networks, and things that are not what their names say."""
    folder = tmp_path_factory.mktemp("bad input")
    make_talking_clip(folder / "clip.mp4", seconds=1.0)
    make_talking_clip(folder / "mute.mp4", seconds=0.4, sound=False)
    make_speech(folder / "speech.wav", seconds=0.4)
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    (folder / "text.wav").write_text("This is not a sound.\n" * 50)
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 300, 3), 127, np.uint8))
    save_networks(folder, CropSettings())
    return folder


def save_networks(folder: Path, crop: CropSettings) -> None:
    torch.manual_seed(0)
    landmark_generator = LandmarkGenerator(LANDMARK_GENERATOR_PRESETS["small"])
    renderer = Renderer(RENDERER_PRESETS["small"])
    for name, network in (("landmark-generator", landmark_generator), ("renderer", renderer)):
        header = CheckpointHeader(kind=name, architecture=network.size_settings, crop=crop)
        save_checkpoint(str(folder / f"{name}.safetensors"), network, header)


@pytest.fixture
def dub(dubmill: Command, folder: Path) -> Command:
    def run(video: str, speech: str, out: Path | None = None, **weights: Path) -> CompletedProcess[str]:
        given = {kind: weights.get(kind.replace("-", "_"), folder / f"{kind}.safetensors") for kind in ("landmark-generator", "renderer")}
        options = [word for kind, location in given.items() for word in (f"--{kind}", location)]
        return dubmill("dub", folder / video, folder / speech, "--out", out or folder / "out" / "dub.mp4", *options, "--references", 3)

    return run


@pytest.mark.parametrize(
    ("video", "speech", "words"),
    [
        ("absent.mp4", "speech.wav", ["absent.mp4"]),
        ("clip.mp4", "absent.wav", ["absent.wav"]),
        ("text.mp4", "speech.wav", ["text.mp4"]),
        ("clip.mp4", "text.wav", ["text.wav"]),
        ("wall.png", "speech.wav", ["wall.png", "face"]),
        ("clip.mp4", "mute.mp4", ["mute.mp4", "sound"]),
        ("clip.mp4", "wall.png", ["wall.png", "sound"]),
        (".", "speech.wav", ["folder"]),
    ],
)
def test_media_that_cannot_be_dubbed(dub: Command, folder: Path, video: str, speech: str, words: list[str]) -> None:
    assert_one_sentence(dub(video, speech), *words)
    assert [path for path in (folder / "out").rglob("*") if path.is_file()] == []


def test_an_output_that_cannot_be_written(dub: Command, folder: Path) -> None:
    assert_one_sentence(dub("clip.mp4", "speech.wav", out=folder / "speech.wav" / "dub.mp4"), "dub.mp4")
    assert_one_sentence(dub("clip.mp4", "speech.wav", out=folder), "cannot be written")


def test_checkpoints_mixed_up(dub: Command, folder: Path) -> None:
    run = dub("clip.mp4", "speech.wav", renderer=folder / "landmark-generator.safetensors")
    assert_one_sentence(run, "is a checkpoint of the landmark generator, not of the renderer")


def test_a_checkpoint_that_is_none(dub: Command, folder: Path) -> None:
    assert_one_sentence(dub("clip.mp4", "speech.wav", renderer=folder / "text.mp4"), "text.mp4")


def test_checkpoints_of_two_crops(dub: Command, tmp_path: Path) -> None:
    save_networks(tmp_path, CropSettings(padding=0.2))
    run = dub("clip.mp4", "speech.wav", renderer=tmp_path / "renderer.safetensors")
    assert_one_sentence(run, "crop", "padding 0.2")


def test_a_store_of_another_format(dubmill: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wide.yaml").write_text("crop: {padding: 0.2}\n")
    assert dubmill("ingest", tmp_path / "empty", "--store", tmp_path / "store").returncode == 0
    run = dubmill("ingest", tmp_path / "empty", "--store", tmp_path / "store", "--settings", tmp_path / "wide.yaml")
    assert_one_sentence(run, "store", "padding")


def test_missing_footage(dubmill: Command, tmp_path: Path) -> None:
    assert_one_sentence(dubmill("ingest", tmp_path / "nowhere", "--store", tmp_path / "store"), "nowhere")
    assert not (tmp_path / "store").exists()


def test_a_published_checkpoint_that_is_none(dubmill: Command, folder: Path, tmp_path: Path) -> None:
    run = dubmill("checkpoint", "import", folder / "text.mp4", "--kind", "renderer", "--out", tmp_path / "renderer.safetensors")
    assert_one_sentence(run, "text.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_job_list_with_faults_is_refused_whole(dubmill: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("job_id,video,speech,out\n1,a.mp4,a.wav,a.mp4\n1,b.mp4,b.wav,b.mp4\n3,,c.wav,c.mp4\n")
    run = dubmill(
        *("bulk-dub", tmp_path / "jobs.csv", "--out", tmp_path / "dubs"),
        *("--landmark-generator", folder / "landmark-generator.safetensors", "--renderer", folder / "renderer.safetensors"),
    )
    assert_one_sentence(run, "job_id", "video")
    assert not (tmp_path / "dubs").exists()


def test_a_video_that_dubmill_did_not_make_says_nothing_of_itself(dubmill: Command, folder: Path) -> None:
    assert_one_sentence(dubmill("inspect", folder / "clip.mp4"), "clip.mp4")


def test_a_report_of_nothing(dubmill: Command, tmp_path: Path) -> None:
    for kind in ("corpus", "training", "dubs"):
        assert_one_sentence(dubmill("report", kind, tmp_path / "nowhere", "--html", tmp_path / "page.html"), "nowhere")
    assert list(tmp_path.iterdir()) == []
