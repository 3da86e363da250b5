"""The two networks at work on one dub: landmark windows and frames in batches (paper 3.1 and 3.2).

Imports with torch and NumPy alone: this is the part that runs on a GPU. What is computed is what the networks give one by one, in the
forms of `models.fast_renderer` and `models.fast_landmark_generator`.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models import LandmarkGenerator, Renderer, load_landmark_generator, load_renderer
from models.checkpoint import read_header, require_kind, require_same_format
from models.fast_landmark_generator import FastLandmarkGenerator
from models.fast_renderer import FastRenderer, KnownReferences, Room
from schemas.checkpoints import CheckpointHeader
from schemas.errors import CheckpointError, SettingsError
from schemas.settings import CropSettings, DubSettings, MelSettings
from tasks import places
from tasks.file_hash import file_hash, versions_of
from tasks.free_memory import available_memory_bytes
from tasks.mel_windows import mel_windows, window_starts
from tasks.published import with_weights_in_use

FloatArray = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]

WINDOW = 5
MIDDLE = 2
"""Of a window of five frames only the middle one is kept: it alone sees as much before as after it."""
WINDOWS_AT_ONCE = 64
"""Landmark windows a batch: enough to fill a CPU or GPU, a few megabytes of input."""
MEMORY_SHARE = 0.5
"""Of the memory that is free when references are set; the rest is for what a convolution library takes besides, and for others."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Networks:
    """Both networks in evaluation mode on one device, the crop they were trained with, and which files they came from."""

    landmark_generator: LandmarkGenerator
    renderer: Renderer
    crop: CropSettings
    device: torch.device
    hashes: dict[str, str]
    """SHA-256 of both weights files, as `landmark_generator` and `renderer`."""
    _fast: dict[tuple[str, torch.dtype, bool], Any] = field(default_factory=dict, repr=False, compare=False)
    """Their fast forms, made when first asked for: dubs that follow each other share them, and what was compiled."""

    @property
    def versions(self) -> dict[str, str]:
        """As `checkpoint_versions`."""
        return versions_of(self.hashes)

    @property
    def snapshots(self) -> dict[str, str]:
        """The snapshot of the corpus that each network was trained on, where its header names one."""
        return _snapshots({"landmark_generator": self.landmark_generator.header, "renderer": self.renderer.header})

    def fast_landmark_generator(self, dtype: torch.dtype) -> FastLandmarkGenerator:
        """The landmark generator for inference."""
        made: FastLandmarkGenerator = self._made(("landmark-generator", dtype, False), lambda: FastLandmarkGenerator.of(self.landmark_generator, dtype))
        return made

    def fast_renderer(self, dtype: torch.dtype, *, compiled: bool) -> FastRenderer:
        """The renderer for inference."""
        made: FastRenderer = self._made(("renderer", dtype, compiled), lambda: _fast_renderer(self.renderer, dtype, compiled=compiled))
        return made

    def _made(self, key: tuple[str, torch.dtype, bool], make: Callable[[], Any]) -> Any:
        if key not in self._fast:
            self._fast[key] = make()
        return self._fast[key]

    @classmethod
    def load(cls, settings: DubSettings) -> "Networks":
        """Loads both checkpoints, once for any number of dubs; in the place of a `current.json` the published weights that it names.

        Raises CheckpointError when one is missing, of the other kind, or when the two were trained with different crops.
        """
        settings = with_weights_in_use(settings)
        device = pick_device(settings.device)
        landmark_generator = load_landmark_generator(settings.landmark_generator, device=str(device))
        renderer = load_renderer(settings.renderer, device=str(device))
        crop = check_headers(settings)
        return cls(landmark_generator, renderer, crop, device, checkpoint_hashes(settings))


