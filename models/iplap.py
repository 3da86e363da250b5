"""Published IP_LAP checkpoints (and LIP_MASK's, of the same format) and how their tensors are named here.

A published checkpoint is a dict with `state_dict` (names may begin with `module.`), `optimizer`, `global_step` and
`global_epoch`. RENAMED is the whole correspondence of names, in both directions; `{...}` stands for the same text on both
sides, one part of a name, or for `{rest}` any number of parts.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from pickle import UnpicklingError  # what torch raises for a file that holds more than weights; nothing is unpickled here
from typing import IO, Any, Literal

import fsspec
import torch
from torch import Tensor, nn

from models.checkpoint import NAMES, save_checkpoint, write_tensors
from models.landmark_generator import LandmarkGenerator
from models.renderer import Renderer
from schemas.checkpoints import CheckpointHeader, Kind, LandmarkGeneratorSize, RendererSize
from schemas.errors import CheckpointError
from schemas.locations import reachable, without_secrets
from schemas.settings import CropSettings

TRAINED_WITH = CropSettings(padding="iplap-train")
"""The crop that the published weights saw in training. The original dubs with another (`iplap-dub`), and the mouth slides."""

DATA_PARALLEL = "module."
"""What training on several GPUs puts before every name."""
VGG19 = "perceptual.model.network."
"""Names of the loss's VGG-19 features, which a published renderer checkpoint carries along."""

Names = tuple[tuple[str, str | None], ...]
"""Pairs of a published name and ours; None where ours is computed and not stored."""

_SPADE_LAYER = (("conv1", "hidden"), ("gamma", "gain"), ("beta", "shift"))
_ADAIN_LAYER = (("mlp_shared.0", "hidden"), ("mlp_gamma", "gain"), ("mlp_beta", "shift"))


def _block_names(published: str, ours: str, layer: str, parts: Iterable[tuple[str, str]]) -> Names:
    """Names of a modulated block: two convolutions, two modulation layers of several parts."""
    numbers = (("1", "first"), ("2", "second"))
    convolutions = ((f"{published}.conv_{n}.{{leaf}}", f"{ours}.{word}_convolution.{{leaf}}") for n, word in numbers)
    modulations = ((f"{published}.{layer}_{n}.{theirs}.{{leaf}}", f"{ours}.{word}_modulation.{part}.{{leaf}}") for n, word in numbers for theirs, part in parts)
    return (*convolutions, *modulations)


def _picture_encoder_names(published: str, ours: str) -> Names:
    """Names of the two convolutions with which both modules of the renderer begin."""
    return tuple(
        pair
        for n, scale in (("1", "fine"), ("2", "coarse"))
        for pair in (
            (f"{published}.conv{n}.{{leaf}}", f"{ours}.{scale}.convolution.{{leaf}}"),
            (f"{published}.conv{n}_bn.{{leaf}}", f"{ours}.{scale}.normalisation.{{leaf}}"),
        )
    )


def _encoder_names(published: str, ours: str) -> Names:
    """Names of an encoder's numbered convolution blocks."""
    return (
        (f"{published}.{{block}}.conv_block.0.{{leaf}}", f"{ours}.{{block}}.convolution.{{leaf}}"),
        (f"{published}.{{block}}.conv_block.1.{{leaf}}", f"{ours}.{{block}}.normalisation.{{leaf}}"),
    )


RENAMED: dict[Kind | Literal["discriminator"], Names] = {
    "landmark-generator": (
        *_encoder_names("mel_encoder", "audio_encoder"),
        *_encoder_names("pose_encoder", "pose_encoder"),
        *_encoder_names("ref_encoder", "face_encoder"),
        ("fusion_transformer.position_v.pe", None),
        ("fusion_transformer.position_a.pe", None),
        ("fusion_transformer.modality.weight", "modality.weight"),
        ("fusion_transformer.transformer_encoder.{rest}", "transformer.{rest}"),
        ("mouse_keypoint_map.{leaf}", "mouth_head.{leaf}"),
        ("jaw_keypoint_map.{leaf}", "jaw_head.{leaf}"),
        ("Norm.{leaf}", "token_normalisation.{leaf}"),
    ),
    "renderer": (
        *_picture_encoder_names("flow_module", "flow.reference_encoder"),
        *_block_names("flow_module.spade_layer_1", "flow.coarse_block_1", "spade_layer", _SPADE_LAYER),
        *_block_names("flow_module.spade_layer_2", "flow.coarse_block_2", "spade_layer", _SPADE_LAYER),
        *_block_names("flow_module.spade_layer_4", "flow.fine_block", "spade_layer", _SPADE_LAYER),
        ("flow_module.conv_4.{leaf}", "flow.flow_head.{leaf}"),
        ("flow_module.conv_5.0.{leaf}", "flow.weight_hidden.{leaf}"),
        ("flow_module.conv_5.2.{leaf}", "flow.weight_head.{leaf}"),
        *_encoder_names("translation.audio_encoder", "translation.audio_encoder"),
        *_picture_encoder_names("translation", "translation.target_encoder"),
        *_block_names("translation.spade_1", "translation.coarse_reference_block", "spade_layer", _SPADE_LAYER),
        *_block_names("translation.adain_1", "translation.coarse_audio_block", "adain_layer", _ADAIN_LAYER),
        *_block_names("translation.spade_2", "translation.fine_reference_block", "spade_layer", _SPADE_LAYER),
        *_block_names("translation.adain_2", "translation.fine_audio_block", "adain_layer", _ADAIN_LAYER),
        *_block_names("translation.spade_4", "translation.face_block", "spade_layer", _SPADE_LAYER),
        ("translation.conv_last.{leaf}", "translation.output_head.{leaf}"),
    ),
    "discriminator": (
        ("scale1_layer{layer}.0.{leaf}", "full_size.{layer}.convolution.{leaf}"),
        ("scale0_layer{layer}.0.{leaf}", "half_size.{layer}.convolution.{leaf}"),
    ),
}


