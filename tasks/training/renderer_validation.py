"""How good a renderer is, on fixed samples of the validation split; a picture of some of them, and a stretch of a clip rendered frame by frame."""

import functools
import logging
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from schemas.settings import RendererTraining
from tasks.evaluation.face_measures import FaceMeasures, FacePoints, Seen, joined
from tasks.evaluation.fid import POOL3
from tasks.evaluation.lips import outer_opening
from tasks.evaluation.mouth_landmarks import mouths_are_found
from tasks.faces.references import reference_frames
from tasks.training.footage import WINDOW, Footage
from tasks.training.rendered_stretch import longest_stretch, real_beside_generated
from tasks.training.sample_sheet import sample_sheet
from tasks.training.samples import Pictures, RendererBatch, RendererSamples, to_device
from tasks.training.validation import VALIDATION_SEED, Picture, Preview, Validation
from tasks.training.windows import choose_windows

LOG = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

SAMPLES_AT_ONCE = 16
"""Bounds memory, changes no number."""
SHEET_SAMPLES = 4
"""Samples in the picture of a validation, from the most closed mouth to the most open."""


MOST_TELLING_FIRST = ("psnr", "mouth_lmd_px", "ssim", "lpips", "fid", "csim", "mouth_sharpness", "faces_found", "l1", "warp_l1")


class RendererValidation(Validation):
    """Measures a renderer on a split, always on the same samples, whatever the run's seed.

    psnr (dB), ssim, l1 (0..1), warp_l1 (of the warped references), mouth_lmd_px (where FaceMesh sees the mouth, pixels of the picture),
    faces_found, mouth_sharpness (of the mouth's inside, generated over real), and with weights that the settings name lpips, fid and csim.
    fid is pooled over all samples: over the 64 of the settings' default it only ranks checkpoints of one split, see `tasks.evaluation.fid`.
    The network is left in evaluation mode.
    """

    def __init__(self, footage: Footage, pictures: Pictures, settings: RendererTraining, device: torch.device) -> None:
        self.footage = footage
        self.device = device
        self.size = settings.size
        self._pictures = pictures
        self._wanted = settings.validation_samples
        self._samples = RendererSamples(footage, settings.references, settings.size, pictures)
        windows = choose_windows(footage, VALIDATION_SEED, 0, self._wanted, settings.references)
        self._rows = footage.first_frame[windows.clips] + windows.starts + WINDOW // 2
        self._weights = (settings.lpips_weights, settings.fid_weights, settings.identity_weights)
        self._real: Seen | None = None

    @functools.cached_property
    def _measures(self) -> FaceMeasures:
        """Loaded when first needed: of several workers one measures."""
        measures = FaceMeasures(self.device, *self._weights)
        if "fid" not in measures.absent and len(self._rows) < POOL3:
            LOG.warning("FID is of %d pictures: it ranks checkpoints of this split, and compares with nobody else's figures.", len(self._rows))
        return measures

    @property
    def absent(self) -> Mapping[str, str]:
        """Metrics that are not measured, and why."""
        return self._measures.absent

    @torch.no_grad()
    def measure(self, network: nn.Module) -> dict[str, float]:
        """The metrics, most telling first."""
        network.eval()
        distances: list[dict[str, FloatArray]] = []
        generated_seen, real_seen = [], []
        for batch, faces in self._batches():
            generated, warped = self._render(network, batch)
            distances.append(self._measures.distances(generated, batch.face) | {"warp_l1": _l1(warped, batch.face)})
            generated_seen.append(self._measures.see(generated, faces))
            if self._real is None:
                real_seen.append(self._measures.see(batch.face, faces))
        if self._real is None:
            self._real = _remembered(joined(real_seen))
        means = {name: float(np.concatenate([part[name] for part in distances]).mean()) for name in distances[0]}
        found = means | self._measures.compare(joined(generated_seen), self._real, self.size)
        return {name: found[name] for name in MOST_TELLING_FIRST if name in found}

    @torch.no_grad()
    def picture(self, network: nn.Module) -> Picture:
        """Some samples, a row each, from the most closed mouth to the most open: see `sample_sheet`."""
        network.eval()
        content = self.footage.content[self._rows]
        chosen = np.unique(reference_frames(outer_opening(content), SHEET_SAMPLES))
        by_opening = chosen[np.argsort(outer_opening(content[chosen]), kind="stable")]
        singles = [self._batch(sample, len(content)) for sample in by_opening.tolist()]
        batch = RendererBatch(*(torch.cat(tensors) for tensors in zip(*singles, strict=True)))
        generated, warped = self._render(network, batch)
        return sample_sheet((batch.reference_faces[:, 0], warped, generated, batch.face), content[by_opening])

    @torch.no_grad()
    def preview(self, network: nn.Module) -> Preview | None:
        """A stretch of the longest clip with its own landmarks, real beside generated, as dubbing renders it; None where no clip is long enough."""
        network.eval()
        stretch = longest_stretch(self.footage, self.device)
        if stretch is None:
            return None
        frames = real_beside_generated(network, stretch, self._pictures, self.size, self.device)
        first = stretch.frames.start + int(self.footage.sound_shift[stretch.clip])
        return Preview(frames, self.footage.batches[stretch.clip], self.footage.clip_ids[stretch.clip], first)

    def _batches(self) -> Iterator[tuple[RendererBatch, FacePoints]]:
        """All samples, SAMPLES_AT_ONCE or fewer at a time, and where their faces are."""
        parts = -(-len(self._rows) // SAMPLES_AT_ONCE)
        for part, rows in enumerate(np.array_split(self._rows, parts)):
            points = np.concatenate([self.footage.pose[rows], self.footage.content[rows]], axis=2)
            sizes = self.footage.boxes[rows, 2:] - self.footage.boxes[rows, :2]
            yield self._batch(part, parts), FacePoints(points, sizes[:, 1] / sizes[:, 0])

    def _batch(self, part: int, parts: int) -> RendererBatch:
        """One of so many parts of all samples, cut as workers' shares are."""
        batch = self._samples.batch(VALIDATION_SEED, 0, self._wanted, rank=part, world_size=parts)
        return to_device(batch, self.device).unit_pictures()

    def _render(self, network: nn.Module, batch: RendererBatch) -> tuple[Tensor, Tensor]:
        generated, warped = network(batch.face, batch.sketches, batch.reference_faces, batch.reference_sketches, batch.mel)
        return generated.float(), warped.float()


def _l1(warped: Tensor, real: Tensor) -> FloatArray:
    distances: FloatArray = (warped - real).abs().flatten(1).mean(1).double().cpu().numpy()
    return distances


def _remembered(real: Seen) -> Seen:
    """What there is in the real pictures, which never change; says how many of their faces are not found."""
    if real.mouths.size:
        found = mouths_are_found(real.mouths)
        if found.any() and not found.all():
            LOG.warning("In %d of %d real pictures FaceMesh finds no face: the mouth's distance is of the others.", int((~found).sum()), len(found))
    return real
