"""The two networks at work on one dub: landmark windows and frames in batches (paper 3.1 and 3.2).

Imports with torch and NumPy alone: this is the part that runs on a GPU.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models import LandmarkGenerator, Renderer, load_landmark_generator, load_renderer
from models.checkpoint import read_header, require_kind, require_same_format
from models.renderer import EncodedReferences
from schemas.errors import CheckpointError
from schemas.settings import CropSettings, DubSettings, MelSettings
from tasks import places
from tasks.file_hash import file_hash
from tasks.mel_windows import mel_windows, window_starts
from tasks.published import with_weights_in_use

FloatArray = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]

WINDOW = 5
MIDDLE = 2
"""Of a window of five frames only the middle one is kept: it alone sees as much before as after it."""
WINDOWS_AT_ONCE = 64
"""Landmark windows a batch: enough to fill a CPU or GPU, a few megabytes of input."""


@dataclass(frozen=True)
class Networks:
    """Both networks in evaluation mode on one device, the crop they were trained with, and which files they came from."""

    landmark_generator: LandmarkGenerator
    renderer: Renderer
    crop: CropSettings
    device: torch.device
    versions: dict[str, str]

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
        return cls(landmark_generator, renderer, crop, device, checkpoint_versions(settings))


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


def checkpoint_versions(settings: DubSettings) -> dict[str, str]:
    """The version of both weights files: the first 16 hex digits of the file's SHA-256. CheckpointError when one is not there."""
    return {"landmark_generator": _version(settings.landmark_generator), "renderer": _version(settings.renderer)}


def _version(location: str) -> str:
    try:
        with places.local_copy(location) as path:
            return file_hash(path)[:16]
    except FileNotFoundError as error:
        raise CheckpointError(f"The checkpoint {location} is not there.") from error


class Generator:
    """Networks, one person's references, and how to compute: what turns speech and head pose into face pictures."""

    def __init__(self, networks: Networks, precision: str = "fp32") -> None:
        self.networks = networks
        self._bf16 = precision == "bf16"
        self._references: EncodedReferences | None = None

    @torch.inference_mode()
    def speak(self, pose: FloatArray, steps: range, mel: FloatArray, reference_pose: FloatArray, reference_content: FloatArray) -> FloatArray:
        """Mouth and jaw for every step of a run on the 25-frames-a-second timeline.

        pose (n, 2, 74) and references (N, 2, 74), (N, 2, 57): 0..1 of the box. mel (frames, 80). Returns (n, 2, 57).
        A window reaches over the run's ends by repeating its end poses; its sound is the true one, silence outside the speech.
        """
        pieces = [
            self._speak_batch(pose, steps, batch, mel, self._tensor(reference_pose), self._tensor(reference_content))
            for batch in _batches(len(steps), WINDOWS_AT_ONCE)
        ]
        return np.concatenate(pieces)

    def _speak_batch(
        self, pose: FloatArray, steps: range, batch: npt.NDArray[np.int64], mel: FloatArray, pose_references: torch.Tensor, content_references: torch.Tensor
    ) -> FloatArray:
        windows = batch[:, None] + np.arange(WINDOW) - MIDDLE
        poses = pose[np.clip(windows, 0, len(pose) - 1)]
        mels = mel_windows(mel, window_starts((windows + steps.start).ravel())).reshape(*windows.shape, 1, mel.shape[1], -1)
        with self._autocast():  # references as a batch of one: encoded once, not once a window
            content = self.networks.landmark_generator(self._tensor(mels), self._tensor(poses), pose_references[None], content_references[None])
        kept: FloatArray = content.reshape(len(batch), WINDOW, 2, -1)[:, MIDDLE].float().cpu().numpy()
        return kept

    @torch.inference_mode()
    def remember(self, faces: Pictures, sketches: Pictures) -> None:
        """Sets the reference pictures (N, S, S, 3) BGR and their sketches, which all frames of the dub share: encoded once."""
        with self._autocast():
            self._references = self.networks.renderer.encode_references(self._pictures(faces)[None], self._pictures(sketches)[None])

    @torch.inference_mode()
    def render(self, faces: Pictures, sketches: Pictures, mels: FloatArray) -> Pictures:
        """Face pictures (B, S, S, 3) uint8 BGR from true crops (B, S, S, 3), sketches (B, 5, S, S, 3), mels (B, 1, 80, 16)."""
        if self._references is None:
            raise ValueError("Generator.remember sets the references before frames are rendered")
        renderer, targets = self.networks.renderer, self._pictures(sketches)
        with self._autocast():
            warped = renderer.warp(self._references, targets)
            generated = renderer.translate(self._pictures(faces), targets, warped, self._tensor(mels))
        pictures: Pictures = (generated.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pictures

    def _pictures(self, pictures: Pictures) -> torch.Tensor:
        """(..., S, S, 3) uint8 to (..., 3, S, S) float32 in 0..1 on the device."""
        return self._tensor(pictures).movedim(-1, -3).float() / 255

    def _tensor(self, values: npt.NDArray[np.float32] | Pictures) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.networks.device)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.networks.device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()


def _batches(count: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count), dtype=np.int64)
