"""Publishing: a trained network goes into use only if it does better than the published one on the validation clips it never learnt from.

A version is named by its weights, so that publishing again what is published changes nothing. `current.json` is written last: a
publishing that is killed leaves the former version in use. Nothing published is ever written over or removed.
"""

import functools
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from models.checkpoint import NAMES, read_header, require_kind
from schemas.checkpoints import CheckpointHeader, Kind
from schemas.errors import CheckpointError, StoreError
from schemas.jobs import PublishSummary
from schemas.locations import without_secrets
from schemas.settings import Limit, PublishSettings
from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.file_hash import file_hash
from tasks.gate import judge
from tasks.progress import Progress, silent
from tasks.published import Current, current_location, decision_location, read_current, replace_current, version_location
from tasks.training.curves import curves_svg
from tasks.training.data_sources import read_licences, training_data
from tasks.training.measuring import Measure, Measured, measure_on_validation_split, training_settings
from tasks.training.model_card import ModelFacts, as_yaml, model_card
from tasks.training.run import VERSION_LENGTH
from tasks.training.state import MetricRows, SavedRun, read_run, weights_location
from tasks.training.validation import score

log = logging.getLogger(__name__)

METRICS = "metrics.json"
STAGES = 3
"""New weights measured, published ones measured, files written."""


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
    def sha256(self) -> str:
        """Of the weights file."""
        return file_hash(self.weights)

    @property
    def store(self) -> str:
        """The corpus store that it was trained on."""
        return self.header.store or ""

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{NAMES[self.kind]} {self.version}"


class Former(NamedTuple):
    """The version in use, measured."""

    version: str
    score: float
    metrics: dict[str, float]


class Comparison(NamedTuple):
    """How a network does beside the one in use."""

    new: Measured
    score: float
    former: Former | None = None
    """None: there is none, or it cannot be compared."""
    refused: str = ""
    """Why the network is not published, in a sentence; empty: it is."""

    @property
    def gain(self) -> float:
        """By how much it is better."""
        return self.score - self.former.score if self.former else math.inf


def publish_model(settings: PublishSettings, progress: Progress = silent, measure: Measure | None = None) -> PublishSummary:
    """Publishes the network of a training run if it does better than the one in use; says by how much it won or lost.

    Both are measured anew, on the validation split of the run's snapshot; `measure` takes the place of that. If somebody else
    publishes meanwhile, it is compared again, with theirs. Raises CheckpointError and StoreError for a run or corpus that
    cannot be read, SettingsError for licences.
    """
    licences = read_licences(settings.licences)  # before anything is measured: a wrong file is told at once
    location = weights_location(settings.run, settings.kind)
    if not places.exists(location):
        raise CheckpointError(f"There is no {settings.kind}.safetensors to publish in {without_secrets(settings.run)}.")
    with places.local_copy(location) as weights:
        trained = read_trained(settings, weights)
        summary = Publishing(settings, licences, trained, measure or measure_on_validation_split(settings, trained.run), progress).decide()
    _keep_decision(settings.run, summary)
    return summary


def _keep_decision(run: str, summary: PublishSummary) -> None:
    """Leaves what was decided with the training run, for its page. It is decided all the same where that cannot be written."""
    try:
        places.write_bytes(decision_location(run), summary.model_dump_json(indent=1).encode())
    except (OSError, StoreError) as error:
        log.warning("the decision cannot be kept with the run: %s", error)


def read_trained(settings: PublishSettings, weights: Path) -> Trained:
    """What a run left. CheckpointError when it is not there, cannot be read or is of the other network."""
    header = require_kind(read_header(str(weights)), settings.kind, settings.run)
    run = read_run(settings.run, settings.kind)
    if run is None:
        raise CheckpointError(f"There is no training state in {without_secrets(settings.run)}, which tells with which settings the network was trained.")
    return Trained(settings.kind, weights, file_hash(weights)[:VERSION_LENGTH], header, run)


