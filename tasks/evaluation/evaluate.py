"""`dubmill evaluate`: pairs to rows, rows to figures, and both to files. The Ray job spreads the same worker over a cluster."""

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CheckpointError, DubmillError, MediaError
from schemas.gate import Gate
from schemas.jobs import Estimate, EvaluationPair, EvaluationSummary, MetricFigure, NotCompared
from schemas.locations import without_secrets
from schemas.settings import DubSettings, EvaluateSettings, MetricName
from schemas.tables import EVALUATED_CLIPS
from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.dubbing.generate import Networks, checkpoint_versions
from tasks.evaluation.evaluate_pair import Instruments, Row, evaluate_pair, failed_rows
from tasks.evaluation.evaluated_clips import CLIPS_TABLE, SUMMARY
from tasks.evaluation.feature_sums import FeatureSums, frechet_distance_of_sums
from tasks.evaluation.metrics import METRICS, wanted_metrics
from tasks.evaluation.pair_pictures import Sums
from tasks.evaluation.pairs import Pairs, find_pairs, snapshot_of
from tasks.evaluation.pooling import estimate, group_figures
from tasks.evaluation.self_reenactment import Dub, dub_settings, dubbed, dubbing_with
from tasks.file_hash import file_hash
from tasks.gate import judge
from tasks.progress import Progress
from tasks.version import code_version


@dataclass(frozen=True)
class EvaluationPlan:
    """What is to be done, settled before any work."""

    settings: EvaluateSettings
    """With the store's crop, where there is one."""
    pairs: Pairs
    dub: DubSettings | None
    """How the store's clips are dubbed."""
    models: dict[str, str]
    weights: dict[MetricName, str]
    """SHA-256 of the weights files by the metrics that need them."""


def plan_evaluation(settings: EvaluateSettings) -> EvaluationPlan:
    """Finds the pairs and looks at all files that are named. SettingsError, StoreError or CheckpointError for what cannot be used."""
    pairs = find_pairs(settings)
    dub = dub_settings(settings) if settings.store else None
    if settings.store:
        settings = settings.replaced(crop=CorpusStore.open(settings.store).format.crop.model_dump(), snapshot=snapshot_of(settings))
    models = checkpoint_versions(dub) if dub else {}
    return EvaluationPlan(settings, pairs, dub, models, _weights(settings))


def _weights(settings: EvaluateSettings) -> dict[MetricName, str]:
    wanted = wanted_metrics(settings)
    named = {name: getattr(settings, metric.weights) for name, metric in METRICS.items() if name in wanted and metric.weights}
    return {name: _hash(location) for name, location in named.items() if location}


def _hash(location: str) -> str:
    try:
        with places.local_copy(location) as path:
            return file_hash(path)
    except OSError as error:
        raise CheckpointError(f"The weights {without_secrets(location)} cannot be read: {error.strerror or error}.") from error


class PairWorker:
    """Does pairs one after the other, with networks that are loaded once; sums up Inception's features of all. A context manager."""

    def __init__(self, settings: EvaluateSettings, dub: DubSettings | None) -> None:
        self._out = settings.out
        self._instruments = Instruments(settings)
        self._dub: Dub | None = dubbing_with(dub, Networks.load(dub)) if dub else None

    def __call__(self, pair: EvaluationPair) -> list[Row]:
        """The two rows of a pair. What goes wrong with one pair is its rows' detail."""
        try:
            with tempfile.TemporaryDirectory(prefix="dubmill-") as folder:
                made = dubbed(pair, self._out, self._dub, Path(folder)) if self._dub else pair
            return evaluate_pair(made, self._instruments)
        except (MediaError, OSError) as error:
            return failed_rows(pair, without_secrets(str(error)))

    @property
    def sums(self) -> Sums:
        """Of Inception's features, by side, over the pairs so far."""
        return self._instruments.sums

    @property
    def absent(self) -> dict[str, str]:
        """Metrics that cannot be measured here, and why."""
        return dict(self._instruments.faces.absent)

    def __enter__(self) -> "PairWorker":
        return self

    def __exit__(self, *error: object) -> None:
        self._instruments.__exit__(None, None, None)


@dataclass
class Measured:
    """What came of all pairs."""

    rows: list[Row]
    sums: Sums
    absent: dict[str, str]


def evaluate_here(settings: EvaluateSettings, progress: Progress) -> EvaluationSummary:
    """Compares all pairs in this process. Raises DubmillErrors for what cannot be used; faults of one pair are its row's."""

    def measure(plan: EvaluationPlan) -> Measured:
        with PairWorker(plan.settings, plan.dub) as worker:
            rows = list(told(map(worker, plan.pairs.pairs), len(plan.pairs.pairs), progress))
            return Measured(rows, worker.sums, worker.absent)

    return evaluate(settings, measure)


