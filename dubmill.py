"""The command line of dubmill: it reads what a person asked for, calls the task or the job, and says how it went."""

import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from json import dumps as json_text
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer import TyperException
from typer.core import TyperCommand

from schemas.errors import DubmillError, SettingsError, StoreError
from schemas.jobs import BulkDubSummary, EvaluationSummary, IngestSummary
from schemas.settings import (
    AnySettings,
    BulkDubSettings,
    DubSettings,
    EvaluateSettings,
    FinetuneSettings,
    IngestSettings,
    LandmarkGeneratorTraining,
    PublishSettings,
    RendererTraining,
    ReviewSettings,
    Settings,
    SnapshotSettings,
    check_settings,
    read_settings,
    settings_guide,
)
from tasks.interruption import Interruption, interrupted_by_signals
from tasks.patient_threads import let_waiting_threads_sleep
from tasks.progress import Progress, show_progress
from tasks.training.torchrun import is_under_torchrun, prints_here

let_waiting_threads_sleep()

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Talking-head footage in; training data, models and dubbed video out.",
)
corpus = typer.Typer(no_args_is_help=True, help="Look at a corpus store, check it, choose clips from it.")
train = typer.Typer(no_args_is_help=True, help="Train one of the two networks on a corpus store.")
checkpoint = typer.Typer(no_args_is_help=True, help="Import published weights; say what a checkpoint holds.")
template = typer.Typer(no_args_is_help=True, help="What is kept of a video between dubs.")
report = typer.Typer(no_args_is_help=True, help="Write one self-contained HTML page.")
app.add_typer(corpus, name="corpus")
app.add_typer(train, name="train")
app.add_typer(checkpoint, name="checkpoint")
app.add_typer(template, name="template")
app.add_typer(report, name="report")

