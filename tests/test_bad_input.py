"""What a person may hand in by mistake: each is one clear sentence, exit code 1, and nothing half-written is left."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models import LandmarkGenerator, Renderer
from models.checkpoint import save_checkpoint
from models.landmark_generator import PRESETS as LANDMARK_GENERATOR_PRESETS
from models.renderer import PRESETS as RENDERER_PRESETS
from schemas.checkpoints import CheckpointHeader
from schemas.settings import CropSettings
from tests.footage import make_speech, make_talking_clip
from tests.test_dubmill import assert_one_sentence, dubmill


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


def dub(folder: Path, video: str, speech: str, out: Path | None = None, **weights: Path):
    landmark_generator = weights.get("landmark_generator", folder / "landmark-generator.safetensors")
    renderer = weights.get("renderer", folder / "renderer.safetensors")
    out = out or folder / "out" / "dub.mp4"
    return dubmill("dub", folder / video, folder / speech, "--out", out, "--landmark-generator", landmark_generator, "--renderer", renderer, "--references", 3)


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
def test_media_that_cannot_be_dubbed(folder: Path, video: str, speech: str, words: list[str]) -> None:
    assert_one_sentence(dub(folder, video, speech), *words)
    assert [path for path in (folder / "out").rglob("*") if path.is_file()] == []


def test_an_output_that_cannot_be_written(folder: Path) -> None:
    assert_one_sentence(dub(folder, "clip.mp4", "speech.wav", out=folder / "speech.wav" / "dub.mp4"), "dub.mp4")
    assert_one_sentence(dub(folder, "clip.mp4", "speech.wav", out=folder), "cannot be written")


def test_checkpoints_mixed_up(folder: Path) -> None:
    run = dub(folder, "clip.mp4", "speech.wav", renderer=folder / "landmark-generator.safetensors")
    assert_one_sentence(run, "is a checkpoint of the landmark generator, not of the renderer")


def test_a_checkpoint_that_is_none(folder: Path) -> None:
    assert_one_sentence(dub(folder, "clip.mp4", "speech.wav", renderer=folder / "text.mp4"), "text.mp4")


def test_checkpoints_of_two_crops(folder: Path, tmp_path: Path) -> None:
    save_networks(tmp_path, CropSettings(padding=0.2))
    run = dub(folder, "clip.mp4", "speech.wav", renderer=tmp_path / "renderer.safetensors")
    assert_one_sentence(run, "crop", "padding 0.2")


def test_a_store_of_another_format(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wide.yaml").write_text("crop: {padding: 0.2}\n")
    assert dubmill("ingest", tmp_path / "empty", "--store", tmp_path / "store").returncode == 0
    run = dubmill("ingest", tmp_path / "empty", "--store", tmp_path / "store", "--settings", tmp_path / "wide.yaml")
    assert_one_sentence(run, "store", "padding")


def test_missing_footage(tmp_path: Path) -> None:
    assert_one_sentence(dubmill("ingest", tmp_path / "nowhere", "--store", tmp_path / "store"), "nowhere")
    assert not (tmp_path / "store").exists()


def test_a_published_checkpoint_that_is_none(folder: Path, tmp_path: Path) -> None:
    run = dubmill("checkpoint", "import", folder / "text.mp4", "--kind", "renderer", "--out", tmp_path / "renderer.safetensors")
    assert_one_sentence(run, "text.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_job_list_with_faults_is_refused_whole(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("job_id,video,speech,out\n1,a.mp4,a.wav,a.mp4\n1,b.mp4,b.wav,b.mp4\n3,,c.wav,c.mp4\n")
    run = dubmill(
        *("bulk-dub", tmp_path / "jobs.csv", "--out", tmp_path / "dubs"),
        *("--landmark-generator", folder / "landmark-generator.safetensors", "--renderer", folder / "renderer.safetensors"),
    )
    assert_one_sentence(run, "job_id", "video")
    assert not (tmp_path / "dubs").exists()


def test_a_video_that_dubmill_did_not_make_says_nothing_of_itself(folder: Path) -> None:
    assert_one_sentence(dubmill("inspect", folder / "clip.mp4"), "clip.mp4")


def test_a_report_of_nothing(tmp_path: Path) -> None:
    for kind in ("corpus", "training", "dubs"):
        assert_one_sentence(dubmill("report", kind, tmp_path / "nowhere", "--html", tmp_path / "page.html"), "nowhere")
    assert list(tmp_path.iterdir()) == []
