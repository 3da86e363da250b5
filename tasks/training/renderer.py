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
    its 27th epoch, index above 25) the warp loss alone is learnt; the discriminator, which would judge a generator that does not learn yet,
    waits as well.
    """

    kind = KIND

    def __init__(self, settings: RendererTraining, corpus: Corpus, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.architecture = PRESETS[settings.preset].replaced(size=settings.size)
        self.network = Renderer(self.architecture).to(device)
        self.discriminator = Discriminator().to(device)
        self.perceptual = PerceptualLoss(settings.perceptual_weights).to(device)
        self.perceptual_source = self.perceptual.source
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
        """Losses of the phase that `epochs` is in; warp alone, or all, and the discriminator's own."""
        batch = batch.unit_pictures()
        features = self.perceptual.features_of(batch.face)
        if epochs < self.settings.warm_up_epochs:
            return self._warm_up(batch, features, share)
        generated, warped = self._render(batch)
        judged = self._teach_discriminator(generated, batch.face, share)
        warp = self.perceptual(warped, features, style=False)
        losses = self._generator_losses(generated, features, judged)
        loss = self.settings.warp_weight * warp + self._weighted(losses)
        torch.autograd.backward(share * loss)
        return {"warp": warp, **losses, "loss": loss, "phase": torch.full_like(warp, ALL_LOSSES)}

    def _warm_up(self, batch: RendererBatch, features: Features, share: float) -> dict[str, torch.Tensor]:
        """The warp loss alone: the faces are not translated, since nothing would be learnt from them."""
        references = self.network.encode_references(batch.reference_faces, batch.reference_sketches)
        warp = self.perceptual(self.network.warp(references, batch.sketches).face, features, style=False)
        loss = self.settings.warp_weight * warp
        torch.autograd.backward(share * loss)
        return {"warp": warp, "loss": loss, "phase": torch.full_like(warp, WARM_UP)}

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

    def _generator_losses(self, generated: torch.Tensor, features: Features, judged: "Judged") -> dict[str, torch.Tensor]:
        with frozen(self.discriminator):
            of_generated = self.discriminator(generated)
        return {
            "perceptual": self.perceptual(generated, features, style=True),
            "adversarial": adversarial_loss(of_generated),
            "feature_matching": feature_matching_loss(judged.of_real, of_generated),
            "discriminator": judged.loss,
        }

    def _weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        settings = self.settings
        return (
            settings.perceptual_weight * losses["perceptual"]
            + settings.adversarial_weight * losses["adversarial"]
            + settings.feature_matching_weight * losses["feature_matching"]
        )


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
