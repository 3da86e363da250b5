"""Training of the renderer (paper 3.2; contract: Training): first the warp alone, then perceptual, adversarial and feature matching losses too."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from models.discriminator import Discriminator
from models.losses import Features, PerceptualLoss, adversarial_loss, discriminator_loss, feature_matching_loss
from models.renderer import PRESETS, Renderer
from schemas.errors import SettingsError
from schemas.jobs import TrainingSummary
from schemas.settings import RendererTraining
from tasks.progress import Progress, silent
from tasks.training.corpus import Corpus, open_corpus
from tasks.training.footage import Footage
from tasks.training.loop import Trainer, TrainingRun
from tasks.training.samples import RendererBatch, RendererSamples
from tasks.training.session import Session, one_process
from tasks.training.state import read_finished, saved_run_to_resume

KIND: Final = "renderer"
DISCRIMINATOR_BETAS = (0.5, 0.999)
WARM_UP, ALL_LOSSES = 1.0, 2.0
"""The two phases, as `phase` in the metrics."""
PICTURE_ROWS = 4
"""Samples in the picture of a validation."""


class RendererTrainer(Trainer[RendererBatch]):
    """The renderer against a discriminator, with Adam for both.

    An epoch is one window of each training clip, as in the original. Until `warm_up_epochs` (the original's gate opens with
    its 27th epoch, index above 25) the warp alone is learnt; the discriminator, which would judge a generator that does not learn yet,
    waits as well.
    """

    kind = KIND

    def __init__(self, settings: RendererTraining, corpus: Corpus, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.architecture = PRESETS[settings.preset].replaced(size=settings.size)
        self.network = Renderer(self.architecture).to(device)
        self.discriminator = Discriminator().to(device)
        if not (settings.warp_weight or settings.pixel_weight):
            raise SettingsError("There is nothing to learn the warp from: give warp_weight or pixel_weight a value above 0.")
        uses_features = settings.warp_weight or settings.perceptual_weight
        self.perceptual = PerceptualLoss(settings.perceptual_weights).to(device) if uses_features else None
        self.perceptual_source = self.perceptual.source if self.perceptual else None
        self.networks = {"network": self.network, "discriminator": self.discriminator}
        self.optimizers = {
            "network": torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), lr=settings.learning_rate, betas=DISCRIMINATOR_BETAS),
        }
        self.samples = self._samples(corpus, corpus.lessons.train)
        self.validation_samples = self._samples(corpus, corpus.lessons.validation)

    def _samples(self, corpus: Corpus, footage: Footage) -> RendererSamples:
        return RendererSamples(footage, self.settings.references, self.settings.size, corpus.store.face_picture)

    def backward(self, batch: RendererBatch, epochs: float, share: float) -> dict[str, torch.Tensor]:
        """Losses of the phase that `epochs` is in: those of the warped references, then also those of the generated faces and the discriminator's own."""
        batch = batch.unit_pictures()
        warming_up = epochs < self.settings.warm_up_epochs
        losses = self._warp_losses(batch) if warming_up else self._all_losses(batch, share)
        loss = torch.stack([weight * losses[name] for name, weight in self._weights.items() if name in losses]).sum()
        torch.autograd.backward(share * loss)
        return {**losses, "loss": loss, "phase": torch.full_like(loss, WARM_UP if warming_up else ALL_LOSSES)}

    @property
    def _weights(self) -> dict[str, float]:
        """The weight of each loss in the renderer's own; one of weight 0 is not computed at all."""
        settings = self.settings
        return {
            "warp": settings.warp_weight,
            "pixel": settings.pixel_weight,
            "perceptual": settings.perceptual_weight,
            "adversarial": settings.adversarial_weight,
            "feature_matching": settings.feature_matching_weight,
        }

    def _warp_losses(self, batch: RendererBatch) -> dict[str, torch.Tensor]:
        """Of the warped references alone: the faces are not translated, since nothing would be learnt from them."""
        references = self.network.encode_references(batch.reference_faces, batch.reference_sketches)
        warped = self.network.warp(references, batch.sketches).face
        return self._of_warped(warped, batch.face, self._features(batch.face))

    def _all_losses(self, batch: RendererBatch, share: float) -> dict[str, torch.Tensor]:
        settings = self.settings
        generated, warped = self._render(batch)
        features = self._features(batch.face)
        losses = self._of_warped(warped, batch.face, features)
        if settings.pixel_weight:
            losses["pixel"] = losses["pixel"] + F.l1_loss(generated, batch.face)
        if self.perceptual is not None and features is not None and settings.perceptual_weight:
            losses["perceptual"] = self.perceptual(generated, features, style=True)
        if settings.adversarial_weight or settings.feature_matching_weight:
            losses |= self._judgement(generated, self._teach_discriminator(generated, batch.face, share))
        return losses

    def _of_warped(self, warped: torch.Tensor, real: torch.Tensor, features: Features | None) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = {}
        if self.perceptual is not None and features is not None and self.settings.warp_weight:
            losses["warp"] = self.perceptual(warped, features, style=False)
        if self.settings.pixel_weight:
            losses["pixel"] = F.l1_loss(warped, real)
        return losses

    def _features(self, real: torch.Tensor) -> Features | None:
        """What VGG-19 sees in the real faces; computed once for both losses that compare with it."""
        return None if self.perceptual is None else self.perceptual.features_of(real)

    def validate(self, batch: RendererBatch) -> dict[str, torch.Tensor]:
        """PSNR in dB and L1 of the generated faces, L1 of the warped references, pictures in 0..1."""
        batch = batch.unit_pictures()
        generated, warped = self._render(batch)
        squared = (generated - batch.face).square().flatten(1).mean(1)
        psnr = (-10 * squared.clamp_min(1e-10).log10()).mean()
        return {"psnr": psnr, "l1": F.l1_loss(generated, batch.face), "warp_l1": F.l1_loss(warped, batch.face)}

    def picture(self, batch: RendererBatch) -> npt.NDArray[np.uint8]:
        """A few samples, a row each: a reference, the warped reference, the generated face, the real one."""
        few = RendererBatch(*(tensor[:PICTURE_ROWS] for tensor in batch)).unit_pictures()
        generated, warped = self._render(few)
        columns = torch.stack([few.reference_faces[:, 0], warped, generated, few.face], dim=1)
        rows = columns.permute(0, 3, 1, 4, 2).reshape(len(columns) * few.face.shape[2], -1, 3)
        return (rows.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    def _render(self, batch: RendererBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(batch.face, batch.sketches, batch.reference_faces, batch.reference_sketches, batch.mel)

    def _teach_discriminator(self, generated: torch.Tensor, real: torch.Tensor, share: float) -> "Judged":
        """Leaves the discriminator's gradients; they come from its own loss alone."""
        of_real = self.discriminator(real)
        loss = discriminator_loss(of_real, self.discriminator(generated.detach()))
        torch.autograd.backward(share * loss)
        return Judged([[layer.detach() for layer in scale] for scale in of_real], loss.detach())

    def _judgement(self, generated: torch.Tensor, judged: "Judged") -> dict[str, torch.Tensor]:
        """What the discriminator makes of the generated faces, and its own loss beside it."""
        with frozen(self.discriminator):
            of_generated = self.discriminator(generated)
        return {
            "adversarial": adversarial_loss(of_generated),
            "feature_matching": feature_matching_loss(judged.of_real, of_generated),
            "discriminator": judged.loss,
        }


@dataclass(frozen=True)
class Judged:
    """What the discriminator made of the real faces, and its own loss; both without gradients."""

    of_real: list[list[torch.Tensor]]
    loss: torch.Tensor


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within it, what a network computes passes gradients on to its inputs but none to its parameters."""
    network.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        network.requires_grad_(requires_grad=True)


def train_renderer(settings: RendererTraining, progress: Progress = silent, session: Session | None = None) -> TrainingSummary:
    """Trains to `settings.steps` and leaves OUT/renderer.safetensors and OUT/state/ (see `state`).

    Raises StoreError, CheckpointError or SettingsError for what the user can mend, DubmillError when too many losses are no numbers.
    With several workers, `settings.store` and `settings.out` must be places that all of them see, and `settings.snapshot` must be named.
    """
    session = session or one_process(settings.device)
    saved = saved_run_to_resume(settings, KIND)
    if (finished := read_finished(settings.out, saved, settings.steps)) is not None:
        return finished
    corpus = open_corpus(settings, saved)
    require_size(settings, corpus.store.format.crop.size)
    run = TrainingRun(RendererTrainer(settings, corpus, session.device), settings, corpus, session, progress)
    if saved is not None:
        run.resume(saved)
    return run.to_the_end()


def require_size(settings: RendererTraining, stored: int) -> None:
    """SettingsError when the corpus holds face pictures of another size than the renderer is to make."""
    if settings.size != stored:
        raise SettingsError(f"The corpus {settings.store} holds face pictures of {stored} pixels, not {settings.size}; set size to {stored}.")