def pick_device(wanted: str) -> torch.device:
    """The device that settings name; "auto" takes a GPU where there is one. CheckpointError when there is none to take."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("The networks cannot be put on a GPU: this machine shows none to PyTorch; use device cpu or auto.")
    return torch.device(wanted)


def check_headers(settings: DubSettings) -> CropSettings:
    """The crop that dubbing uses, the renderer's, from the headers of both checkpoints alone.

    Raises CheckpointError when one is missing or of the other kind, when their crops differ, or when they expect another mel
    spectrogram. The size of the face picture may differ: landmarks are shares of the box.
    """
    landmark_generator, renderer = read_header(settings.landmark_generator), read_header(settings.renderer)
    require_kind(landmark_generator, "landmark-generator", settings.landmark_generator)
    require_kind(renderer, "renderer", settings.renderer)
    require_same_format(renderer, renderer.crop, MelSettings(), "dubbing")
    require_same_format(landmark_generator, renderer.crop.replaced(size=landmark_generator.crop.size), MelSettings(), "the renderer it is used with")
    return renderer.crop


def checkpoint_snapshots(settings: DubSettings) -> dict[str, str]:
    """The snapshot that each network was trained on, where its header names one. Raises CheckpointError."""
    return _snapshots({"landmark_generator": read_header(settings.landmark_generator), "renderer": read_header(settings.renderer)})


def _snapshots(headers: dict[str, CheckpointHeader | None]) -> dict[str, str]:
    return {name: header.snapshot for name, header in headers.items() if header is not None and header.snapshot is not None}


def checkpoint_hashes(settings: DubSettings) -> dict[str, str]:
    """The SHA-256 of both weights files. CheckpointError when one is not there."""
    return {"landmark_generator": _hash(settings.landmark_generator), "renderer": _hash(settings.renderer)}


def checkpoint_versions(settings: DubSettings) -> dict[str, str]:
    """The version of both weights files: the first 16 hex digits of the file's SHA-256. CheckpointError when one is not there."""
    return versions_of(checkpoint_hashes(settings))


def _hash(location: str) -> str:
    try:
        with places.local_copy(location) as path:
            return file_hash(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"The checkpoint {location} is not there.") from error


def _fast_renderer(renderer: Renderer, dtype: torch.dtype, *, compiled: bool) -> FastRenderer:
    fast = FastRenderer.of(renderer, dtype)
    if compiled:
        fast.compile(dynamic=False)
    return fast


@functools.cache
def require_compiler(device: torch.device) -> None:
    """SettingsError when torch can compile nothing for this device."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except RuntimeError as error:
        needed = "a C++ compiler and Triton" if device.type == "cuda" else "a C++ compiler"
        raise SettingsError(f"With compile, torch needs {needed}, which this machine has not got or which does not work; give compile: false.") from error


def precision_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number format of fp32, bf16 or fp16. SettingsError for one that the device has no use for."""
    if precision == "fp16" and device.type == "cpu":
        raise SettingsError("precision fp16 is for GPUs; on a CPU give fp32 or bf16.")
    return PRECISIONS[precision]


