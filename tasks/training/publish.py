"""Publishing: a trained network goes into use only if it does better than the published one on the validation clips it never learnt from.

A version is named by its weights, so that publishing again what is published changes nothing. `current.json` is written last: a
publishing that is killed leaves the former version in use. Nothing published is ever written over or removed.
"""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from models.checkpoint import NAMES, load_landmark_generator, load_renderer, read_header, require_kind
from schemas.checkpoints import CheckpointHeader, Kind
from schemas.errors import CheckpointError, StoreError
from schemas.jobs import PublishSummary
from schemas.locations import without_secrets
from schemas.settings import AnyTraining, LandmarkGeneratorTraining, PublishSettings, RendererTraining, check_settings
from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.file_hash import file_hash
from tasks.progress import Progress, silent
from tasks.published import Current, current_location, read_current, version_location, write_current
from tasks.training.corpus import Corpus, open_corpus
from tasks.training.curves import curves_svg
from tasks.training.data_sources import read_licences, training_data
from tasks.training.landmark_validation import LandmarkValidation
from tasks.training.model_card import HELD_OUT, ModelFacts, as_yaml, model_card
from tasks.training.pictures import FacePictures
from tasks.training.renderer_validation import RendererValidation
from tasks.training.session import one_process
from tasks.training.state import MetricRows, SavedRun, read_run, weights_location
from tasks.training.validation import Validation, score

VERSION_LENGTH = 12
"""Hex digits of the weights' SHA-256."""
METRICS = "metrics.json"
STAGES = 3
"""New weights measured, published ones measured, files written."""


class Measured(NamedTuple):
    """Metrics of a network on the validation split, and why others are absent."""

    metrics: dict[str, float]
    absent: dict[str, str]


Measure = Callable[[str], Measured]
"""Measures the weights at a location; always on the same samples."""


@dataclass(frozen=True)
class Trained:
    """A training run that is to be published."""

    kind: Kind
    weights: Path
    """On this machine."""
    version: str
    header: CheckpointHeader
    run: SavedRun

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{NAMES[self.kind]} {self.version}"


@dataclass(frozen=True)
class Former:
    """The version in use, measured."""

    version: str
    score: float
    metrics: dict[str, float]


def publish_model(settings: PublishSettings, progress: Progress = silent, measure: Measure | None = None) -> PublishSummary:
    """Publishes the network of a training run if it does better than the one in use; says by how much it won or lost.

    Both are measured anew, on the validation split of the run's snapshot; `measure` takes the place of that. If somebody else
    publishes meanwhile, it is compared again, with theirs. Raises CheckpointError and StoreError for a run or corpus that
    cannot be read, SettingsError for licences.
    """
    try:
        with places.local_copy(weights_location(settings.run, settings.kind)) as weights:
            trained = read_trained(settings, weights)
            return Publishing(settings, trained, measure or measure_on_validation_split(settings, trained.run), progress).decide()
    except FileNotFoundError as error:
        raise CheckpointError(f"There are no weights to publish in {without_secrets(settings.run)}.") from error


def read_trained(settings: PublishSettings, weights: Path) -> Trained:
    """What a run left. CheckpointError when it is not there, cannot be read or is of the other network."""
    header = require_kind(read_header(str(weights)), settings.kind, settings.run)
    run = read_run(settings.run, settings.kind)
    if run is None:
        raise CheckpointError(f"There is no training state in {without_secrets(settings.run)}, which tells with which settings the network was trained.")
    return Trained(settings.kind, weights, file_hash(weights)[:VERSION_LENGTH], header, run)