SettingsFile = Annotated[
    str | None,
    typer.Option(
        "--settings", help="Flat YAML file (path or URI) with any of this command's settings, as `dubmill settings` prints them; options given here win."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")]
Ray = Annotated[str, typer.Option("--ray", help="none: in this process; local: a Ray of its own on this machine; http://HOST:8265: a cluster's job API.")]
Templates = Annotated[str, typer.Argument(help="Folder or s3:// prefix that keeps the templates.")]
Store = Annotated[str, typer.Argument(help="Folder or s3:// prefix of the corpus store.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")]


NAMED_OTHERWISE = {"start_from": "--from", "sources": "sources", "videos": "videos", "run": "run", "jobs": "jobs", "dub_settings": "dub_settings"}
"""What the command line calls settings that are no option of their own name: the last ones are arguments."""
MOST_SHOWN = 20
"""Names of a list that are printed for people."""
LEADER_FIRST_S = 5.0
"""Seconds before one of torchrun's workers that does not lead tells of an error: mostly the one that leads has the same, says it, and
torchrun then ends the others."""


class Kind(StrEnum):
    """The two networks."""

    LANDMARK_GENERATOR = "landmark-generator"
    RENDERER = "renderer"


class SettingsOf(StrEnum):
    """Commands that take a settings file."""

    INGEST = "ingest"
    SNAPSHOT = "snapshot"
    LANDMARK_GENERATOR = "landmark-generator"
    RENDERER = "renderer"
    FINETUNE = "finetune"
    PUBLISH = "publish"
    DUB = "dub"
    BULK_DUB = "bulk-dub"
    EVALUATE = "evaluate"
    REVIEW = "review"


class ExchangeFormat(StrEnum):
    """What a corpus is exchanged as."""

    IPLAP = "iplap"


def _option(kind: type[Settings], name: str, said: str) -> Any:
    """An option for a setting; its help ends with the setting's own default, where there is one to show, or says that it must be given."""
    field = kind.model_fields[name]
    if field.is_required():
        return typer.Option(help=f"{said}  [required, unless in --settings]")
    return typer.Option(help=f"{said}  [default: {field.default}]" if isinstance(field.default, str | int | float) else said)


def _settings(kind: type[AnySettings], file: str | None, /, **options: object) -> AnySettings:
    return _checked(kind, read_settings(file) if file else {}, options)


def _settings_of_dub(file: str | None, /, **options: object) -> DubSettings:
    """Those of a dub for a command that can do without its networks."""
    return _checked(DubSettings, {"landmark_generator": "", "renderer": ""} | (read_settings(file) if file else {}), options)


def _checked(kind: type[AnySettings], values: dict[str, object], options: dict[str, object]) -> AnySettings:
    """Settings of a file, over which options that were given win; an error calls them what the person did: a field of the file, or an option."""
    given = {name: value for name, value in options.items() if value is not None}
    called = {name: NAMED_OTHERWISE.get(name, f"--{name.replace('_', '-')}") for name in options if name in given or name not in values}
    return check_settings(kind, values | given, called)


def _say(summary: Settings | dict[str, Any], as_json: bool) -> None:
    values = summary.model_dump(mode="json") if isinstance(summary, Settings) else summary
    if as_json:
        print(json_text(values, ensure_ascii=False))
        return
    for name, value in values.items():
        print(f"{name.replace('_', ' ')}: {_text(value)}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} → {of or 'nothing'}" if isinstance(of, str) else f"{name} {_text(of)}" for name, of in value.items()) or "none"
    if isinstance(value, list):
        more = [f"and {len(value) - MOST_SHOWN} more (--json shows them)"] if len(value) > MOST_SHOWN else []
        return ", ".join([*map(str, value[:MOST_SHOWN]), *more]) or "none"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _say_in_words(summary: Settings, as_json: bool) -> None:
    """A summary, with what is nested in it as words."""
    values = summary.model_dump(mode="json")
    _say(values if as_json else {name: _words(value) for name, value in values.items()}, as_json)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(of)}" for name, of in value.items()) or "none"
    if not isinstance(value, list):
        return _text(value)
    more = [f"and {len(value) - MOST_SHOWN} more (--json shows them)"] if len(value) > MOST_SHOWN else []
    return "; ".join([*map(_words, value[:MOST_SHOWN]), *more]) or "none"


def _run(job: str, here: str, settings: Settings, ray: str, title: str) -> Any:
    """Runs a job where `--ray` says: `here` names the function (module:function) that does it in this process."""
    if ray not in ("none", "local") and not ray.startswith(("http://", "https://")):
        raise SettingsError(f"--ray is none, local or the address of a cluster's job API such as http://head:8265, not {ray}.")
    with show_progress(title) as progress:
        if ray == "none":
            return _function(here)(settings, progress)
        if ray == "local":
            return importlib.import_module(f"ray_jobs.{job}").run(settings, progress)
        return _submit(ray, job, settings, progress)


def _function(place: str) -> Any:
    """The function at module:function, imported now: the libraries behind it take seconds."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def _submit(address: str, job: str, settings: Settings, progress: Progress) -> Any:
    from ray_jobs.cluster import submit  # loads Ray

    return submit(address, f"ray_jobs.{job}", settings, progress)


@app.command(epilog="Example: dubmill ingest footage/ --store corpus/ --speakers speakers.csv")
def ingest(
    sources: Annotated[list[str] | None, typer.Argument(help="Folders, files or s3:// prefixes.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder or s3:// prefix of the corpus store.")] = None,
    layout: Annotated[str | None, typer.Option(help="How sources are arranged: auto (the default), folder, lrs2 or cmlr.")] = None,
    pretrain: Annotated[bool, typer.Option("--pretrain", help="With lrs2: take its pretrain folder too.")] = False,
    speakers: Annotated[str | None, typer.Option(help="CSV file with the columns source, speaker.")] = None,
    detector: Annotated[str | None, typer.Option(help="What finds a face: mediapipe (the default), dlib or both.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Of several faces: largest (the default), moving-lips or all.")] = None,
    settings: SettingsFile = None,
    ray: Ray = "none",
    json: Json = False,
) -> None:
    """Footage in, clips in a corpus store out. Only what is new is read."""
    options = {"store": store, "layout": layout, "pretrain": pretrain or None, "speakers": speakers, "detector": detector, "speaker": speaker}
    wanted = _settings(IngestSettings, settings, sources=tuple(sources) if sources else None, **options)
    summary = IngestSummary.model_validate(_run("ingest", "tasks.corpus.ingest:ingest_here", wanted, ray, "ingest"), from_attributes=True)
    _say(summary if json else summary.model_dump(mode="json", exclude={"corpus_batches", "corpus_clips", "corpus_version"}), json)
    if not summary.sources:
        print("No footage was found there: a source is a file with the suffix of a video.", file=sys.stderr)
    elif summary.known:
        print("Known sources are not read again: speakers and ways of cutting that changed since count for new ones.", file=sys.stderr)


@corpus.command("stats", epilog="Example: dubmill corpus stats corpus/")
def stats(store: Store, json: Json = False) -> None:
    """Counts, hours and why footage was turned away."""
    from tasks.corpus.stats import corpus_stats, stats_table

    summary = corpus_stats(store)
    if json:
        _say(summary, json)
        return
    rows = stats_table(summary)
    width = max(len(what) for what, _ in rows)
    print("\n".join(f"{what:<{width}}  {how_much}".rstrip() for what, how_much in rows))


@corpus.command("show", epilog="Example: dubmill corpus show corpus/ 0123456789abcdef-s0t0")
def show(store: Store, clip_id: Annotated[str, typer.Argument(help="A clip's id, as in the clips tables.")], json: Json = False) -> None:
    """All that the store knows of one clip."""
    from tasks.corpus.stats import show_clip

    _say(show_clip(store, clip_id), json)


@corpus.command("verify", epilog="Example: dubmill corpus verify corpus/")
def verify(store: Store, json: Json = False) -> None:
    """Reads back every row and every picture; names each fault."""
    from tasks.corpus.verify import unfinished_batches, verify_store

    with show_progress("verify") as progress:
        faults = verify_store(store, progress)
    if json:
        print(json_text({"store": store, "faults": faults}))
    else:
        print("\n".join(faults) if faults else f"{store} is sound: every row and every picture of its finished batches was read back.")
        if waiting := unfinished_batches(store):
            print(f"Planned and not finished: {waiting}. The next ingest goes on with them.")
    if faults:
        raise StoreError(f"{store} has {len(faults)} faults; what they touch can be ingested again into a new store.")


@corpus.command("snapshot", short_help="Chosen clips, split for training.", epilog="Example: dubmill corpus snapshot corpus/ --name first")
def snapshot(
    store: Store,
    name: Annotated[str | None, typer.Option(help="Name of the snapshot; default: made from its content.")] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Chooses clips, splits them into train, val and test, and writes that down for training."""
    from tasks.corpus.snapshot import freeze_snapshot
    from tasks.corpus.store import CorpusStore

    frozen = freeze_snapshot(CorpusStore.open(store), _settings(SnapshotSettings, settings, name=name))
    if json:
        print(frozen.model_dump_json())
        return
    counts = {split: sum(clip.split == split for clip in frozen.clips) for split in ("train", "val", "test")}
    print(f"snapshot {frozen.name}: {_text(counts)}; split by {frozen.split_by}; left out: {_text(frozen.left_out)}")


@corpus.command("export", epilog="Example: dubmill corpus export corpus/ iplap/ --format iplap --snapshot first")
def export(
    store: Store,
    out: Annotated[str, typer.Argument(help="Folder to write.")],
    file_format: Annotated[ExchangeFormat, typer.Option("--format", help="iplap: the folders that IP_LAP's own training reads.")] = ExchangeFormat.IPLAP,
    snapshot: Annotated[str | None, typer.Option(help="Only the clips of this snapshot, in its splits; default: one is frozen first.")] = None,
    json: Json = False,
) -> None:
    """Clips as other training code wants them."""
    from tasks.corpus.exchange import export_iplap

    with show_progress(f"export {file_format}") as progress:
        summary = export_iplap(store, out, snapshot, progress)
    _say(summary, json)


@corpus.command("import", epilog="Example: dubmill corpus import corpus/ preprocessed/ --format iplap")
def import_(
    store: Store,
    folder: Annotated[str, typer.Argument(help="Folder of what was preprocessed elsewhere.")],
    file_format: Annotated[ExchangeFormat, typer.Option("--format", help="iplap: the folders that IP_LAP's preprocessing writes.")] = ExchangeFormat.IPLAP,
    json: Json = False,
) -> None:
    """What was preprocessed elsewhere, as batches of a store."""
    from tasks.corpus.exchange import import_iplap

    with show_progress(f"import {file_format}") as progress:
        summary = import_iplap(folder, store, progress)
    _say(summary, json)


@corpus.command(
    "forget",
    short_help="Takes a person or a clip out for good.",
    epilog="Example: dubmill corpus forget corpus/ --speaker anna --also models/ --also dubs/ --dry-run",
)
def forget_(
    store: Store,
    speaker: Annotated[list[str] | None, typer.Option(help="A person to take out; may be given several times.")] = None,
    clip: Annotated[list[str] | None, typer.Option(help="A clip to take out, by its id; may be given several times.")] = None,
    also: Annotated[list[str] | None, typer.Option(help="Folders of models and dubs in which to look for that person.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Takes a person or a clip out for good, and lists what else holds them."""
    from tasks.corpus.forget import forget

    with show_progress("forget") as progress:
        summary = forget(store, tuple(speaker or ()), tuple(clip or ()), tuple(also or ()), dry_run, progress)
    _say(summary, json)
    if summary.not_found:
        raise StoreError(f"{store} holds nothing of {', '.join(summary.not_found)}.")


@corpus.command("gc", short_help="Deletes what no snapshot names.", epilog="Example: dubmill corpus gc corpus/ --older-than-days 30 --dry-run")
def collect(
    store: Store,
    older_than_days: Annotated[float, typer.Option(min=0, help="What is younger is left alone.")] = 30.0,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Deletes batches that no snapshot names, and what killed runs left behind."""
    from tasks.corpus.collect import collect_garbage

    with show_progress("gc") as progress:
        summary = collect_garbage(store, older_than_days, dry_run, progress)
    _say(summary, json)


@train.command("landmark-generator", epilog="Example: dubmill train landmark-generator --store corpus/ --out trained/landmarks --preset small --steps 2000")
def train_landmark_generator(
    store: Annotated[str | None, _option(LandmarkGeneratorTraining, "store", "Corpus store to train on.")] = None,
    out: Annotated[str | None, _option(LandmarkGeneratorTraining, "out", "Folder for weights and state.")] = None,
    snapshot: Annotated[str | None, _option(LandmarkGeneratorTraining, "snapshot", "Name of a snapshot; default: one is frozen first.")] = None,
    preset: Annotated[str | None, _option(LandmarkGeneratorTraining, "preset", "published or small.")] = None,
    steps: Annotated[int | None, _option(LandmarkGeneratorTraining, "steps", "Steps in all.")] = None,
    batch_size: Annotated[int | None, _option(LandmarkGeneratorTraining, "batch_size", "Samples a step.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state in --out.")] = False,
    settings: SettingsFile = None,
    ray: Ray = "none",
    json: Json = False,
) -> None:
    """Speech and head pose to mouth and jaw landmarks."""
    wanted = _settings(
        LandmarkGeneratorTraining, settings, store=store, out=out, snapshot=snapshot, preset=preset, steps=steps, batch_size=batch_size, resume=resume or None
    )
    _train("train_landmark_generator", "tasks.training.landmark_generator:train_landmark_generator", wanted, ray, json)


@train.command("renderer", epilog="Example: dubmill train renderer --store corpus/ --out trained/renderer --preset small --steps 2000")
def train_renderer(
    store: Annotated[str | None, _option(RendererTraining, "store", "Corpus store to train on.")] = None,
    out: Annotated[str | None, _option(RendererTraining, "out", "Folder for weights and state.")] = None,
    snapshot: Annotated[str | None, _option(RendererTraining, "snapshot", "Name of a snapshot; default: one is frozen first.")] = None,
    preset: Annotated[str | None, _option(RendererTraining, "preset", "published or small.")] = None,
    steps: Annotated[int | None, _option(RendererTraining, "steps", "Steps in all.")] = None,
    batch_size: Annotated[int | None, _option(RendererTraining, "batch_size", "Samples a step.")] = None,
    size: Annotated[int | None, _option(RendererTraining, "size", "Side of the face picture: 128 or 256.")] = None,
    perceptual_weights: Annotated[
        str | None, _option(RendererTraining, "perceptual_weights", "VGG-19 features, or a published renderer checkpoint that carries them.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state in --out.")] = False,
    settings: SettingsFile = None,
    ray: Ray = "none",
    json: Json = False,
) -> None:
    """A landmark sketch and reference pictures to a face."""
    wanted = _settings(
        RendererTraining,
        settings,
        store=store,
        out=out,
        snapshot=snapshot,
        preset=preset,
        steps=steps,
        batch_size=batch_size,
        size=size,
        perceptual_weights=perceptual_weights,
        resume=resume or None,
    )
    _train("train_renderer", "tasks.training.renderer:train_renderer", wanted, ray, json)


def _train(job: str, here: str, settings: Settings, ray: str, as_json: bool) -> None:
    """Runs a training; of torchrun's workers only the one that leads speaks."""
    if ray != "none" and is_under_torchrun():
        raise SettingsError("torchrun and --ray both start workers; use one of them.")
    with _stopping("go on with --resume"):
        if prints_here():
            _say(_run(job, here, settings, ray, job.replace("_", " ")), as_json)
        else:
            _function(here)(settings)


@contextmanager
def _stopping(how_to_go_on: str, otherwise: str = "Stopped before the first step") -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work with a sentence that says how far it came (`otherwise`: where it does not know), and with the exit code of the signal."""
    try:
        with interrupted_by_signals():
            yield
    except Interruption as interruption:
        if prints_here():
            _complain(f"{interruption.sentence or otherwise}; {how_to_go_on}.")
        raise typer.Exit(interruption.exit_code) from interruption


@app.command(short_help="Both networks, adapted to one person.", epilog="Example: dubmill finetune anna.mp4 --from trained/ --out anna/")
def finetune(
    videos: Annotated[list[str] | None, typer.Argument(help="Videos of one person; five minutes are plenty, half a minute is something.")] = None,
    start_from: Annotated[str | None, typer.Option("--from", help="Folder with landmark-generator.safetensors and renderer.safetensors.")] = None,
    out: Annotated[str | None, _option(FinetuneSettings, "out", "Folder for the adapted weights and what they were made from.")] = None,
    steps: Annotated[int | None, _option(FinetuneSettings, "steps", "Most steps of each network.")] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Both networks adapted to one person; the end of each video is held out and says when to stop."""
    from tasks.training.finetune import finetune as adapt

    wanted = _settings(FinetuneSettings, settings, videos=tuple(videos) if videos else None, start_from=start_from, out=out, steps=steps)
    with _stopping("give the same command again to go on"), show_progress("finetune") as progress:
        summary = adapt(wanted, progress)
    if json:
        _say(summary, json)
        return
    for run in (summary.landmark_generator, summary.renderer):
        print(f"{run.kind}: {_before_and_after(run.metrics_at_start, run.metrics)}; weights of step {run.best_step} of {run.step}, {run.checkpoint}")
    for kind in summary.unchanged:
        print(f"{kind}: no step was better on what was held out, so the weights are those you started from.")


def _before_and_after(before: dict[str, float], after: dict[str, float]) -> str:
    return ", ".join(f"{name} {_text(value)} → {_text(after[name])}" for name, value in before.items() if name in after)


@app.command(
    short_help="Puts a trained network into use, if it is better.",
    epilog="Example: dubmill publish trained/landmarks --kind landmark-generator --store corpus/ --models models/",
)
def publish(
    run: Annotated[str | None, typer.Argument(help="The --out folder of a training run.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Which network it holds.")] = None,
    store: Annotated[str | None, typer.Option(help="Corpus store that it was trained on.")] = None,
    models: Annotated[str | None, typer.Option(help="Folder or s3:// prefix of published models.")] = None,
    licences: Annotated[str | None, typer.Option(help="CSV file with the columns source, licence, for the model card.")] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Puts a trained network into use if it beats the one in use on held-out clips; writes its model card."""
    from tasks.training.publish import publish_model

    wanted = _settings(PublishSettings, settings, run=run, kind=kind.value if kind else None, store=store, models=models, licences=licences)
    with show_progress("publish") as progress:
        summary = publish_model(wanted, progress)
    if json:
        _say(summary, json)
    else:
        print(summary.sentence)


@checkpoint.command(
    "import",
    short_help="Published weights to a dubmill checkpoint.",
    epilog="Example: dubmill checkpoint import landmark_generator.pth --kind landmark-generator --out landmarks.safetensors",
)
def checkpoint_import(
    published: Annotated[str, typer.Argument(help="A published .pth of IP_LAP or LIP_MASK.")],
    kind: Annotated[Kind, typer.Option(help="Which network it holds.")],
    out: Annotated[str, typer.Option(help="The .safetensors file to write.")],
    json: Json = False,
) -> None:
    """Published weights to a dubmill checkpoint; a renderer's VGG-19 features are kept beside it."""
    from models.iplap import import_iplap

    _say_in_words(import_iplap(published, kind.value, out), json)


@checkpoint.command("info", short_help="What a checkpoint says of itself.", epilog="Example: dubmill checkpoint info landmarks.safetensors")
def checkpoint_info(location: Annotated[str, typer.Argument(help="A .safetensors file.")], json: Json = False) -> None:
    """What a checkpoint says of itself: network, crop, mel, steps, metrics."""
    from models.checkpoint import read_header
    from tasks.published import weights_in_use

    _say_in_words(read_header(weights_in_use(location)), json)


class DubCommand(TyperCommand):
    """A command with more settings than options: what is given as an option and is none of them is told its place."""

    kind: type[Settings] = DubSettings

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments that are left; an unknown option that has the name of a setting is told to go into a settings file."""
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            option = str(getattr(error, "option_name", ""))
            if (name := option.lstrip("-").replace("-", "_")) in self.kind.model_fields:
                error.message = f"{option} is no option but a setting: write `{name}: …` into a file for --settings{self.otherwise(name)}."
                error.__dict__["possibilities"] = None  # of options that are spelled alike
            raise

    def otherwise(self, _: str) -> str:
        """Where else the setting may stand."""
        return ""


class BulkDubCommand(DubCommand):
    """As `DubCommand`, of a list."""

    kind = BulkDubSettings

    def otherwise(self, name: str) -> str:
        """Most settings of a single dub may be columns."""
        from tasks.dubbing.job_list import OF_A_ROW

        return ", or make it a column of the list where jobs differ in it" if name in OF_A_ROW else ""


@app.command(cls=DubCommand, short_help="Can this be dubbed, how well, at what cost?", epilog="Example: dubmill check presenter.mp4 speech.wav")
def check(
    video: Annotated[str, typer.Argument(help="A video of a face, or a still picture.")],
    speech: Annotated[str | None, typer.Argument(help="The speech that it is to say.")] = None,
    landmark_generator: Annotated[str | None, typer.Option(help="Checkpoint of the landmark generator, for its crop; without one the default crop.")] = None,
    renderer: Annotated[str | None, typer.Option(help="Checkpoint of the renderer, for its crop and size.")] = None,
    references: Annotated[int | None, _option(DubSettings, "references", "Reference pictures.")] = None,
    fps: Annotated[str | None, _option(DubSettings, "fps", "source or 25.")] = None,
    loop: Annotated[str | None, _option(DubSettings, "loop", "Speech longer than the video: forth-and-back or cut.")] = None,
    face: Annotated[str | None, _option(DubSettings, "face", "largest, speaking, left, right, a number, or a picture of the person.")] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Can this be dubbed, how well, and at what cost? Renders nothing and needs no GPU; settings are those of `dubmill dub`."""
    from tasks.dubbing.check import check_lines, check_video, limits_of

    options = {"landmark_generator": landmark_generator, "renderer": renderer, "references": references, "fps": fps, "loop": loop, "face": face}
    limits = limits_of(_settings_of_dub(settings, **options))
    with show_progress("check") as progress:
        summary = check_video(video, speech, limits, progress)
    print(summary.model_dump_json() if json else "\n".join(check_lines(summary)))


@app.command(
    cls=DubCommand,
    epilog="Example: dubmill dub presenter.mp4 speech.wav --out dubbed.mp4 --landmark-generator landmarks.safetensors --renderer renderer.safetensors",
)
def dub(
    video: Annotated[str, typer.Argument(help="A video of a face, or a still picture.")],
    speech: Annotated[str, typer.Argument(help="The speech that the mouth is to say.")],
    out: Annotated[str, typer.Option(help="The .mp4 file to write.")],
    landmark_generator: Annotated[str | None, _option(DubSettings, "landmark_generator", "Checkpoint of the landmark generator.")] = None,
    renderer: Annotated[str | None, _option(DubSettings, "renderer", "Checkpoint of the renderer.")] = None,
    references: Annotated[int | None, _option(DubSettings, "references", "Reference pictures.")] = None,
    fps: Annotated[str | None, _option(DubSettings, "fps", "source or 25.")] = None,
    loop: Annotated[str | None, _option(DubSettings, "loop", "Speech longer than the video: forth-and-back or cut.")] = None,
    face: Annotated[str | None, _option(DubSettings, "face", "largest, speaking, left, right, a number, or a picture of the person.")] = None,
    soundtrack: Annotated[str | None, _option(DubSettings, "soundtrack", "The sound that the output carries; default: the speech.")] = None,
    precision: Annotated[str | None, _option(DubSettings, "precision", "fp32, bf16 or fp16.")] = None,
    templates: Annotated[str | None, _option(DubSettings, "templates", "Folder or prefix that keeps what depends on the video alone.")] = None,
    patch: Annotated[str | None, _option(DubSettings, "patch", "Folder for the faces alone, with alpha, for editors.")] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """One video and one speech to one dubbed video."""
    from tasks.dubbing.dub import dub_video
    from tasks.dubbing.summary_lines import dub_lines

    given = {"references": references, "fps": fps, "loop": loop, "face": face, "soundtrack": soundtrack, "precision": precision}
    given |= {"landmark_generator": landmark_generator, "renderer": renderer, "templates": templates, "patch": patch}
    with _stopping("nothing was written", "Stopped"), show_progress("dub") as progress:
        summary = dub_video(video, speech, out, _settings(DubSettings, settings, **given), progress)
    print(summary.model_dump_json() if json else "\n".join(dub_lines(summary)))


@template.command("warm", cls=DubCommand, epilog="Example: dubmill template warm templates/ presenter.mp4 --settings dub.yaml")
def template_warm(
    location: Templates,
    videos: Annotated[list[str], typer.Argument(help="Videos or still pictures.")],
    landmark_generator: Annotated[str | None, _option(DubSettings, "landmark_generator", "Checkpoint of the landmark generator.")] = None,
    renderer: Annotated[str | None, _option(DubSettings, "renderer", "Checkpoint of the renderer.")] = None,
    settings: SettingsFile = None,
    json: Json = False,
) -> None:
    """Look at videos now, so that their dubs need not. Prints the key of each; one that cannot be used does not keep the others from it."""
    from tasks.dubbing.warm import warm_templates

    wanted = _settings(DubSettings, settings, landmark_generator=landmark_generator, renderer=renderer, templates=location)
    with show_progress("template") as progress:
        keys, faults = warm_templates(videos, wanted, progress)
    if json:
        print(json_text(keys, ensure_ascii=False))
    else:
        print("".join(f"{key}  {video}\n" for video, key in keys.items()), end="")
    for fault in faults[:-1]:
        _complain(str(fault))
    if faults:
        raise faults[-1]


@template.command("list", short_help="What is kept, and until when.", epilog="Example: dubmill template list templates/ --settings dub.yaml")
def template_list(location: Templates, settings: SettingsFile = None, json: Json = False) -> None:
    """What is kept, the last used first, and when it goes: by the settings' `templates_max_age_days` and `templates_max_gb`, or their defaults."""
    from tasks.dubbing.template_store import TemplateStore, list_lines

    store = TemplateStore(location, _settings_of_dub(settings).template_settings)
    kept = store.list()
    print(json_text([asdict(one) for one in kept], ensure_ascii=False) if json else "\n".join(list_lines(store, kept)))


@template.command("drop", epilog="Example: dubmill template drop templates/ presenter.mp4")
def template_drop(
    location: Templates,
    names: Annotated[list[str] | None, typer.Argument(help="Keys, beginnings of keys, or videos as `dubmill template list` names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: Json = False,
) -> None:
    """Take templates away."""
    from tasks.dubbing.template_store import TemplateStore

    if not names and not everything:
        raise SettingsError("Say which templates to drop, or give --all.")
    dropped = TemplateStore(location).drop(None if everything else names)
    _say({"dropped": list(dropped)}, json)
    if names and not everything and not dropped:
        raise SettingsError(f"Nothing that is kept there is called {' or '.join(names)}; `dubmill template list` names what is.")


@app.command(
    "bulk-dub",
    cls=BulkDubCommand,
    epilog="Example: dubmill bulk-dub jobs.csv --out dubs/ --landmark-generator landmarks.safetensors --renderer renderer.safetensors",
)
def bulk_dub(
    jobs: Annotated[
        str | None,
        typer.Argument(help="CSV, JSONL or Parquet with job_id, video, speech, out, and any setting of a single dub.  [required, unless in --settings]"),
    ] = None,
    out: Annotated[str | None, _option(BulkDubSettings, "out", "Folder or s3:// prefix for outputs and results.")] = None,
    landmark_generator: Annotated[str | None, _option(BulkDubSettings, "landmark_generator", "Checkpoint of the landmark generator.")] = None,
    renderer: Annotated[str | None, _option(BulkDubSettings, "renderer", "Checkpoint of the renderer.")] = None,
    settings: SettingsFile = None,
    ray: Ray = "none",
    json: Json = False,
) -> None:
    """A list of dubs. Faults of media are a job's row in the results; what is done is not done again.

    Settings of all jobs (references, precision, templates, canary, …) stand in a file for --settings; those of one job are columns of its row.
    """
    from tasks.dubbing.summary_lines import bulk_lines

    wanted = _settings(BulkDubSettings, settings, jobs=jobs, out=out, landmark_generator=landmark_generator, renderer=renderer)
    with _stopping("give the same command again to go on", "Stopped"):
        summary = BulkDubSummary.model_validate(_run("dub", "tasks.dubbing.bulk:bulk_dub_here", wanted, ray, "bulk-dub"), from_attributes=True)
    print(summary.model_dump_json() if json else "\n".join(bulk_lines(summary)))


@app.command(short_help="Lays out the dubs of a bulk run in the review room.", epilog="Example: dubmill review bulk.yaml --review review/")
def review(
    dub_settings: Annotated[str | None, typer.Argument(help="The settings file of the bulk run.  [required, unless in --settings]")] = None,
    review: Annotated[str | None, _option(ReviewSettings, "review", "Folder or s3:// prefix of review material, where the review room looks.")] = None,
    jobs: Annotated[str | None, typer.Option(help="The run's job list, where the settings file names another, or none.")] = None,
    out: Annotated[str | None, typer.Option(help="The run's folder of outputs and results, likewise.")] = None,
    batch: Annotated[str | None, typer.Option(help="What the batch is called; default: as the job list's file.")] = None,
    settings: SettingsFile = None,
    ray: Ray = "none",
    json: Json = False,
) -> None:
    """Lays out the dubs of a bulk run in the review room, each with its source, curves, figures, and what the gate says."""
    options: dict[str, object] = {"dub_settings": dub_settings, "review": review, "jobs": jobs, "out": out, "batch": batch}
    wanted = _settings(ReviewSettings, settings, **options)
    _say(_run("review_dubs", "tasks.review.batch:review_here", wanted, ray, "review"), json)


@app.command(short_help="Generated video beside the real one, in numbers.", epilog="Example: dubmill evaluate dubs/ originals/ --out evaluation/")
def evaluate(
    generated: Annotated[str | None, typer.Argument(help="A generated video, or a folder or s3:// prefix of them.")] = None,
    real: Annotated[str | None, typer.Argument(help="The real video, or a folder or prefix of them under the same names.")] = None,
    out: Annotated[str | None, _option(EvaluateSettings, "out", "Folder or prefix for clips.parquet and summary.json.")] = None,
    metrics: Annotated[str | None, typer.Option(help="What is measured, parted by commas; default: all that can be.")] = None,
    allow_unpaired: Annotated[bool, typer.Option("--allow-unpaired", help="Leave out videos without a partner of their name.")] = False,
    store: Annotated[str | None, typer.Option(help="In place of videos: a corpus store whose test clips are dubbed and compared.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="With --store: the snapshot that says which clips are test clips.")] = None,
    landmark_generator: Annotated[str | None, typer.Option(help="With --store: checkpoint of the landmark generator.")] = None,
    renderer: Annotated[str | None, typer.Option(help="With --store: checkpoint of the renderer.")] = None,
    conditions: Annotated[str | None, typer.Option(help="CSV file with the columns name, and speaker or language.")] = None,
    settings: SettingsFile = None,
    ray: Ray = "none",
    json: Json = False,
) -> None:
    """Generated video beside the real one, in numbers with intervals. Pairs that do not show the same head in step are named, not compared."""
    from tasks.evaluation.summary_table import summary_lines

    options: dict[str, object] = {"generated": generated, "real": real, "out": out, "allow_unpaired": allow_unpaired or None, "store": store}
    options |= {"snapshot": snapshot, "landmark_generator": landmark_generator, "renderer": renderer, "conditions": conditions}
    named = tuple(name.strip() for name in metrics.split(",")) if metrics else None
    wanted = _settings(EvaluateSettings, settings, metrics=named, **options)
    summary = EvaluationSummary.model_validate(_run("evaluate", "tasks.evaluation.evaluate:evaluate_here", wanted, ray, "evaluate"), from_attributes=True)
    print(summary.model_dump_json() if json else "\n".join(summary_lines(summary)))


@app.command(short_help="What a dub says of itself.", epilog="Example: dubmill inspect dubbed.mp4")
def inspect(video: Annotated[str, typer.Argument(help="A video that dubmill made.")], json: Json = False) -> None:
    """What a dub says of itself: that it is synthetic, which models made it, and of what."""
    from tasks.dubbing.stamp import read_dub_stamp

    _say(read_dub_stamp(video), json)


@app.command(short_help="What came of what, both ways.", epilog="Example: dubmill lineage dubs/anna.mp4 --store corpus/ --models models/ --dubs dubs/")
def lineage(
    what: Annotated[
        list[str],
        typer.Argument(help="A dub, weights, a model's version, a snapshot, a clip_id, a source or a speaker: a location, or a name as tables have it."),
    ],
    store: Annotated[list[str] | None, typer.Option(help="Corpus stores to look through; may be given several times.")] = None,
    models: Annotated[list[str] | None, typer.Option(help="Folders or prefixes of weights to look through.")] = None,
    dubs: Annotated[list[str] | None, typer.Option(help="Folders or prefixes of dubs to look through.")] = None,
    json: Json = False,
) -> None:
    """Which footage, snapshot, model and dub came of which, both ways."""
    from tasks.lineage.follow import follow
    from tasks.lineage.shown import plain_lines, tree

    found = follow(what, store or (), models or (), dubs or ())
    if json:
        print(json_text([one.model_dump(mode="json") for one in found], ensure_ascii=False))
    elif sys.stdout.isatty():
        for one in found:
            Console(highlight=False).print(tree(one))
    else:
        print("\n".join(plain_lines(found)))


Html = Annotated[str, typer.Option("--html", help="The page to write: a path or URI.")]


@report.command("corpus", epilog="Example: dubmill report corpus corpus/ --html corpus.html")
def report_corpus(location: Store, html: Html) -> None:
    """What a corpus store holds and what was turned away."""
    from tasks.report import corpus_report

    corpus_report(location, html)
    print(f"page: {html}")


@report.command("training", epilog="Example: dubmill report training trained/landmarks --html training.html")
def report_training(location: Annotated[str, typer.Argument(help="The --out folder of a training run.")], html: Html) -> None:
    """Loss curves and pictures of a training run."""
    from tasks.report import training_report

    training_report(location, html)
    print(f"page: {html}")


@report.command(
    "evaluation", short_help="What was measured beside the real video.", epilog="Example: dubmill report evaluation evaluation/ --html evaluation.html"
)
def report_evaluation(
    location: Annotated[str, typer.Argument(help="The --out of an evaluation.")],
    html: Html,
    before: Annotated[list[str] | None, typer.Option(help="The --out of an earlier one, for curves over versions; several times, oldest first.")] = None,
) -> None:
    """What was measured beside the real video, the best and worst clips, speakers and conditions, and what each number means."""
    from tasks.report import evaluation_report

    evaluation_report(location, html, before or ())
    print(f"page: {html}")


@report.command("dubs", epilog="Example: dubmill report dubs dubs/ --html dubs.html")
def report_dubs(location: Annotated[str, typer.Argument(help="The --out of a bulk run.")], html: Html) -> None:
    """What became of each job of a bulk run."""
    from tasks.report import dubs_report

    dubs_report(location, html)
    print(f"page: {html}")


SETTINGS: dict[SettingsOf, type[Settings]] = {
    SettingsOf.INGEST: IngestSettings,
    SettingsOf.SNAPSHOT: SnapshotSettings,
    SettingsOf.LANDMARK_GENERATOR: LandmarkGeneratorTraining,
    SettingsOf.RENDERER: RendererTraining,
    SettingsOf.FINETUNE: FinetuneSettings,
    SettingsOf.PUBLISH: PublishSettings,
    SettingsOf.DUB: DubSettings,
    SettingsOf.BULK_DUB: BulkDubSettings,
    SettingsOf.EVALUATE: EvaluateSettings,
    SettingsOf.REVIEW: ReviewSettings,
}


@app.command("settings", short_help="A settings file for --settings, with defaults.", epilog="Example: dubmill settings snapshot > selection.yaml")
def print_settings(of: Annotated[SettingsOf, typer.Argument(help="The command.")]) -> None:
    """Prints a settings file for --settings: every setting of a command, what it means and its default."""
    print(settings_guide(SETTINGS[of]))


@app.command(short_help="Clips to a dubbed video, through Airflow and Ray.", epilog="Example: dubmill demo --clips footage/ --speech speech.wav")
def demo(
    clips: Annotated[Path | None, typer.Option(help="Folder of your clips; default: footage that the demo makes itself.")] = None,
    speech: Annotated[Path | None, typer.Option(help="Speech for the dub; default: speech that the demo makes itself.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything the demo makes.")] = None,
) -> None:
    """From clips to a dubbed video through Airflow and Ray on this machine, and a page that shows it all."""
    runner = Path(__file__).parent / "docker/local/demo.py"
    if not runner.is_file():
        raise StoreError("The demo runs from a checkout of dubmill, and this installation is none.")
    options = [f"--{name}={value.absolute()}" for name, value in (("clips", clips), ("speech", speech), ("out", out)) if value]
    # In place of this process: the demo gets Ctrl-C and SIGTERM itself, and ends what it started.
    os.execv(sys.executable, [sys.executable, str(runner), *options])  # noqa: S606


def main() -> None:
    """Runs the command line: exit code 0 when the work is done, 1 with one sentence when the user can mend it."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        app()
    except (DubmillError, OSError) as error:
        if not prints_here():
            time.sleep(LEADER_FIRST_S)
        _complain(_sentence(error))
        raise SystemExit(1) from error


def _complain(sentence: str) -> None:
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"dubmill: {sentence}")


def _sentence(error: Exception) -> str:
    """The error's text on one line; an OSError of a place that no task expected names the place."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
