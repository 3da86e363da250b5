import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import LandmarkGenerator, Renderer, landmark_generator, renderer
from models.checkpoint import read_header, read_tensors
from models.discriminator import Discriminator
from models.iplap import import_iplap, our_name, published_name
from schemas.checkpoints import RendererSize
from schemas.errors import CheckpointError
from schemas.settings import CropSettings

NETWORKS: list[tuple[str, str, Callable[[], nn.Module]]] = [
    ("landmark-generator", "landmark_generator", lambda: LandmarkGenerator(landmark_generator.PRESETS["published"])),
    ("renderer", "renderer", lambda: Renderer(renderer.PRESETS["published"])),
    ("discriminator", "discriminator", Discriminator),
]


@pytest.mark.parametrize(("kind", "published", "make"), NETWORKS)
def test_names_and_shapes_correspond_in_both_directions(
    kind: str, published: str, make: Callable[[], nn.Module], published_shapes: dict[str, dict[str, list[int]]]
) -> None:
    theirs = published_shapes[published]
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in make().state_dict().items()}
    renamed = {our_name(kind, name): shape for name, shape in theirs.items() if our_name(kind, name) is not None}  # type: ignore[arg-type]
    assert renamed == ours
    stored = {published_name(kind, name) for name in ours}  # type: ignore[arg-type]
    assert set(theirs) - stored <= {"fusion_transformer.position_v.pe", "fusion_transformer.position_a.pe"}
    assert stored <= set(theirs)


def test_an_unknown_name_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        our_name("renderer", "flow_module.conv_6.weight")
    with pytest.raises(KeyError):
        published_name("renderer", "flow.extra.weight")


def test_header_of_an_import(imported_landmark_generator: Path, imported_renderer: Path, landmark_generator_pth: Path) -> None:
    header = read_header(str(imported_landmark_generator))
    assert (header.kind, header.origin, header.step) == ("landmark-generator", "imported", 610000)
    assert header.crop == CropSettings(padding="iplap-train")
    assert header.perceptual_weights is None
    assert header.imported_sha256 == hashlib.sha256(landmark_generator_pth.read_bytes()).hexdigest()
    assert read_header(str(imported_renderer)).perceptual_weights == "imagenet"


def test_with_and_without_the_module_prefix(landmark_generator_pth: Path, imported_landmark_generator: Path, tmp_path: Path) -> None:
    state = torch.load(landmark_generator_pth, weights_only=True)["state_dict"]
    prefixed = tmp_path / "prefixed.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "optimizer": None, "global_step": 1, "global_epoch": 0}, prefixed)
    out = tmp_path / "out.safetensors"
    import_iplap(str(prefixed), "landmark-generator", str(out))
    without, with_prefix = read_tensors(str(imported_landmark_generator)), read_tensors(str(out))
    assert without.keys() == with_prefix.keys()
    assert all(torch.equal(without[name], with_prefix[name]) for name in without)
    assert not (tmp_path / "out.vgg19.safetensors").exists()


def test_a_renderer_brings_its_vgg19(imported_renderer: Path, renderer_pth: Path) -> None:
    features = read_tensors(str(imported_renderer.with_name("renderer.vgg19.safetensors")))
    state = torch.load(renderer_pth, weights_only=True)["state_dict"]
    assert len(features) == 32
    assert torch.equal(features["features.34.bias"], state["module.perceptual.model.network.34.bias"])


def test_a_renderer_without_vgg19_and_for_another_crop(published_state: Callable[[str], dict[str, Tensor]], tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save(published_state("renderer"), path)
    header = import_iplap(str(path), "renderer", str(tmp_path / "renderer.safetensors"), crop=CropSettings(padding="iplap-dub", size=256))
    assert header.crop.padding == "iplap-dub"
    assert header.architecture == RendererSize(size=256)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bare.pth", "renderer.safetensors"]


class Poison:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "code-ran"
    path = tmp_path / "poison.pth"
    torch.save({"state_dict": Poison(mark)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        import_iplap(str(path), "renderer", str(tmp_path / "out.safetensors"))
    path.write_bytes(pickle.dumps(Poison(mark), protocol=2))
    with pytest.raises(CheckpointError):
        import_iplap(str(path), "renderer", str(tmp_path / "out.safetensors"))
    assert [file.name for file in tmp_path.iterdir()] == ["poison.pth"]


def one_sentence(error: pytest.ExceptionInfo[CheckpointError]) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text


def test_the_other_kind_is_named(landmark_generator_pth: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a checkpoint of the landmark generator, not of the renderer") as error:
        import_iplap(str(landmark_generator_pth), "renderer", str(tmp_path / "out.safetensors"))
    assert one_sentence(error)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not there"),
        (b"", "is not a checkpoint"),
        (b"no checkpoint at all", "is not a checkpoint"),
        ({"state_dict": {}}, "holds no state_dict"),
        ([1, 2], "holds no state_dict"),
        ({"state_dict": {"surprise.weight": torch.zeros(1)}}, "holds surprise.weight"),
        ({"state_dict": {"Norm.weight": torch.zeros(512)}}, "are not those of the published network"),
        ({"state_dict": {"Norm.weight": torch.zeros(3)}}, "are not those of the published network"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_sentence(content: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "given.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=sentence) as error:
        import_iplap(str(path), "landmark-generator", str(tmp_path / "out.safetensors"))
    assert one_sentence(error)


def test_a_cut_off_file(landmark_generator_pth: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(landmark_generator_pth.read_bytes()[:1_000_000])
    with pytest.raises(CheckpointError) as error:
        import_iplap(str(path), "landmark-generator", str(tmp_path / "out.safetensors"))
    assert one_sentence(error)
