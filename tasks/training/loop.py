"""The training loop of both networks: steps, metrics, validation, guard against losses that are no numbers, checkpoints, resuming."""

import importlib.util
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.checkpoint import save_checkpoint
from schemas.checkpoints import CheckpointHeader, Kind, LandmarkGeneratorSize, RendererSize
from schemas.errors import CheckpointError, DubmillError, SettingsError
from schemas.jobs import TrainingSummary
from schemas.settings import TrainingSettings
from tasks import places
from tasks.progress import Progress, silent
from tasks.training.batch_norm import normalise_over_workers
from tasks.training.corpus import Corpus
from tasks.training.samples import BatchKind, Samples, samples_in_batch, to_device
from tasks.training.session import Session, add_up_gradients, sum_over_workers
from tasks.training.state import (
    MetricRows,
    Position,
    SavedRun,
    Split,
    forget_former_run,
    save_run,
    settings_of_run,
    state_location,
    weights_location,
    write_summary,
)
from tasks.version import code_version

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = logging.getLogger(__name__)

VALIDATION_SEED = 2305
"""Validation windows are the same whatever the run's own seed: runs can be compared."""
SMALLEST_BATCH = 2
"""Batch normalisation needs two samples."""
VALIDATION_BATCH = 16
"""Samples validated at once: bounds memory, changes no number."""
ROW_FOR_EACH_STEP_UNTIL = 1000
ROW_EVERY = 20
"""Steps between two rows of training losses later on: curves of half a million steps stay small."""


class Trainer(ABC, Generic[BatchKind]):
    """What differs between the networks: their losses, metrics and samples. The first of `networks` is the one that is kept."""

    kind: Kind
    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    samples: Samples[BatchKind]
    validation_samples: Samples[BatchKind]
    architecture: LandmarkGeneratorSize | RendererSize
    perceptual_source: Any = None

    @abstractmethod
    def backward(self, batch: BatchKind, epochs: float, share: float) -> dict[str, torch.Tensor]:
        """Leaves gradients of `share` times the losses in the networks; gives the losses, means over the batch, most telling first.

        epochs: windows seen so far, divided by training clips. share: of the whole batch, where several workers split it.
        """

    @abstractmethod
    def validate(self, batch: BatchKind) -> dict[str, torch.Tensor]:
        """Metrics, means over the batch; the networks are in evaluation mode."""

    def picture(self, batch: BatchKind) -> npt.NDArray[np.uint8] | None:  # noqa: ARG002 - for those that have pictures
        """A sample picture (H, W, 3) uint8 BGR to look at, if the network makes pictures."""
        return None


