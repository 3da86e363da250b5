import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch

from models import LandmarkGenerator, Renderer, load_landmark_generator, load_renderer
from models.checkpoint import read_header, read_tensors, require_same_format, save_checkpoint
from models.iplap import import_iplap
from schemas.checkpoints import CheckpointHeader
from schemas.errors import CheckpointError, StoreError
from schemas.settings import CropSettings, MelSettings


@pytest.fixture
def renderer_header(small_renderer: Renderer) -> CheckpointHeader:
    return CheckpointHeader(
        kind="renderer",
        architecture=small_renderer.size_settings,
        crop=CropSettings(padding=0.1),
        step=12,
        snapshot="first",
        metrics={"warp": 1.5},
        perceptual_weights="seeded-random",
    )


@pytest.fixture
def landmark_header(small_landmark_generator: LandmarkGenerator) -> CheckpointHeader:
    return CheckpointHeader(kind="landmark-generator", architecture=small_landmark_generator.size_settings, crop=CropSettings())


def test_round_trip(small_renderer: Renderer, renderer_header: CheckpointHeader, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "renderer.safetensors"
    save_checkpoint(str(path), small_renderer, renderer_header)
    loaded = load_renderer(str(path))
    assert loaded.header == read_header(str(path)) == renderer_header
    assert loaded.size_settings == small_renderer.size_settings
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in small_renderer.state_dict().items())
    assert [file.name for file in path.parent.iterdir()] == ["renderer.safetensors"]


def test_round_trip_at_a_uri(small_landmark_generator: LandmarkGenerator, landmark_header: CheckpointHeader) -> None:
    location = "memory://models/landmark-generator.safetensors"
    save_checkpoint(location, small_landmark_generator, landmark_header)
    assert load_landmark_generator(location).header == landmark_header
    fsspec.filesystem("memory").rm("models", recursive=True)


def test_the_weights_are_plain_safetensors(small_renderer: Renderer, renderer_header: CheckpointHeader, tmp_path: Path) -> None:
    path = tmp_path / "renderer.safetensors"
    save_checkpoint(str(path), small_renderer, renderer_header)
    with safetensors.safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(small_renderer.state_dict())
        assert json.loads(file.metadata()["dubmill"])["crop"]["padding"] == 0.1


def test_saving_again_replaces(small_renderer: Renderer, renderer_header: CheckpointHeader, tmp_path: Path) -> None:
    path = str(tmp_path / "renderer.safetensors")
    save_checkpoint(path, small_renderer, renderer_header)
    save_checkpoint(path, small_renderer, renderer_header.replaced(step=13))
    assert read_header(path).step == 13


def test_the_other_kind_is_named(
    small_renderer: Renderer,
    renderer_header: CheckpointHeader,
    small_landmark_generator: LandmarkGenerator,
    landmark_header: CheckpointHeader,
    tmp_path: Path,
) -> None:
    save_checkpoint(str(tmp_path / "r.safetensors"), small_renderer, renderer_header)
    save_checkpoint(str(tmp_path / "l.safetensors"), small_landmark_generator, landmark_header)
    with pytest.raises(CheckpointError, match=r"r\.safetensors is a checkpoint of the renderer, not of the landmark generator\."):
        load_landmark_generator(str(tmp_path / "r.safetensors"))
    with pytest.raises(CheckpointError, match=r"l\.safetensors is a checkpoint of the landmark generator, not of the renderer\."):
        load_renderer(str(tmp_path / "l.safetensors"))


def test_weights_of_another_size_are_refused(small_renderer: Renderer, renderer_header: CheckpointHeader, tmp_path: Path) -> None:
    path = str(tmp_path / "renderer.safetensors")
    save_checkpoint(path, small_renderer, renderer_header.replaced(architecture={"width": 32, "size": 128}))
    with pytest.raises(CheckpointError, match="do not fit the sizes in its header"):
        load_renderer(path)


def test_sizes_of_the_other_network_are_refused(
    small_renderer: Renderer, renderer_header: CheckpointHeader, landmark_header: CheckpointHeader, tmp_path: Path
) -> None:
    path = str(tmp_path / "renderer.safetensors")
    save_checkpoint(path, small_renderer, renderer_header.replaced(architecture=landmark_header.architecture))
    with pytest.raises(CheckpointError, match="sizes are those of another network"):
        load_renderer(path)


@pytest.mark.parametrize("content", [b"", b"text", b"A video that is no checkpoint at all", b"\x08\0\0\0\0\0\0\0[1, 2, 3", b"\x07\0\0\0\0\0\0\0[1,2,3]"])
def test_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    for load in (read_header, load_renderer, load_landmark_generator):
        with pytest.raises(CheckpointError, match="is not a safetensors file"):
            load(str(path))


def test_a_cut_off_file_is_refused(small_renderer: Renderer, renderer_header: CheckpointHeader, tmp_path: Path) -> None:
    path = tmp_path / "renderer.safetensors"
    save_checkpoint(str(path), small_renderer, renderer_header)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_renderer(str(path))


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not there"):
        load_renderer(str(tmp_path / "nothing.safetensors"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_renderer(str(tmp_path))
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="has no dubmill header"):
        load_renderer(str(foreign))
    safetensors.torch.save_file({"weight": torch.zeros(1)}, foreign, {"dubmill": '{"kind": "painter"}'})
    with pytest.raises(CheckpointError, match="is not one that this version of dubmill reads"):
        load_renderer(str(foreign))


def test_an_unwritable_place(small_renderer: Renderer, renderer_header: CheckpointHeader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be written"):
        save_checkpoint(str(tmp_path / "file" / "renderer.safetensors"), small_renderer, renderer_header)


def test_another_crop_is_refused(renderer_header: CheckpointHeader) -> None:
    require_same_format(renderer_header, CropSettings(padding=0.1), MelSettings(), "the corpus")
    sentence = r"^The renderer was trained with crop padding 0\.1, anchor upper-face, but the corpus has padding iplap-dub, anchor all-points\.$"
    with pytest.raises(CheckpointError, match=sentence):
        require_same_format(renderer_header, CropSettings(padding="iplap-dub"), MelSettings(), "the corpus")
    with pytest.raises(CheckpointError, match=r"size 128, but the landmark generator has size 256"):
        require_same_format(renderer_header, CropSettings(padding=0.1, size=256), MelSettings(), "the landmark generator")


@pytest.mark.parametrize("read", [read_header, read_tensors, load_renderer, lambda location: import_iplap(location, "renderer", "unused")])
def test_a_place_that_cannot_be_reached_is_one_sentence(read: Callable[[str], object]) -> None:
    for location in ("foo://bucket/weights", "s3://"):
        with pytest.raises(CheckpointError, match=r"^(foo://bucket/weights|s3://) cannot be reached: .*\.$") as caught:
            read(location)
        assert "\n" not in str(caught.value)


def test_weights_for_a_place_that_is_not_known(small_renderer: Renderer, renderer_header: CheckpointHeader) -> None:
    with pytest.raises(StoreError, match=r"^foo://bucket/weights cannot be reached: Protocol not known: foo\.$"):
        save_checkpoint("foo://bucket/weights", small_renderer, renderer_header)