def told(measured: Iterable[list[Row]], pairs: int, progress: Progress) -> Iterator[Row]:
    """The rows of pairs as they come; tells how many pairs are done."""
    progress(0, pairs, "pairs")
    for done, rows in enumerate(measured, start=1):
        yield from rows
        progress(done, pairs, "pairs compared")


def evaluate(settings: EvaluateSettings, measure: Callable[[EvaluationPlan], Measured]) -> EvaluationSummary:
    """Plans, measures, sums up and writes. `measure` says where the work is done."""
    plan = plan_evaluation(settings)
    measured = measure(plan)
    rows = sorted(measured.rows, key=lambda row: (str(row["name"]), str(row["side"])))
    _write_clips(plan.settings.out, rows)
    summary = summarize(plan, rows, measured)
    places.write_bytes(places.join(plan.settings.out, SUMMARY), summary.model_dump_json(indent=1).encode())
    if not summary.compared:
        reasons = "; ".join(dict.fromkeys(each.detail for each in summary.not_compared[:3]))
        raise DubmillError(f"Not one of {summary.pairs} pairs could be compared: {reasons.rstrip('.')}.")
    return summary


def _write_clips(out: str, rows: Sequence[Row]) -> None:
    table = pa.Table.from_pylist([{name: row.get(name) for name in EVALUATED_CLIPS.names} for row in rows], schema=EVALUATED_CLIPS)
    content = io.BytesIO()
    pq.write_table(table, content)
    places.write_bytes(places.join(out, CLIPS_TABLE), content.getvalue())


def summarize(plan: EvaluationPlan, rows: Sequence[Row], measured: Measured) -> EvaluationSummary:
    """The figures of rows that are in order of their pairs."""
    settings, wanted = plan.settings, [name for name in METRICS if name in wanted_metrics(plan.settings)]
    fid = _fid(measured.sums)
    figures = [_figure(name, plan, rows, fid) for name in wanted]
    absent: dict[str, str] = {figure.name: _why_absent(figure.name, settings, measured.absent) for figure in figures if figure.generated is None}
    bad = [row for row in rows if row["side"] == "generated" and row["status"] != "compared"]
    return EvaluationSummary(
        out=settings.out,
        pairs=len(plan.pairs.pairs),
        compared=len(plan.pairs.pairs) - len(bad),
        not_compared=tuple(NotCompared.model_validate({name: row.get(name) for name in NotCompared.model_fields}) for row in bad),
        unpaired=plan.pairs.unpaired,
        metrics=tuple(figure for figure in figures if figure.generated is not None),
        groups=tuple(group_figures(rows, wanted)),
        absent=absent,
        gate=_gate(figures, settings, absent),
        pictures=measured.sums["generated"].count if fid is not None else 0,
        crop=settings.crop,
        models=plan.models,
        snapshot=(settings.snapshot or "") if settings.store else "",
        seed=settings.seed,
        resamples=settings.resamples,
        dubmill=code_version(),
    )


def _gate(figures: Sequence[MetricFigure], settings: EvaluateSettings, absent: dict[str, str]) -> Gate:
    """Whether the generated video's figures are past the settings' thresholds."""
    values: dict[str, float] = {figure.name: figure.generated.value for figure in figures if figure.generated is not None}
    return judge(values, {str(name): limit for name, limit in settings.thresholds.items()}, absent)


def _fid(sums: Sums) -> float | None:
    empty = FeatureSums()
    return frechet_distance_of_sums(sums.get("generated", empty), sums.get("real", empty))


def _figure(name: MetricName, plan: EvaluationPlan, rows: Sequence[Row], fid: float | None) -> MetricFigure:
    metric, settings = METRICS[name], plan.settings
    sides = {side: estimate(name, rows, side, settings.resamples, settings.seed) for side in ("generated", "real")}
    if name == "fid" and fid is not None:
        clips = len({row["name"] for row in rows if row["status"] == "compared"})
        sides = {"generated": Estimate(value=fid, clips=clips), "real": Estimate(value=0.0, clips=clips, exact=True)}
    return MetricFigure(
        name=name, definition=metric.definition, better=metric.better, version=_version(metric.package), weights=plan.weights.get(name), **sides
    )


def _version(package: str | None) -> str:
    own = f"dubmill {code_version() or 'not installed'}"
    if package is None:
        return own
    try:
        return f"{own}, {package} {version(package)}"
    except PackageNotFoundError:
        return own


def _why_absent(name: MetricName, settings: EvaluateSettings, absent: dict[str, str]) -> str:
    setting = METRICS[name].weights
    if setting and getattr(settings, setting) is None:
        return f"The setting {setting} names no weights to measure it with."
    return absent.get(name, METRICS[name].nothing)