def free_memory_bytes(device: torch.device) -> int:
    """What the device has left; of a CPU's memory, what the system and a container's limit would give without swapping."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held by torch, used by nothing
        return int(free + reserved)
    return available_memory_bytes()


class Generator:
    """Networks, one person's references, and how to compute: what turns speech and head pose into face pictures."""

    def __init__(
        self,
        networks: Networks,
        precision: str = "fp32",
        *,
        compiled: bool = False,
        memory_share: float = MEMORY_SHARE,
        batch_frames: int | None = None,
    ) -> None:
        """precision: fp32 (exact), bf16, or on a GPU fp16. memory_share, 0..1: of what is free, for frames and references at once.

        batch_frames: frames at once, where not as many as fit. compiled: torch compiles the renderer at the first frames, which takes minutes.
        SettingsError for what the device cannot do.
        """
        self.networks = networks
        self.dtype = precision_dtype(precision, networks.device)
        if compiled:
            require_compiler(networks.device)
        self.frames_at_once = batch_frames or 1
        """Frames that `render` computes together: a batch of a multiple of it wastes nothing."""
        self._compiled = compiled
        self._memory_share = memory_share
        self._batch_frames = batch_frames
        self._references: KnownReferences | None = None
        self._references_at_once = 1
        self._landmark_references: tuple[bytes, torch.Tensor] | None = None

    @torch.inference_mode()
    def speak(self, pose: FloatArray, steps: range, mel: FloatArray, reference_pose: FloatArray, reference_content: FloatArray) -> FloatArray:
        """Mouth and jaw for every step of a run on the 25-frames-a-second timeline.

        pose (n, 2, 74) and references (N, 2, 74), (N, 2, 57): 0..1 of the box. mel (frames, 80). Returns (n, 2, 57).
        A window reaches over the run's ends by repeating its end poses; its sound is the true one, silence outside the speech.
        """
        network = self.networks.fast_landmark_generator(self.dtype)
        with self._exactly():
            references = self._known_landmarks(network, reference_pose, reference_content)
            poses = torch.cat([network.encode_pose(self._tensor(pose[batch])) for batch in _batches(len(steps), WINDOWS_AT_ONCE)])
            audio = torch.cat([self._audio(network, mel, steps, batch) for batch in _batches(len(steps) + 2 * MIDDLE, WINDOWS_AT_ONCE)])
            pieces = [network(*_windows(audio, poses, batch), references).cpu() for batch in _batches(len(steps), WINDOWS_AT_ONCE)]
        content: FloatArray = torch.cat(pieces).numpy()
        return content

    def _known_landmarks(self, network: FastLandmarkGenerator, pose: FloatArray, content: FloatArray) -> torch.Tensor:
        """The encoded references; those of the last call are kept."""
        key = pose.tobytes() + content.tobytes()
        if self._landmark_references is None or self._landmark_references[0] != key:
            self._landmark_references = key, network.encode_references(self._tensor(pose), self._tensor(content))
        return self._landmark_references[1]

    def _audio(self, network: FastLandmarkGenerator, mel: FloatArray, steps: range, batch: npt.NDArray[np.int64]) -> torch.Tensor:
        """Encoded mel windows; the first is that of the step two before the run's first."""
        return network.encode_audio(self._tensor(mel_windows(mel, window_starts(batch + steps.start - MIDDLE))))

    @torch.inference_mode()
    def remember(self, faces: Pictures, sketches: Pictures) -> None:
        """Sets the reference pictures (N, S, S, 3) BGR and their sketches, which all frames of the dub share: encoded once."""
        network = self.networks.fast_renderer(self.dtype, compiled=self._compiled)
        with self._exactly():
            self._references = network.encode_references(self._pictures(faces), self._pictures(sketches))
        memory_bytes = self._memory_share * free_memory_bytes(self.networks.device)
        room = Room.within(memory_bytes, network, faces.shape[1], len(faces), compiled=self._compiled)
        self.frames_at_once, self._references_at_once = self._batch_frames or room.frames, _even_share(len(faces), room.references)

    def expect_at_most(self, frames: int) -> None:
        """Says, after `remember` and before the first `render`, how many frames are ever given at once: no more are then computed together.

        A compiled renderer is compiled for one size of batch and fills each batch up to it, so that a larger one would be work for nothing.
        """
        self.frames_at_once = min(self.frames_at_once, frames)

    def render(self, faces: Pictures, sketches: Pictures, mels: FloatArray) -> Pictures:
        """Face pictures (B, S, S, 3) uint8 BGR from true crops (B, S, S, 3), sketches (B, 5, S, S, 3), mels (B, 1, 80, 16)."""
        if self._references is None:
            raise ValueError("Generator.remember sets the references before frames are rendered")
        pieces = [self._render_batch(self._references, faces[batch], sketches[batch], mels[batch]) for batch in _batches(len(faces), self.frames_at_once)]
        return np.concatenate(pieces)

    @torch.inference_mode()
    def _render_batch(self, references: KnownReferences, faces: Pictures, sketches: Pictures, mels: FloatArray) -> Pictures:
        network, count = self.networks.fast_renderer(self.dtype, compiled=self._compiled), len(faces)
        if self._compiled:  # for one size of batch
            faces, sketches, mels = (_filled_up(values, self.frames_at_once) for values in (faces, sketches, mels))
        targets = self._pictures(sketches)
        with self._exactly():
            warped = network.warp(references, targets, self._references_at_once)
            generated = network.translate(self._pictures(faces), targets, warped, self._tensor(mels))[:count]
        pictures: Pictures = (generated * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pictures

    def _pictures(self, pictures: Pictures) -> torch.Tensor:
        """(..., S, S, 3) uint8 to (..., 3, S, S) float32 in 0..1 on the device."""
        return self._tensor(pictures).movedim(-1, -3).float() / 255

    def _tensor(self, values: npt.NDArray[np.float32] | Pictures) -> torch.Tensor:
        return torch.from_numpy(np.array(values, order="C")).to(self.networks.device)

    def _exactly(self) -> AbstractContextManager[object]:
        """float32 means it: torch would take 10 bits of 23 (TF32) for a GPU's convolutions."""
        if self.networks.device.type == "cuda" and self.dtype is torch.float32:
            return torch.backends.cudnn.flags(enabled=True, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False)
        return nullcontext()


def _batches(count: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count), dtype=np.int64)


def _windows(audio: torch.Tensor, poses: torch.Tensor, batch: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """The windows (B, 5, width) of steps, out of what every step gave: audio reaches over the run's ends, a pose is repeated there."""
    places = torch.from_numpy(batch)[:, None] + torch.arange(WINDOW)
    return audio[places.to(audio.device)], poses[(places - MIDDLE).clamp(0, len(poses) - 1).to(poses.device)]


def _even_share(count: int, most: int) -> int:
    """The largest number of at most `most` that divides `count`: what is compiled is compiled for one number."""
    return next(number for number in range(min(count, most), 0, -1) if count % number == 0)


def _filled_up(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """The values with the last one repeated until there are so many."""
    return values[np.minimum(np.arange(count), len(values) - 1)]