class Publishing:
    """One network on its way into use."""

    def __init__(self, settings: PublishSettings, trained: Trained, measure: Measure, progress: Progress) -> None:
        self.settings = settings
        self.trained = trained
        self.measure = measure
        self.progress = progress
        self.location = current_location(settings.models, settings.kind)

    def decide(self) -> PublishSummary:
        """Measures, compares, and publishes what won."""
        current = read_current(self.location)
        if current is not None and current.version == self.trained.version:
            return self._published_before()
        new = self.measure(str(self.trained.weights))
        self.progress(1, STAGES, "new weights measured")
        while True:
            refused, former = self._compare(new, current)
            if refused:
                return self._summary(new, former, current.version if current else "", refused)
            self._write_version(new, former)
            meanwhile = read_current(self.location)
            if meanwhile == current:
                return self._put_into_use(new, former)
            current = meanwhile

    def _compare(self, new: Measured, current: Current | None) -> tuple[str, Former | None]:
        """Why the network is not published (empty: it is), and the version in use, where the two can be compared."""
        new_score = score(self.trained.kind, new.metrics)
        if not math.isfinite(new_score):
            return f"The {self.trained.name} is not published: its score is no number.", None
        header = self._header_in_use(current)
        if current is None or header is None:
            return "", None
        if (header.crop, header.mel) != (self.trained.header.crop, self.trained.header.mel):
            return self._cannot_be_compared(header, current), None
        measured = self.measure(self._weights(current))
        self.progress(2, STAGES, "published weights measured")
        former = Former(current.version, score(self.trained.kind, measured.metrics), measured.metrics)
        return self._why_it_lost(new_score, former), former

    def _header_in_use(self, current: Current | None) -> CheckpointHeader | None:
        """The header of the weights in use; None without any, and where somebody took them away."""
        if current is None or not places.exists(self._weights(current)):
            return None
        return read_header(self._weights(current))

    def _weights(self, current: Current) -> str:
        return version_location(self.settings.models, self.trained.kind, current.weights)

    def _cannot_be_compared(self, header: CheckpointHeader, current: Current) -> str:
        crops = (", ".join(f"{name} {value}" for name, value in its.crop.model_dump().items()) for its in (self.trained.header, header))
        return (
            f"The {self.trained.name} is not published: it was trained with crop {next(crops)} and version {current.version}, which stays in use, with"
            f" {next(crops)}, so they cannot be compared on one corpus; publish into another folder, or remove {without_secrets(self.location)} to begin anew."
        )

    def _why_it_lost(self, new_score: float, former: Former) -> str:
        """Empty when it won."""
        gain = new_score - former.score
        if gain > self.settings.min_gain:
            return ""
        compared = f"the {former.score:.6g} of version {former.version}, which stays in use"
        if gain > 0:
            how = f"better by only {gain:.3g} than {compared}, and {self.settings.min_gain:g} is asked for"
        else:
            how = f"worse by {-gain:.3g} than {compared}" if gain < 0 else f"no better than {compared}"
        return f"The {self.trained.name} is not published: its score {new_score:.6g} is {how}."

    def _put_into_use(self, new: Measured, former: Former | None) -> PublishSummary:
        kind, version = self.trained.kind, self.trained.version
        write_current(self.location, Current(version=version, weights=f"{version}/{kind}.safetensors"))
        self.progress(STAGES, STAGES, "published")
        new_score = score(kind, new.metrics)
        won = f"better by {new_score - former.score:.3g} than that of version {former.version}" if former else "and none was to be compared with"
        return self._summary(new, former, version, f"The {self.trained.name} is published: its score is {new_score:.6g}, {won}.")

    def _published_before(self) -> PublishSummary:
        """What is said again to whoever tries again."""
        location = version_location(self.settings.models, self.trained.kind, self.trained.version, METRICS)
        try:
            values = json.loads(places.read_bytes(location))
            new = Measured(values["metrics"], values["absent"])
            former = Former(**values["former"]) if values["former"] else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{without_secrets(location)} cannot be read, so it is not known how good the published version is.") from error
        return self._summary(new, former, self.trained.version, f"The {self.trained.name} is the published one already.")

    def _summary(self, new: Measured, former: Former | None, in_use: str, sentence: str) -> PublishSummary:
        kind = self.trained.kind
        return PublishSummary(
            kind=kind,
            published=in_use == self.trained.version,
            version=self.trained.version,
            location=version_location(self.settings.models, kind, in_use) if in_use else "",
            score=score(kind, new.metrics),
            former_score=former.score if former else None,
            metrics=new.metrics,
            former_metrics=former.metrics if former else {},
            sentence=sentence,
        )

    def _write_version(self, new: Measured, former: Former | None) -> None:
        """Writes the version's folder; nobody looks into it before `current.json` names it."""
        trained, kind = self.trained, self.trained.kind
        files = version_files(self.settings, trained, new, former)
        for name, content in files.items():
            places.write_bytes(version_location(self.settings.models, kind, trained.version, name), content.encode())
        places.put(trained.weights, version_location(self.settings.models, kind, trained.version, f"{kind}.safetensors"))


