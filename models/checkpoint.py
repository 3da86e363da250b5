"""Weights on disk: one safetensors file a network, with a `CheckpointHeader` as JSON in the file's own metadata."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from models.landmark_generator import LandmarkGenerator
from models.renderer import Renderer
from schemas.checkpoints import HEADER_KEY, CheckpointHeader, Kind, LandmarkGeneratorSize, RendererSize
from schemas.errors import CheckpointError, StoreError
from schemas.locations import reachable, without_secrets
from schemas.settings import CropSettings, MelSettings

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header, little-endian, unsigned."""
LONGEST_HEADER_BYTES = 100_000_000
"""The format's own limit; a larger number means that the file is something else."""
HEADER_READ_BYTES = 2**18
"""Fetched with each read of a header from a bucket: the names of a network's tensors are some ten kilobytes."""
NAMES: dict[Kind, str] = {"landmark-generator": "landmark generator", "renderer": "renderer"}

AnySize = TypeVar("AnySize", LandmarkGeneratorSize, RendererSize)
AnyNetwork = TypeVar("AnyNetwork", LandmarkGenerator, Renderer)


def save_checkpoint(location: str, network: nn.Module, header: CheckpointHeader) -> None:
    """Writes the network's weights and its header to a path or URI; a half-written file never has that name.

    Raises StoreError when the place cannot be written.
    """
    write_tensors(location, network.state_dict(), {HEADER_KEY: header.model_dump_json()})


def write_tensors(location: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file whole. Raises StoreError when the place cannot be written.

    The same tensors and metadata give the same bytes as long as there is one key of metadata: several come in no fixed order.
    """
    content = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    try:
        with reachable(location):
            filesystem, path = fsspec.core.url_to_fs(location)
            if "file" in _protocols(filesystem):
                _write_local(Path(path), content)
            else:
                filesystem.pipe_file(path, content)  # object stores show an object when it is whole
    except OSError as error:
        raise StoreError(f"The checkpoint {without_secrets(location)} cannot be written: {error.strerror or error}.") from error


def read_header(location: str) -> CheckpointHeader:
    """The header alone, without reading the weights.

    Raises CheckpointError when the file is missing, is no safetensors file, or is not one of dubmill's.
    """
    try:
        with reachable(location, CheckpointError), _opened(location) as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            content = file.read(length) if length <= LONGEST_HEADER_BYTES else b""
    except OSError as error:
        raise _unreadable(location, error) from error
    return _header(location, content)


def _opened(location: str) -> Any:
    """A file of which only the beginning is read: of a bucket's object fsspec would fetch many megabytes ahead."""
    filesystem, path = fsspec.core.url_to_fs(location)
    return filesystem.open(path, "rb", block_size=HEADER_READ_BYTES)


def read_tensors(location: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU. Raises CheckpointError when it is missing or is none."""
    try:
        with reachable(location, CheckpointError), fsspec.open(location, "rb") as file:
            content = file.read()
    except OSError as error:
        raise _unreadable(location, error) from error
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{location} is not a whole safetensors file; give a checkpoint that dubmill wrote or imported.") from error


def load_landmark_generator(path: str, device: str | torch.device = "cpu") -> LandmarkGenerator:
    """The landmark generator of a checkpoint, in evaluation mode, its header in `.header`.

    Raises CheckpointError when the file is missing, is no checkpoint of dubmill, or is one of another network.
    """
    header = read_header(path)
    network = LandmarkGenerator(_size(header, "landmark-generator", LandmarkGeneratorSize, path))
    network.header = header
    return _filled(network, path).to(device).eval()


def load_renderer(path: str, device: str | torch.device = "cpu") -> Renderer:
    """The renderer of a checkpoint, in evaluation mode, its header in `.header`.

    Raises CheckpointError when the file is missing, is no checkpoint of dubmill, or is one of another network.
    """
    header = read_header(path)
    network = Renderer(_size(header, "renderer", RendererSize, path))
    network.header = header
    return _filled(network, path).to(device).eval()


def require_kind(header: CheckpointHeader, kind: Kind, location: str) -> CheckpointHeader:
    """The header, when it is of that kind; else CheckpointError, naming `location`."""
    if header.kind != kind:
        raise CheckpointError(f"{location} is a checkpoint of the {NAMES[header.kind]}, not of the {NAMES[kind]}.")
    return header


def require_same_format(header: CheckpointHeader, crop: CropSettings, mel: MelSettings, what: str) -> None:
    """CheckpointError unless the weights were trained with this crop and mel; `what` names whose crop and mel they are."""
    for name, trained, given in (("crop", header.crop, crop), ("mel", header.mel, mel)):
        if trained != given:
            raise CheckpointError(f"The {NAMES[header.kind]} was trained with {name} {_listed(trained, given)}, but {what} has {_listed(given, trained)}.")


def _listed(settings: CropSettings | MelSettings, other: CropSettings | MelSettings) -> str:
    """The fields in which two settings differ, as the first has them."""
    values, others = settings.model_dump(), other.model_dump()
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != others[name])


def _header(location: str, content: bytes) -> CheckpointHeader:
    """The header of a dubmill checkpoint from a safetensors file's JSON header."""
    try:
        values: Any = json.loads(content)
        text = values.get("__metadata__", {}).get(HEADER_KEY)
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{location} is not a safetensors file; give a checkpoint that dubmill wrote or imported.") from error
    if text is None:
        raise CheckpointError(f"{location} has no dubmill header; published IP_LAP weights come in by `dubmill checkpoint import`.")
    try:
        return CheckpointHeader.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"The header of {location} is not one that this version of dubmill reads ({fault['loc'][0]}: {fault['msg']}).") from error


def _size(header: CheckpointHeader, kind: Kind, size: type[AnySize], location: str) -> AnySize:
    """The sizes in a header of that kind."""
    require_kind(header, kind, location)
    if not isinstance(header.architecture, size):
        raise CheckpointError(f"{location} says that it is a {NAMES[kind]}, but its sizes are those of another network; the file is damaged.")
    return header.architecture


def _filled(network: AnyNetwork, location: str) -> AnyNetwork:
    try:
        network.load_state_dict(read_tensors(location))
    except RuntimeError as error:
        raise CheckpointError(f"The weights in {location} do not fit the sizes in its header; the file is damaged.") from error
    return network


def _write_local(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _unreadable(location: str, error: OSError) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"The checkpoint {without_secrets(location)} is not there.")
    return CheckpointError(without_secrets(f"The checkpoint {location} cannot be read: {error.strerror or error}."))