class TrainingRun(Generic[BatchKind]):
    """One worker's run of a trainer, from where it was saved (or from nothing) to the settings' last step."""

    def __init__(self, trainer: Trainer[BatchKind], settings: TrainingSettings, corpus: Corpus, session: Session, progress: Progress) -> None:
        self.trainer = trainer
        self.settings = settings
        self.corpus = corpus
        self.session = session
        self.progress = progress if session.leads else silent
        self.name = session.run_name
        self.position = Position()
        self.rows = MetricRows(settings.out)
        self.batch_size = samples_in_batch(trainer.samples.footage, settings.batch_size)
        self.boards: SummaryWriter | None = None
        self._seconds, self._samples = 0.0, 0
        if self.batch_size < SMALLEST_BATCH:
            raise SettingsError(f"A batch of {self.batch_size} sample cannot be trained on; give a batch_size of {SMALLEST_BATCH} or more.")
        if self.batch_size < session.world_size:
            raise SettingsError(f"{session.world_size} workers cannot share a batch of {self.batch_size} samples; give fewer workers or more footage.")
        if session.world_size > 1:
            for network in trainer.networks.values():
                normalise_over_workers(network)

    def resume(self, saved: SavedRun) -> None:
        """Takes up a saved run. CheckpointError when its networks have other sizes, SettingsError when it read other clips."""
        if saved.architecture != self.trainer.architecture.model_dump(mode="json"):
            raise CheckpointError(f"The training state in {self.settings.out} is of a network of another preset or size; use its settings or another folder.")
        if saved.snapshot_digest != self.corpus.digest:
            raise SettingsError(
                f"The training state in {self.settings.out} was made with other clips than the snapshot {saved.snapshot} of {self.settings.store} has;"
                " give that run's store, or train into another folder."
            )
        for name, network in self.trainer.networks.items():
            network.load_state_dict(saved.networks[name])
        for name, optimizer in self.trainer.optimizers.items():
            optimizer.load_state_dict(saved.optimizers[name])
        self.name = self.session.run_name or saved.name
        self.position = saved.position
        self.rows = MetricRows.until(self.settings.out, saved.position.step)

    def to_the_end(self) -> TrainingSummary:
        """Trains, and leaves weights, state, metrics and summary in the settings' `out`."""
        self.boards = self._open_boards()
        if self.position.step == 0:
            self._begin()
        elif self.session.leads:
            self._go_on()
        for batch in self._batches():
            started = time.monotonic()
            self._step(batch)
            self._seconds += time.monotonic() - started
            if self._checkpoint_is_due():
                self._validate()
                self._save()
        return self._finish()

    def _begin(self) -> None:
        if self.session.leads:
            self.rows.write()  # first, for it says in one sentence that a place cannot be written
            forget_former_run(self.settings.out)
        self._validate()

    def _go_on(self) -> None:
        """Cuts off the rows of steps that will be made again; gives back weights that somebody took away."""
        self.rows.write()
        if not places.exists(weights_location(self.settings.out, self.trainer.kind)):
            self._save()

    def _checkpoint_is_due(self) -> bool:
        step = self.position.step
        return step % self.settings.validate_every == 0 or step == self.settings.steps

    def _batches(self) -> Iterator[BatchKind]:
        """Batches from the present step on; the next one is made while the present one is learnt from."""
        steps = range(self.position.step, self.settings.steps)
        with ThreadPoolExecutor(1) as maker:
            coming = maker.submit(self._batch, steps.start)
            for step in steps:
                batch = coming.result()
                coming = maker.submit(self._batch, step + 1)
                yield batch

    def _batch(self, step: int) -> BatchKind:
        settings, session = self.settings, self.session
        return self.trainer.samples.batch(settings.seed, step, settings.batch_size, session.rank, session.world_size)

    def _step(self, batch: BatchKind) -> None:
        seed_randomness(self.settings.seed, self.position.step, self.session.rank)
        buffers = [buffer.clone() for buffer in self._buffers()]
        values = self._learn(to_device(batch, self.session.device))
        if values is None:
            self._skip(buffers)
        self.position.step += 1
        self.position.epochs += self.batch_size / self.trainer.samples.footage.clips
        self._samples += self.batch_size
        self._tell(values or {"skipped": float(self.position.skipped)})

    def _learn(self, batch: BatchKind) -> dict[str, float] | None:
        """One step of the optimisers; None, and nothing learnt, when a loss or a gradient is no number."""
        networks = self.trainer.networks
        for name, network in networks.items():
            network.train()
            self.trainer.optimizers[name].zero_grad(set_to_none=True)
        share = len(batch[0]) / self.batch_size
        losses = self.trainer.backward(batch, self.position.epochs, share)
        add_up_gradients(networks.values(), self.session)
        norms = [nn.utils.clip_grad_norm_(network.parameters(), self.settings.clip_gradient_norm) for network in networks.values()]
        totals = sum_over_workers(torch.stack([loss.detach() for loss in losses.values()]) * share, self.session)
        values = dict(zip(losses, totals.tolist(), strict=True)) | {"gradient_norm": norms[0].item()}
        if not all(map(math.isfinite, (*values.values(), *(norm.item() for norm in norms)))):
            return None
        for optimizer in self.trainer.optimizers.values():
            optimizer.step()
        return values

    def _skip(self, buffers: list[torch.Tensor]) -> None:
        """Forgets a bad batch, also in the running statistics of batch normalisation."""
        for buffer, before in zip(self._buffers(), buffers, strict=True):
            buffer.copy_(before)
        self.position.skipped += 1
        LOG.warning("Step %d is left out: a loss or gradient is no number.", self.position.step + 1)
        if self.position.skipped > self.settings.max_non_finite:
            raise DubmillError(
                f"Training stopped at step {self.position.step + 1}: {self.position.skipped} steps had a loss or gradient that is no number;"
                " give a lower learning rate, or look for broken clips with `dubmill corpus verify`."
            )

    def _buffers(self) -> Iterator[torch.Tensor]:
        for network in self.trainer.networks.values():
            yield from network.buffers()

    def _tell(self, values: dict[str, float]) -> None:
        step = self.position.step
        name, value = next(iter(values.items()))
        self.progress(step, self.settings.steps, f"{name} {value:.4g}")
        if step <= ROW_FOR_EACH_STEP_UNTIL or step % ROW_EVERY == 0 or "skipped" in values:
            self._add_row("train", values)

    def _add_row(self, split: Split, values: dict[str, float]) -> None:
        if not self.session.leads:
            return
        self.rows.add(self.position.step, split, values)
        if self.boards is not None:
            for name, value in values.items():
                self.boards.add_scalar(f"{split}/{name}", value, self.position.step)

    def _validate(self) -> None:
        """Measures on fixed samples; every worker reports, so that none waits for another for ever."""
        metrics: dict[str, float] = {}
        if self.session.leads:
            metrics = self._measure()
            self._add_row("val", metrics)
            self.rows.write()
        self.session.on_report(metrics)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        whole = self.trainer.validation_samples.batch(VALIDATION_SEED, 0, self.settings.validation_samples)
        for network in self.trainer.networks.values():
            network.eval()
        sums: dict[str, float] = {}
        for first in range(0, len(whole[0]), VALIDATION_BATCH):
            batch = to_device(type(whole)(*(tensor[first : first + VALIDATION_BATCH] for tensor in whole)), self.session.device)
            for name, mean in self.trainer.validate(batch).items():
                sums[name] = sums.get(name, 0.0) + mean.item() * len(batch[0])
            if first == 0:
                self._keep_picture(self.trainer.picture(batch))
        metrics = {name: total / len(whole[0]) for name, total in sums.items()}
        return metrics if self.corpus.lessons.held_out else metrics | {"held_out": 0.0}

    def _keep_picture(self, picture: npt.NDArray[np.uint8] | None) -> None:
        if picture is not None:
            location = state_location(self.settings.out, "pictures", f"step_{self.position.step}.png")
            places.write_bytes(location, cv2.imencode(".png", picture)[1].tobytes())

    def _save(self) -> None:
        if not self.session.leads:
            return
        trainer, out = self.trainer, self.settings.out
        kept = next(iter(trainer.networks.values()))
        save_checkpoint(weights_location(out, trainer.kind), kept, self._header())
        saved = SavedRun(
            kind=trainer.kind,
            name=self.name,
            architecture=trainer.architecture.model_dump(mode="json"),
            settings=settings_of_run(self.settings),
            snapshot=self.corpus.snapshot.name,
            snapshot_digest=self.corpus.digest,
            position=self.position,
            networks={name: dict(network.state_dict()) for name, network in trainer.networks.items()},
            optimizers={name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
        )
        save_run(out, saved)

    def _header(self) -> CheckpointHeader:
        return CheckpointHeader(
            kind=self.trainer.kind,
            architecture=self.trainer.architecture,
            crop=self.corpus.snapshot.format.crop,
            mel=self.corpus.snapshot.format.mel,
            step=self.position.step,
            snapshot=self.corpus.snapshot.name,
            metrics=(self.rows.validations() or [{}])[-1],
            perceptual_weights=self.trainer.perceptual_source,
            code_version=code_version(),
        )

    def _finish(self) -> TrainingSummary:
        if self.boards is not None:
            self.boards.close()
        validations = self.rows.validations() or [{}]
        summary = TrainingSummary(
            kind=self.trainer.kind,
            checkpoint=weights_location(self.settings.out, self.trainer.kind),
            snapshot=self.corpus.snapshot.name,
            step=self.position.step,
            samples_per_second=self._samples / self._seconds if self._seconds else 0.0,
            metrics_at_start=validations[0],
            metrics=validations[-1],
        )
        if self.session.leads:
            write_summary(self.settings.out, summary)
        return summary

    def _open_boards(self) -> "SummaryWriter | None":
        """TensorBoard, where it is installed and the output is a folder."""
        if not self.session.leads or places.is_remote(self.settings.out) or importlib.util.find_spec("tensorboard") is None:
            return None
        from torch.utils.tensorboard import SummaryWriter  # not on the import path of training

        folder = places.local_path(state_location(self.settings.out, "tensorboard"))
        return SummaryWriter(str(folder), purge_step=self.position.step + 1 if self.position.step else 0)


def seed_randomness(seed: int, step: int, rank: int) -> None:
    """Makes dropout a function of (seed, step, rank): a resumed run goes on exactly as an uninterrupted one."""
    number = np.random.SeedSequence([seed % 2**63, step, rank]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(number))