class Publishing:
    """One network on its way into use."""

    def __init__(self, settings: PublishSettings, licences: dict[str, str], trained: Trained, measure: Measure, progress: Progress) -> None:
        self.settings = settings
        self.licences = licences
        self.trained = trained
        self.measure = measure
        self.progress = progress
        self.location = current_location(settings.models, settings.kind)

    def decide(self) -> PublishSummary:
        """Measures, compares, and publishes what won."""
        while not self._is_in_use(current := read_current(self.location)):
            found = self._compare(current)
            if found.refused:
                return self._summary(found, current.version if current else "", found.refused)
            self._write_version(found)
            if replace_current(self.location, current, self._to_be_used()):
                return self._published_now(found)
        return self._published_before()

    def _is_in_use(self, current: Current | None) -> bool:
        return current is not None and current.version == self.trained.version

    def _to_be_used(self) -> Current:
        return Current(version=self.trained.version, weights=f"{self.trained.version}/{self.trained.kind}.safetensors")

    @property
    def _thresholds(self) -> dict[str, Limit]:
        """Of this kind of network: the two share the settings, and have few measures in common."""
        of_kind = self.settings.renderer_thresholds if self.trained.kind == "renderer" else self.settings.landmark_generator_thresholds
        return {str(name): limit for name, limit in of_kind.items()}

    @functools.cached_property
    def _new(self) -> Measured:
        measured = self.measure(str(self.trained.weights))
        self.progress(1, STAGES, "new weights measured")
        return measured

    def _compare(self, current: Current | None) -> Comparison:
        """Measures the version in use, where there is one that can be compared."""
        found = Comparison(self._new, self._score(self._new))
        if not math.isfinite(found.score):
            return found._replace(refused=f"The {self.trained.name} is not published: its score is no number.")
        gate = judge(self._new.metrics, self._thresholds, self._new.absent)
        if not gate.is_open:
            return found._replace(refused=f"The {self.trained.name} is not published: {gate.sentence}")
        header = self._header_in_use(current)
        if current is None or header is None:
            return found
        if (header.crop, header.mel) != (self.trained.header.crop, self.trained.header.mel):
            return found._replace(refused=self._cannot_be_compared(header, current))
        former = self.measure(self._weights(current))
        self.progress(2, STAGES, "published weights measured")
        return self._judged(found._replace(former=Former(current.version, self._score(former), former.metrics)))

    def _score(self, measured: Measured) -> float:
        return score(self.trained.kind, measured.metrics, self.trained.header.crop.size)

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

    def _judged(self, found: Comparison) -> Comparison:
        """With the reason for which it lost, if it did."""
        if found.former is None or found.gain > self._gain_asked_for(found.former):
            return found
        compared = f"the {found.former.score:.6g} of version {found.former.version}, which stays in use"
        if found.gain > 0:
            asked_for = f"more than {self._gain_asked_for(found.former):.3g} (min_gain_share {self.settings.min_gain_share:g}) is asked for"
            how = f"better by only {found.gain:.3g} than {compared}, and {asked_for}"
        else:
            how = f"worse by {-found.gain:.3g} than {compared}" if found.gain < 0 else f"no better than {compared}"
        return found._replace(refused=f"The {self.trained.name} is not published: its score {found.score:.6g} is {how}.")

    def _gain_asked_for(self, former: Former) -> float:
        return self.settings.min_gain_share * abs(former.score)

    def _published_now(self, found: Comparison) -> PublishSummary:
        self.progress(STAGES, STAGES, "published")
        won = f"better by {found.gain:.3g} than that of version {found.former.version}" if found.former else "and none was to be compared with"
        kept = " Its folder was there already and stays as it was." if self._was_there else ""
        return self._summary(found, self.trained.version, f"The {self.trained.name} is published: its score is {found.score:.6g}, {won}.{kept}")

    def _published_before(self) -> PublishSummary:
        """What is said again to whoever tries again."""
        location = version_location(self.settings.models, self.trained.kind, self.trained.version, METRICS)
        try:
            values = json.loads(places.read_bytes(location))
            former = Former(**values["former"]) if values["former"] else None
            found = Comparison(Measured(values["metrics"], values["absent"]), values["score"], former)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{without_secrets(location)} cannot be read, so it is not known how good the published version is.") from error
        return self._summary(found, self.trained.version, f"The {self.trained.name} is the published one already.")

    def _summary(self, found: Comparison, in_use: str, sentence: str) -> PublishSummary:
        kind = self.trained.kind
        return PublishSummary(
            kind=kind,
            published=in_use == self.trained.version,
            version=self.trained.version,
            sha256=self.trained.sha256,
            snapshot=self.trained.run.snapshot,
            store=self.trained.store,
            location=version_location(self.settings.models, kind, in_use) if in_use else "",
            score=found.score,
            former_score=found.former.score if found.former else None,
            metrics=found.new.metrics,
            former_metrics=found.former.metrics if found.former else {},
            sentence=sentence,
        )

    @functools.cached_property
    def _was_there(self) -> bool:
        """Whether the version's folder was whole before this publishing: in use once, or left by one that was killed."""
        return places.exists(self._weights(self._to_be_used()))

    def _write_version(self, found: Comparison) -> None:
        """Writes the version's folder, the weights last; nobody looks into it before `current.json` names it. One that was whole stays."""
        if self._was_there:
            return
        kind, version = self.trained.kind, self.trained.version
        for name, content in version_files(self.settings, self.licences, self.trained, found).items():
            places.write_bytes(version_location(self.settings.models, kind, version, name), content.encode())
        places.put(self.trained.weights, self._weights(self._to_be_used()))


def version_files(settings: PublishSettings, licences: dict[str, str], trained: Trained, found: Comparison) -> dict[str, str]:
    """The texts that are published with the weights, by file name; licences by source."""
    store = CorpusStore.open(settings.store)
    snapshot = store.snapshot(trained.run.snapshot)
    of_run = training_settings(settings, trained.run).model_dump(mode="json", include={*trained.run.settings, "store", "snapshot"})
    curves = curves_svg(MetricRows.until(settings.run, trained.run.position.step).rows)
    facts = ModelFacts(
        version=trained.version,
        header=trained.header,
        settings=of_run,
        snapshot=snapshot,
        data=training_data(store, snapshot, licences),
        score=found.score,
        metrics=found.new.metrics,
        absent=found.new.absent,
        former_version=found.former.version if found.former else None,
        former_score=found.former.score if found.former else None,
        former_metrics=found.former.metrics if found.former else {},
        has_curves=bool(curves),
        sha256=trained.sha256,
    )
    measured = {"kind": trained.kind, "version": trained.version, "step": trained.header.step, "snapshot": snapshot.name, "score": found.score}
    measured |= {"sha256": trained.sha256, "snapshot_checksum": trained.header.snapshot_checksum, "store": trained.store}
    measured |= {"metrics": found.new.metrics, "absent": found.new.absent, "former": found.former._asdict() if found.former else None}
    files = {"README.md": model_card(facts), METRICS: json.dumps(measured, indent=2) + "\n", "settings.yaml": as_yaml(of_run)}
    return files | ({"curves.svg": curves} if curves else {})
