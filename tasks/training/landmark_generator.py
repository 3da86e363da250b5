"""Training of the landmark generator (paper 3.1; contract: Training): L1 and velocity over windows of five frames, and how far the lips are apart."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import nn

from models.landmark_generator import PRESETS, LandmarkGenerator
from models.losses import lip_opening_loss, velocity_loss
from schemas.checkpoints import LandmarkGeneratorSize
from schemas.jobs import TrainingSummary
from schemas.settings import LandmarkGeneratorTraining
from tasks.progress import Progress, silent
from tasks.training.augment import Augmentation
from tasks.training.corpus import Corpus
from tasks.training.landmark_validation import LandmarkValidation
from tasks.training.run import ancestors_of, landmark_generator_to_start_from, train
from tasks.training.samples import LandmarkBatch, LandmarkSamples
from tasks.training.session import Session
from tasks.training.state import Position, SavedRun
from tasks.training.trainer import Losses, Trainer

KIND: Final = "landmark-generator"


class LandmarkGeneratorTrainer(Trainer[LandmarkBatch]):
    """L1 plus velocity plus lip opening; Adam."""

    kind = KIND

    def __init__(self, settings: LandmarkGeneratorTraining, corpus: Corpus, device: torch.device, saved: SavedRun | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.network = self._first_network(corpus, saved)
        self.ancestors = ancestors_of(settings.start_from) if saved is None else ()
        self.architecture = self.network.size_settings
        super().__init__(settings, {"network": self.network}, device)
        self.samples = LandmarkSamples(corpus.lessons.train, settings.references, Augmentation.of(settings))
        self.validation = LandmarkValidation(corpus.lessons.validation, settings, corpus.store.format.crop.size, device)

    def _first_network(self, corpus: Corpus, saved: SavedRun | None) -> LandmarkGenerator:
        if saved is not None and saved.ancestors:  # the weights that it began with are not needed again
            return LandmarkGenerator(LandmarkGeneratorSize.model_validate(saved.architecture))
        if self.settings.start_from:
            return landmark_generator_to_start_from(self.settings.start_from, corpus)
        return LandmarkGenerator(PRESETS[self.settings.preset])

    def optimizer(self, name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:  # noqa: ARG002 - there is one network
        """Adam with its usual momenta."""
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate)

    def compiled_parts(self) -> list[nn.Module]:
        """The network as a whole."""
        return [self.network]

    def backward(self, batch: LandmarkBatch, position: Position, share: float) -> Losses:  # noqa: ARG002 - one phase only
        """Losses l1, velocity and lip_opening (all in shares of the face box) and their weighted sum."""
        settings = self.settings
        with self.precision.autocast():
            content = self.network(batch.mels, batch.pose, batch.reference_pose, batch.reference_content).float()
        losses = {"l1": F.l1_loss(content, batch.content), "velocity": velocity_loss(content, batch.content)}
        loss = losses["l1"] + settings.velocity_weight * losses["velocity"]
        if settings.lip_opening_weight:
            losses["lip_opening"] = lip_opening_loss(content, batch.content)
            loss = loss + settings.lip_opening_weight * losses["lip_opening"]
        self.precision.descend(share * loss)
        return losses | {"loss": loss}


def train_landmark_generator(settings: LandmarkGeneratorTraining, progress: Progress = silent, session: Session | None = None) -> TrainingSummary:
    """Trains to `settings.steps` and leaves OUT/landmark-generator.safetensors and OUT/state/ (see `state`). Raises as `run.train` does."""
    return train(KIND, LandmarkGeneratorTrainer, settings, progress, session)
