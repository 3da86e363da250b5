"""Training of the landmark generator (paper 3.1; contract: Training): L1 and velocity over windows of five frames."""

from typing import Final

import torch
import torch.nn.functional as F

from models.landmark_generator import PRESETS, LandmarkGenerator
from models.losses import velocity_loss
from schemas.jobs import TrainingSummary
from schemas.settings import LandmarkGeneratorTraining
from tasks.progress import Progress, silent
from tasks.training.corpus import Corpus, open_corpus
from tasks.training.loop import Trainer, TrainingRun
from tasks.training.samples import LandmarkBatch, LandmarkSamples
from tasks.training.session import Session, one_process
from tasks.training.state import read_finished, saved_run_to_resume

KIND: Final = "landmark-generator"


class LandmarkGeneratorTrainer(Trainer[LandmarkBatch]):
    """L1 plus velocity; Adam."""

    kind = KIND

    def __init__(self, settings: LandmarkGeneratorTraining, corpus: Corpus, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.architecture = PRESETS[settings.preset]
        self.network = LandmarkGenerator(self.architecture).to(device)
        self.networks = {"network": self.network}
        self.optimizers = {"network": torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)}
        self.samples = LandmarkSamples(corpus.lessons.train, settings.references)
        self.validation_samples = LandmarkSamples(corpus.lessons.validation, settings.references)

    def backward(self, batch: LandmarkBatch, epochs: float, share: float) -> dict[str, torch.Tensor]:  # noqa: ARG002 - one phase only
        """Losses l1 and velocity (both in shares of the face box) and their weighted sum."""
        content = self._generate(batch)
        l1, velocity = F.l1_loss(content, batch.content), velocity_loss(content, batch.content)
        loss = l1 + self.settings.velocity_weight * velocity
        torch.autograd.backward(share * loss)
        return {"l1": l1, "velocity": velocity, "loss": loss}

    def validate(self, batch: LandmarkBatch) -> dict[str, torch.Tensor]:
        """L1 and velocity."""
        content = self._generate(batch)
        return {"l1": F.l1_loss(content, batch.content), "velocity": velocity_loss(content, batch.content)}

    def _generate(self, batch: LandmarkBatch) -> torch.Tensor:
        return self.network(batch.mels, batch.pose, batch.reference_pose, batch.reference_content)


def train_landmark_generator(settings: LandmarkGeneratorTraining, progress: Progress = silent, session: Session | None = None) -> TrainingSummary:
    """Trains to `settings.steps` and leaves OUT/landmark-generator.safetensors and OUT/state/ (see `state`).

    Raises StoreError, CheckpointError or SettingsError for what the user can mend, DubmillError when too many losses are no numbers.
    With several workers, `settings.store` and `settings.out` must be places that all of them see, and `settings.snapshot` must be named.
    """
    session = session or one_process(settings.device)
    saved = saved_run_to_resume(settings, KIND)
    if (finished := read_finished(settings.out, saved, settings.steps)) is not None:
        return finished
    corpus = open_corpus(settings, saved)
    run = TrainingRun(LandmarkGeneratorTrainer(settings, corpus, session.device), settings, corpus, session, progress)
    if saved is not None:
        run.resume(saved)
    return run.to_the_end()
