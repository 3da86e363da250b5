"""The training loop of both networks: steps, a guard against losses that are no numbers, validation, checkpoints, resuming, early stop."""

import copy
import logging
import math
import os
import time
from collections.abc import Iterator
from typing import Generic

import numpy as np
import torch
from torch import nn

from models.checkpoint import save_checkpoint
from schemas.checkpoints import Ancestor, CheckpointHeader
from schemas.errors import CheckpointError, DubmillError, SettingsError
from schemas.job_log import DAG_RUN_VARIABLE
from schemas.jobs import TrainingSummary
from schemas.settings import TrainingSettings
from tasks import places
from tasks.progress import Progress
from tasks.training.batch_norm import normalise_over_workers
from tasks.training.batches import batches_ahead
from tasks.training.corpus import Corpus
from tasks.training.record import Record
from tasks.training.samples import BatchKind, pinned, to_device
from tasks.training.schedule import learning_rate, set_learning_rate
from tasks.training.session import Session, StepFacts, add_up_gradients, sum_over_workers
from tasks.training.state import (
    Best,
    MetricRows,
    Position,
    SavedRun,
    averaged_weights,
    forget_former_run,
    has_stopped,
    remove_half_written,
    save_run,
    settings_of_run,
    weights_location,
    write_summary,
)
from tasks.training.trainer import Trainer
from tasks.training.validation import score
from tasks.training.windows import samples_in_batch
from tasks.version import code_version

LOG = logging.getLogger(__name__)

SMALLEST_BATCH = 2
"""Batch normalisation needs two samples."""