def our_name(kind: Kind | Literal["discriminator"], published: str) -> str | None:
    """Our name of a published tensor; None when ours is computed. KeyError when RENAMED does not know it."""
    for theirs, ours in RENAMED[kind]:
        if match := _pattern(theirs).fullmatch(published):
            return ours and ours.format(**match.groupdict())
    raise KeyError(published)


def published_name(kind: Kind | Literal["discriminator"], ours: str) -> str:
    """The published name of one of our tensors. KeyError when RENAMED does not know it."""
    for theirs, pattern in RENAMED[kind]:
        if pattern and (match := _pattern(pattern).fullmatch(ours)):
            return theirs.format(**match.groupdict())
    raise KeyError(ours)


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{rest\}", r"(?P<rest>.+)")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", escaped))


@dataclass(frozen=True)
class PublishedTensors:
    """What a published checkpoint holds: its tensors by published name, `module.` taken off, and the step it was saved at."""

    tensors: dict[str, Tensor]
    step: int


def import_iplap(pth_path: str, kind: Kind, out_location: str, crop: CropSettings = TRAINED_WITH) -> CheckpointHeader:
    """Turns a published `.pth` checkpoint into one of ours, with header origin "imported".

    A renderer checkpoint that carries VGG-19 features also leaves `<out_location's stem>.vgg19.safetensors` beside it.
    `crop` is what the header says the weights were trained with, and so what they will be used with: 5 px for the published
    ones. Raises CheckpointError when the file is missing, holds more than weights, or is not the published network of `kind`.
    """
    published = read_published_tensors(pth_path)
    _require_published_kind(published, kind, pth_path)
    vgg = {name: tensor for name, tensor in published.tensors.items() if name.startswith(VGG19)}
    architecture = LandmarkGeneratorSize() if kind == "landmark-generator" else RendererSize(size=crop.size)
    network: nn.Module = LandmarkGenerator(architecture) if isinstance(architecture, LandmarkGeneratorSize) else Renderer(architecture)
    fill_from_published(network, kind, {name: tensor for name, tensor in published.tensors.items() if name not in vgg}, pth_path)
    header = CheckpointHeader(
        kind=kind,
        architecture=architecture,
        crop=crop,
        step=published.step,
        origin="imported",
        perceptual_weights="imagenet" if kind == "renderer" else None,
        imported_sha256=_content_hash(pth_path),
    )
    save_checkpoint(out_location, network, header)
    if vgg:
        features = {name.replace(VGG19, "features.", 1): tensor for name, tensor in vgg.items()}
        write_tensors(vgg19_location(out_location), features, {"content": "features of VGG-19, trained on ImageNet"})
    return header


def _content_hash(location: str) -> str:
    with fsspec.open(location, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def vgg19_location(out_location: str) -> str:
    """Where an import to `out_location` leaves the VGG-19 features."""
    return out_location.removesuffix(PurePosixPath(out_location).suffix) + ".vgg19.safetensors"


def fill_from_published(network: nn.Module, kind: Kind | Literal["discriminator"], tensors: dict[str, Tensor], location: str) -> None:
    """Loads tensors of published names into one of our networks of the published size; every one is used, every one of ours filled.

    Raises CheckpointError, naming `location`, when they do not fit.
    """
    renamed: dict[str, Tensor] = {}
    try:
        for name, tensor in tensors.items():
            ours = our_name(kind, name)
            if ours is not None:
                renamed[ours] = tensor
        network.load_state_dict(renamed)
    except KeyError as error:
        raise CheckpointError(f"{location} holds {error.args[0]}, which the published network does not have.") from error
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip().rstrip(". ")
        raise CheckpointError(f"The tensors in {location} are not those of the published network: {fault}.") from error


def read_published_tensors(location: str) -> PublishedTensors:
    """Reads a `.pth` file at a path or URI, weights only: a file that would run code is refused.

    A bare state dict is taken too. Raises CheckpointError when the file is missing, damaged or not a checkpoint.
    """
    try:
        with reachable(location, CheckpointError), fsspec.open(location, "rb") as file:
            content = _loaded(file, location)
    except FileNotFoundError as error:
        raise CheckpointError(f"The checkpoint {without_secrets(location)} is not there.") from error
    except OSError as error:
        raise CheckpointError(without_secrets(f"The checkpoint {location} cannot be read: {error.strerror or error}.")) from error
    return _published_tensors(content, location)


def _loaded(file: IO[bytes], location: str) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(f"{location} is not a checkpoint, or holds more than weights and is refused because it could run code.") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{location} is not a checkpoint that torch can read, or it is cut off.") from error


def _published_tensors(content: Any, location: str) -> PublishedTensors:
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f"{location} holds no state_dict of named tensors, so it is not a published checkpoint.")
    step = content.get("global_step", 0)
    return PublishedTensors({name.removeprefix(DATA_PARALLEL): tensor for name, tensor in state.items()}, step if isinstance(step, int) else 0)


def _require_published_kind(published: PublishedTensors, kind: Kind, location: str) -> None:
    marks: dict[Kind, str] = {"landmark-generator": "fusion_transformer.", "renderer": "flow_module."}
    for other, mark in marks.items():
        if other != kind and any(name.startswith(mark) for name in published.tensors):
            raise CheckpointError(f"{location} is a checkpoint of the {NAMES[other]}, not of the {NAMES[kind]}.")