def version_files(settings: PublishSettings, trained: Trained, new: Measured, former: Former | None) -> dict[str, str]:
    """The texts that are published with the weights, by file name."""
    store = CorpusStore.open(settings.store)
    snapshot = store.snapshot(trained.run.snapshot)
    of_run = training_settings(settings, trained.run).model_dump(mode="json", include={*trained.run.settings, "store", "snapshot"})
    curves = curves_svg(MetricRows.until(settings.run, trained.run.position.step).rows)
    facts = ModelFacts(
        version=trained.version,
        header=trained.header,
        settings=of_run,
        snapshot=snapshot,
        data=training_data(store, snapshot, read_licences(settings.licences)),
        score=score(trained.kind, new.metrics),
        metrics=new.metrics,
        absent=new.absent,
        former_version=former.version if former else None,
        former_score=former.score if former else None,
        former_metrics=former.metrics if former else {},
        has_curves=bool(curves),
    )
    measured = {"kind": trained.kind, "version": trained.version, "step": trained.header.step, "snapshot": snapshot.name, "score": facts.score}
    measured |= {"metrics": new.metrics, "absent": new.absent, "former": vars(former) if former else None}
    files = {"README.md": model_card(facts), METRICS: json.dumps(measured, indent=2) + "\n", "settings.yaml": as_yaml(of_run)}
    return files | ({"curves.svg": curves} if curves else {})


def training_settings(settings: PublishSettings, run: SavedRun) -> AnyTraining:
    """The settings that a run was trained with, its store where it is now."""
    values = {**run.settings, "store": settings.store, "out": settings.run, "snapshot": run.snapshot, "device": settings.device}
    if settings.kind == "landmark-generator":
        return check_settings(LandmarkGeneratorTraining, values)
    return check_settings(RendererTraining, values)


def measure_on_validation_split(settings: PublishSettings, run: SavedRun) -> Measure:
    """Measures as the trainer does, on the validation split of the run's snapshot, which is read when the first weights are measured.

    Raises StoreError when the corpus or the snapshot is not there or holds other clips than the run read.
    """
    device = one_process(settings.device).device

    @functools.cache
    def opened() -> tuple[Validation, bool]:
        training = training_settings(settings, run)
        corpus = open_corpus(training, None, one_process("cpu"))
        if corpus.digest != run.snapshot_digest:
            raise StoreError(f"The snapshot {run.snapshot} of {without_secrets(settings.store)} holds other clips than the network was trained on.")
        return _validation(training, corpus, device), corpus.lessons.held_out

    def measure(weights: str) -> Measured:
        validation, is_held_out = opened()
        load: Callable[..., nn.Module] = load_landmark_generator if settings.kind == "landmark-generator" else load_renderer
        metrics = validation.measure(load(weights, device))
        return Measured(metrics if is_held_out else metrics | {HELD_OUT: 0.0}, dict(validation.absent))

    return measure


def _validation(training: AnyTraining, corpus: Corpus, device: torch.device) -> Validation:
    footage = corpus.lessons.validation
    if isinstance(training, LandmarkGeneratorTraining):
        return LandmarkValidation(footage, training, corpus.store.format.crop.size, device)
    return RendererValidation(footage, FacePictures(corpus.store, footage, training.cache, training.picture_cache_mb), training, device)
