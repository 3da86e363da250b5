"""Every measure of generated faces beside the real ones: which of them can be taken here, and all of them at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from schemas.face_points import CONTENT_POSITIONS
from schemas.locations import without_secrets
from tasks.evaluation.fid import InceptionFeatures, frechet_distance
from tasks.evaluation.identity import FaceEmbedding, align
from tasks.evaluation.lpips_distance import LpipsDistance
from tasks.evaluation.mouth_landmarks import find_mouths, mouth_distance_px, mouths_are_found
from tasks.evaluation.pictures import details, mouth_insides, psnr, sharpness_ratio, ssim

FloatArray = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]

CONTENT_POINTS = len(CONTENT_POSITIONS)
"""The last of a full face's points."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class FacePoints:
    """Where the real faces of n pictures are; the generated ones belong there too."""

    points: npt.NDArray[np.float32]
    """(n, 2, 131): pose, then content; x then y, 0..1 of the picture"""
    aspects: npt.NDArray[np.float32]
    """(n,) height over width of what each square picture shows"""


class Seen(NamedTuple):
    """What there is in n pictures, generated or real. What cannot be looked at here has no columns."""

    details: FloatArray
    """(n,) see `pictures.details`"""
    mouths: FloatArray
    """(n, 40, 2), or (n, 0)"""
    identities: FloatArray
    """(n, E), or (n, 0)"""
    features: FloatArray
    """(n, 2048) of Inception, or (n, 0)"""


class FaceMeasures:
    """Looks at pictures and compares what it saw. `absent` names what cannot be measured here, each with a sentence that says why.

    The three places of weights are paths or URIs, none is ever downloaded: lpips_weights (AlexNet), fid_weights (Inception of
    pytorch-fid), identity_weights (ONNX face embedding). CheckpointError when one that is given cannot be used.
    finds_mouths: whether FaceMesh looks for mouths in the pictures; who knows already where they are saves its time.
    """

    def __init__(
        self,
        device: torch.device,
        lpips_weights: str | None = None,
        fid_weights: str | None = None,
        identity_weights: str | None = None,
        *,
        finds_mouths: bool = True,
    ) -> None:
        self._finds_mouths = finds_mouths
        self.absent: dict[str, str] = {}
        self._lpips = self._with_weights("lpips", "lpips_weights", lpips_weights, lambda weights: LpipsDistance(weights, device))
        self._inception = self._with_weights("fid", "fid_weights", fid_weights, lambda weights: InceptionFeatures(weights, device))
        self._embedding = self._with_weights("csim", "identity_weights", identity_weights, FaceEmbedding)

    def _with_weights(self, metric: str, setting: str, weights: str | None, make: Callable[[str], Made]) -> Made | None:
        if weights is None:
            self.absent[metric] = f"The setting {setting} names no weights to measure it with."
            return None
        try:
            return make(weights)
        except ImportError as error:
            self.absent[metric] = without_secrets(f"A package that it is measured with is not installed: {error}.")
            return None

    def distances(self, generated: Tensor, real: Tensor) -> dict[str, FloatArray]:
        """psnr (dB), ssim, l1 and lpips of each pair (n,) of pictures (n, 3, S, S) BGR in 0..1."""
        found = {"psnr": psnr(generated, real), "ssim": ssim(generated, real), "l1": (generated - real).abs().flatten(1).mean(1)}
        if self._lpips is not None:
            found["lpips"] = self._lpips(generated, real)
        return {name: values.double().cpu().numpy() for name, values in found.items()}

    def see(self, pictures: Tensor, faces: FacePoints) -> Seen:
        """What there is in pictures (n, 3, S, S) BGR in 0..1, in steps of 1/255 as a video has them."""
        steps = (pictures.clamp(0, 1) * 255).round()
        shown = steps.byte().permute(0, 2, 3, 1).cpu().numpy()
        insides = mouth_insides(faces.points[:, :, -CONTENT_POINTS:], shown.shape[1])
        return Seen(
            details=details(shown, insides),
            mouths=self._mouths(shown),
            identities=self._identities(shown, faces),
            features=nothing(len(shown)) if self._inception is None else self._inception(steps / 255),
        )

    def _mouths(self, pictures: Pictures) -> FloatArray:
        if not self._finds_mouths:
            return nothing(len(pictures))
        try:
            return find_mouths(pictures)
        except ImportError:
            self.absent["mouth_lmd_px"] = "mediapipe, whose FaceMesh finds the mouths, is not installed."
            return nothing(len(pictures))

    def _identities(self, pictures: Pictures, faces: FacePoints) -> FloatArray:
        if self._embedding is None:
            return nothing(len(pictures))
        aligned = (align(*each) for each in zip(pictures, faces.points, faces.aspects.tolist(), strict=True))
        return np.stack([self._embedding(face) for face in aligned]).astype(np.float64)

    def compare(self, generated: Seen, real: Seen, size: int) -> dict[str, float]:
        """What two whole sets of pictures of that size, in the same order, tell.

        mouth_lmd_px, faces_found (share of the real pictures' faces that are found in the generated ones too), mouth_sharpness, fid and csim;
        what cannot be told is left out, and said in `absent`.
        """
        found: dict[str, float | None] = {"mouth_sharpness": sharpness_ratio(generated.details, real.details)}
        found |= self._compare_mouths(generated.mouths, real.mouths, size)
        if real.identities.size:
            found["csim"] = float((generated.identities * real.identities).sum(axis=1).mean())
        if real.features.size:
            found["fid"] = frechet_distance(generated.features, real.features) if len(real.features) > 1 else None
        self.absent |= {name: NOTHING_TO_SEE[name] for name, value in found.items() if value is None}
        return {name: value for name, value in found.items() if value is not None}

    def _compare_mouths(self, generated: FloatArray, real: FloatArray, size: int) -> dict[str, float | None]:
        if not real.size:
            return {}
        shown = mouths_are_found(real)
        distance = mouth_distance_px(generated, real, size)
        if distance is None:
            return {"mouth_lmd_px": None}
        return {"mouth_lmd_px": distance, "faces_found": float(mouths_are_found(generated)[shown].mean())}


NOTHING_TO_SEE = {
    "mouth_sharpness": "In the real pictures no mouth is open wide enough to show anything inside.",
    "mouth_lmd_px": "FaceMesh finds no face in the real pictures.",
    "fid": "One picture has no spread to compare.",
}


def nothing(pictures: int) -> FloatArray:
    """What is seen in pictures where nothing is looked at."""
    return np.empty((pictures, 0))


def joined(parts: Sequence[Seen]) -> Seen:
    """What was seen batch by batch, as one."""
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Seen(*columns)