class TrainingRun(Generic[BatchKind]):
    """One worker's run of a trainer, from where it was saved (or from nothing) to its end."""

    def __init__(self, trainer: Trainer[BatchKind], settings: TrainingSettings, corpus: Corpus, session: Session, progress: Progress) -> None:
        self.trainer = trainer
        self.settings = settings
        self.corpus = corpus
        self.session = session
        self.name = session.run_name
        self.position = Position()
        self.best: Best | None = None
        self.batch_size = samples_in_batch(trainer.samples.footage, settings.batch_size)
        self.record = Record(settings, session, progress, MetricRows(settings.out), 0)
        self._progress = progress
        self._seconds, self._waited_s, self._samples = 0.0, 0.0, 0
        self._saved_step: int | None = None
        if self.batch_size < SMALLEST_BATCH:
            raise SettingsError(f"A batch of {self.batch_size} sample cannot be trained on; give a batch_size of {SMALLEST_BATCH} or more.")
        if self.batch_size < session.world_size:
            raise SettingsError(f"{session.world_size} workers cannot share a batch of {self.batch_size} samples; give fewer workers or more footage.")
        if session.world_size > 1:
            for network in trainer.networks.values():
                normalise_over_workers(network)
            if settings.compile:
                LOG.warning("Normalising over workers breaks what is compiled into small pieces: with several workers compile may gain nothing.")

    def resume(self, saved: SavedRun) -> None:
        """Takes up a saved run. CheckpointError when its networks have other sizes, SettingsError when it read other clips."""
        if saved.architecture != self.trainer.architecture.model_dump(mode="json"):
            raise CheckpointError(f"The training state in {self.settings.out} is of a network of another preset or size; use its settings or another folder.")
        if saved.snapshot_digest != self.corpus.digest:
            raise SettingsError(
                f"The training state in {self.settings.out} was made with other clips than the snapshot {saved.snapshot} of {self.settings.store} has;"
                " give that run's store, or train into another folder."
            )
        trainer = self.trainer
        for name, network in trainer.networks.items():
            network.load_state_dict(saved.networks[name])
        for name, optimizer in trainer.optimizers.items():
            optimizer.load_state_dict(saved.optimizers[name])
        trainer.averaged.network.load_state_dict(saved.averaged)
        if saved.scaler:
            trainer.precision.scaler.load_state_dict(saved.scaler)
        self.name = self.session.run_name or saved.name
        self.position, self.best = saved.position, saved.best
        self._saved_step = saved.position.step
        trainer.ancestors = tuple(map(Ancestor.model_validate, saved.ancestors))
        rows = MetricRows.until(self.settings.out, saved.position.step)
        self.record = Record(self.settings, self.session, self._progress, rows, saved.position.step)

    def to_the_end(self) -> TrainingSummary:
        """Trains, and leaves weights, state, metrics and summary in the settings' `out`. A KeyboardInterrupt gets a note that says how far it came."""
        try:
            self._begin() if self.position.step == 0 else self._go_on()
            self._learn_until_stopped()
            return self._finish()
        except KeyboardInterrupt as interruption:
            interruption.add_note(self._where_it_stopped())
            raise
        finally:
            self.record.close()

    def _where_it_stopped(self) -> str:
        checkpoint = "there is no checkpoint yet" if self._saved_step is None else f"the last checkpoint is of step {self._saved_step}"
        return f"Training stopped at step {self.position.step}; {checkpoint}"

    def _begin(self) -> None:
        self.record.begin()
        if self.session.leads:
            forget_former_run(self.settings.out)
            remove_half_written(self.settings.out, self.trainer.kind)
        self._validate()

    def _go_on(self) -> None:
        """Cuts off the rows of steps that will be made again; gives back weights that somebody took away."""
        self.record.begin()
        if not self.session.leads:
            return
        remove_half_written(self.settings.out, self.trainer.kind)
        if not places.exists(weights_location(self.settings.out, self.trainer.kind)):
            self._give_back_weights()

    def _give_back_weights(self) -> None:
        """The best ones from their checkpoint; where that is gone too, those of now, until better ones come."""
        network = copy.deepcopy(self.trainer.averaged.network)
        kept = averaged_weights(self.settings.out, self.best.step) if self.best else None
        if self.best is None or kept is None:
            self.best = Best(self.position.step, -math.inf, next(reversed(self.record.rows.validations()), {}))
        else:
            network.load_state_dict(kept)
        self._keep_weights(network, self.best)

    def _learn_until_stopped(self) -> None:
        steps = range(self.position.step, self.settings.steps)
        if not steps or self._has_stopped():
            return
        started = time.monotonic()
        with batches_ahead(self._batch, steps, self.settings.batches_ahead) as batches:
            for batch in batches:
                values = self._step(batch)
                self._count_step(values, time.monotonic() - started, batches.waited_s)
                if self._checkpoint_is_due():
                    self._validate()
                    self._save()
                    if self._has_stopped():
                        break
                started = time.monotonic()

    def _count_step(self, values: dict[str, float], seconds: float, waited_s: float) -> None:
        """waited_s: for batches since the training began."""
        self.session.on_step(StepFacts(values, self.batch_size, seconds, waited_s - self._waited_s))
        self._seconds += seconds
        self._waited_s = waited_s

    def _checkpoint_is_due(self) -> bool:
        step = self.position.step
        return step % self.settings.validate_every == 0 or step == self.settings.steps

    def _has_stopped(self) -> bool:
        """Whether the run ends here; the same on every worker, as the one that leads has it."""
        if self.settings.stop_after is None:
            return False
        stopped = self.session.leads and has_stopped(self.record.rows, self.best, self.settings.stop_after)
        return bool(sum_over_workers(torch.tensor(float(stopped), device=self.session.device), self.session).item())

    def _batch(self, step: int) -> BatchKind:
        settings, session = self.settings, self.session
        batch = self.trainer.samples.batch(settings.seed, step, settings.batch_size, session.rank, session.world_size)
        return pinned(batch) if session.device.type == "cuda" else batch

    def _step(self, batch: BatchKind) -> dict[str, float]:
        """What is told of the step, its losses first."""
        seed_randomness(self.settings.seed, self.position.step, self.session.rank)
        for optimizer in self.trainer.optimizers.values():
            set_learning_rate(optimizer, learning_rate(self.settings, self.position.step))
        buffers = [buffer.clone() for buffer in self._buffers()]
        values, has_learnt = self._learn(to_device(batch, self.session.device))
        if not has_learnt:
            values = self._forget(buffers, values)
        self.position.step += 1
        self.position.epochs += self.batch_size / self.trainer.samples.footage.clips
        self._samples += self.batch_size
        if has_learnt:
            self.trainer.averaged.update(self.position.step)
        self.record.step(self.position.step, values)
        return values

    def _learn(self, batch: BatchKind) -> tuple[dict[str, float], bool]:
        """The losses, and whether there was a step of the optimisers: none when a loss or a gradient is no number."""
        trainer = self.trainer
        trainer.into_training()
        for optimizer in trainer.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        share = len(batch[0]) / self.batch_size
        losses = trainer.backward(batch, self.position, share)
        add_up_gradients(trainer.networks.values(), self.session)
        optimizers = [optimizer for optimizer in trainer.optimizers.values() if _has_gradients(optimizer)]
        trainer.precision.unscale(optimizers)
        norms = [nn.utils.clip_grad_norm_(network.parameters(), self.settings.clip_gradient_norm) for network in trainer.networks.values()]
        totals = sum_over_workers(torch.stack([loss.detach().float() for loss in losses.values()]) * share, self.session)
        values = dict(zip(losses, totals.tolist(), strict=True))
        norm_values = [norm.item() for norm in norms]
        if not all(map(math.isfinite, (*values.values(), *norm_values))):
            return values, False
        trainer.precision.step(optimizers)
        return values | {"gradient_norm": norm_values[0], "learning_rate": learning_rate(self.settings, self.position.step)}, True

    def _forget(self, buffers: list[torch.Tensor], values: dict[str, float]) -> dict[str, float]:
        """Forgets a bad batch, also in the running statistics of batch normalisation; counts it unless a smaller loss scale mends it. Gives what is told."""
        for buffer, before in zip(self._buffers(), buffers, strict=True):
            buffer.copy_(before)
        precision = self.trainer.precision
        if precision.lowers_scale() and all(map(math.isfinite, values.values())):
            LOG.info("Step %d is left out: its gradients went beyond what fp16 can hold, and the loss scale is lowered.", self.position.step + 1)
            return {"loss_scale": precision.scaler.get_scale()}
        self.position.skipped += 1
        LOG.warning("Step %d is left out: a loss or gradient is no number.", self.position.step + 1)
        if self.position.skipped > self.settings.max_non_finite:
            raise DubmillError(
                f"Training stopped at step {self.position.step + 1}: {self.position.skipped} steps had a loss or gradient that is no number;"
                " give a lower learning rate, or look for broken clips with `dubmill corpus verify`."
            )
        return {"skipped": float(self.position.skipped)}

    def _buffers(self) -> Iterator[torch.Tensor]:
        for network in self.trainer.networks.values():
            yield from network.buffers()

    def _validate(self) -> None:
        """Measures the averaged weights on fixed samples; every worker reports, so that none waits for another for ever."""
        metrics: dict[str, float] = {}
        if self.session.leads:
            metrics = self._measure()
            self.record.validation(self.position.step, metrics)
            self._remember_best(metrics)
        self.session.on_report(metrics)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        network, validation, step = self.trainer.averaged.network, self.trainer.validation, self.position.step
        metrics = validation.measure(network)
        self.record.picture(step, validation.picture(network))
        if self._preview_is_due():
            self.record.preview(step, validation.preview(network), self.corpus.store)
        return metrics if self.corpus.lessons.held_out else metrics | {"held_out": 0.0}

    def _preview_is_due(self) -> bool:
        """Of weights that the run began with, at the first validation at or after each multiple of `preview_every`, and at the end."""
        every, step = self.settings.preview_every, self.position.step
        if not every:
            return False
        if not step:
            return self.settings.start_from is not None
        return step == self.settings.steps or step % every < min(self.settings.validate_every, every)

    def _remember_best(self, metrics: dict[str, float]) -> None:
        """Keeps the weights if they are the best so far; those of a random start, or of a phase that does not count, give way to any."""
        if self.position.step == 0 and self.settings.start_from is None:
            return
        warming_up = self.trainer.is_warming_up(self.position)
        value = -math.inf if warming_up else score(self.trainer.kind, metrics, self.corpus.store.format.crop.size)
        if self.best is None or warming_up or value > self.best.score or math.isnan(self.best.score):
            self.best = Best(self.position.step, value, metrics)
            self._keep_weights(self.trainer.averaged.network, self.best)

    def _keep_weights(self, network: nn.Module, best: Best) -> None:
        save_checkpoint(weights_location(self.settings.out, self.trainer.kind), network, self._header(best))

    def _save(self) -> None:
        if not self.session.leads:
            return
        trainer = self.trainer
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
            averaged=dict(trainer.averaged.network.state_dict()),
            scaler=trainer.precision.scaler.state_dict(),
            best=self.best,
            ancestors=[ancestor.model_dump() for ancestor in trainer.ancestors],
        )
        save_run(self.settings.out, saved, self.settings.keep_checkpoints)
        self._saved_step = self.position.step

    def _header(self, best: Best) -> CheckpointHeader:
        return CheckpointHeader(
            kind=self.trainer.kind,
            architecture=self.trainer.architecture,
            crop=self.corpus.snapshot.format.crop,
            mel=self.corpus.snapshot.format.mel,
            step=best.step,
            snapshot=self.corpus.snapshot.name,
            snapshot_checksum=self.corpus.snapshot.checksum,
            store=self.corpus.place,
            dag_run=os.environ.get(DAG_RUN_VARIABLE, ""),
            metrics=best.metrics,
            perceptual_weights=self.trainer.perceptual_source,
            ancestors=self.trainer.ancestors,
            code_version=code_version(),
        )

    def _finish(self) -> TrainingSummary:
        validations = self.record.rows.validations() or [{}]
        summary = TrainingSummary(
            kind=self.trainer.kind,
            checkpoint=weights_location(self.settings.out, self.trainer.kind),
            snapshot=self.corpus.snapshot.name,
            store=self.corpus.place,
            step=self.position.step,
            samples_per_second=self._samples / self._seconds if self._seconds else 0.0,
            input_wait_share=self._waited_s / self._seconds if self._seconds else 0.0,
            metrics_at_start=validations[0],
            metrics=self.best.metrics if self.best else validations[-1],
            best_step=self.best.step if self.best else self.position.step,
            stopped_early=self.position.step < self.settings.steps,
            skipped=self.position.skipped,
            absent=dict(self.trainer.absent_metrics()),
        )
        if self.session.leads:
            write_summary(self.settings.out, summary)
        return summary


def _has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Not in a phase in which its network does not learn: to a loss scale that would be an error."""
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])


def seed_randomness(seed: int, step: int, rank: int) -> None:
    """Makes dropout a function of (seed, step, rank): a resumed run goes on exactly as an uninterrupted one."""
    number = np.random.SeedSequence([seed % 2**63, step, rank]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(number))
