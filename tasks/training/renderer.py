"""Training of the renderer (paper 3.2; contract: Training): first the warp alone, then perceptual, adversarial and feature matching losses too."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import nn

from models.discriminator import Discriminator
from models.losses import Features, PerceptualLoss, adversarial_loss, discriminator_loss, feature_matching_loss
from models.renderer import PRESETS, Renderer
from schemas.checkpoints import RendererSize
from schemas.errors import SettingsError
from schemas.jobs import TrainingSummary
from schemas.settings import RendererTraining
from tasks.progress import Progress, silent
from tasks.training.augment import Augmentation
from tasks.training.corpus import Corpus
from tasks.training.footage import Footage
from tasks.training.pictures import FacePictures
from tasks.training.renderer_validation import RendererValidation
from tasks.training.run import ancestors_of, renderer_to_start_from, train
from tasks.training.samples import RendererBatch, RendererSamples
from tasks.training.session import Session
from tasks.training.state import Position, SavedRun
from tasks.training.trainer import Losses, Trainer

KIND: Final = "renderer"
DISCRIMINATOR_BETAS = (0.5, 0.999)
WARM_UP, ALL_LOSSES = 1.0, 2.0
"""The two phases, as `phase` in the metrics."""


class RendererTrainer(Trainer[RendererBatch]):
    """The renderer against a discriminator, with Adam for both.

    An epoch is one window of each training clip, as in the original. Until `warm_up_epochs` (the original's gate opens with
    its 27th epoch, index above 25) or `warm_up_steps` the warp alone is learnt; the discriminator, which would judge a generator that does not
    learn yet, waits as well.
    """

    kind = KIND

    def __init__(self, settings: RendererTraining, corpus: Corpus, device: torch.device, saved: SavedRun | None = None) -> None:
        if not (settings.warp_weight or settings.pixel_weight):
            raise SettingsError("There is nothing to learn the warp from: give warp_weight or pixel_weight a value above 0.")
        require_size(settings, corpus.store.format.crop.size)
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.network = self._first_network(corpus, saved)
        self.ancestors = ancestors_of(settings.start_from) if saved is None else ()
        self.architecture = self.network.size_settings.replaced(size=settings.size)
        self.discriminator = Discriminator()
        uses_features = settings.warp_weight or settings.perceptual_weight
        self.perceptual = PerceptualLoss(settings.perceptual_weights).to(device) if uses_features else None
        self.perceptual_source = self.perceptual.source if self.perceptual else None
        super().__init__(settings, {"network": self.network, "discriminator": self.discriminator}, device)
        if self.perceptual:
            self.lay_out(self.perceptual)
        lessons = corpus.lessons
        pictures = self._pictures(corpus, lessons.train)
        self.samples = RendererSamples(lessons.train, settings.references, settings.size, pictures, Augmentation.of(settings))
        of_validation = pictures if lessons.validation is lessons.train else self._pictures(corpus, lessons.validation)
        self.validation = RendererValidation(lessons.validation, of_validation, settings, device)

    def _first_network(self, corpus: Corpus, saved: SavedRun | None) -> Renderer:
        if saved is not None and saved.ancestors:  # the weights that it began with are not needed again
            return Renderer(RendererSize.model_validate(saved.architecture))
        if self.settings.start_from:
            return renderer_to_start_from(self.settings.start_from, corpus)
        return Renderer(PRESETS[self.settings.preset].replaced(size=self.settings.size))

    def _pictures(self, corpus: Corpus, footage: Footage) -> FacePictures:
        return FacePictures(corpus.store, footage, self.settings.cache, self.settings.picture_cache_mb)

    def optimizer(self, name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam; a discriminator's with a short momentum."""
        if name == "discriminator":
            return torch.optim.Adam(parameters, lr=self.settings.learning_rate, betas=DISCRIMINATOR_BETAS)
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate)

    def compiled_parts(self) -> list[nn.Module]:
        """The parts that are called as modules in both phases: the renderer as a whole is called piece by piece while the warp alone is learnt."""
        flow = self.network.flow
        judges = [self.perceptual] if self.perceptual else []
        return [flow.reference_encoder, flow, self.network.translation, self.discriminator, *judges]

    def is_warming_up(self, position: Position) -> bool:
        """Whether the warp alone is learnt: of the faces, validation then says nothing."""
        steps = self.settings.warm_up_steps
        return position.epochs < self.settings.warm_up_epochs if steps is None else position.step < steps

    def backward(self, batch: RendererBatch, position: Position, share: float) -> Losses:
        """Losses of the phase that the run is in: those of the warped references, then also those of the generated faces and the discriminator's own."""
        batch = batch.unit_pictures()
        warming_up = self.is_warming_up(position)
        with self.precision.autocast():
            losses = self._warp_losses(batch) if warming_up else self._all_losses(batch, share)
        loss = torch.stack([weight * losses[name] for name, weight in self._weights.items() if name in losses]).sum()
        self.precision.descend(share * loss)
        return {**losses, "loss": loss, "phase": torch.full_like(loss, WARM_UP if warming_up else ALL_LOSSES)}

    @property
    def _weights(self) -> dict[str, float]:
        """The weight of each loss in the renderer's own. Of weight 0 nothing is computed, but that both losses of the discriminator come together."""
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

    def _render(self, batch: RendererBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(batch.face, batch.sketches, batch.reference_faces, batch.reference_sketches, batch.mel)

    def _teach_discriminator(self, generated: torch.Tensor, real: torch.Tensor, share: float) -> "Judged":
        """Leaves the discriminator's gradients; they come from its own loss alone."""
        of_real = self.discriminator(real)
        loss = discriminator_loss(of_real, self.discriminator(generated.detach()))
        self.precision.descend(share * loss)
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
    """Trains to `settings.steps` and leaves OUT/renderer.safetensors and OUT/state/ (see `state`). Raises as `run.train` does."""
    return train(KIND, RendererTrainer, settings, progress, session)


def require_size(settings: RendererTraining, stored: int) -> None:
    """SettingsError when the corpus holds face pictures of another size than the renderer is to make."""
    if settings.size != stored:
        raise SettingsError(f"The corpus {settings.store} holds face pictures of {stored} pixels, not {settings.size}; set size to {stored}.")
