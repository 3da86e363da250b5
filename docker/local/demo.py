"""From clips to a dubbed video through real Airflow DAG runs and real Ray jobs on this machine: `make demo`.

Makes its own footage, or takes yours; ingests it, trains both networks, dubs one clip with a speech it was not filmed with, and
writes a page that shows it all. Every run has a folder of its own; `latest` beside them leads to the newest.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import services
from dag_runs import last_result, run_dag
from environments import REPOSITORY, airflow_environment
from services import ServiceError, Services

from schemas.errors import DubmillError, SettingsError
from schemas.reasons import EXPLANATIONS, Reason
from schemas.settings import BulkDubSettings, IngestSettings, LandmarkGeneratorTraining, ModelsSettings, RendererTraining, Settings, write_settings


@dataclass(frozen=True)
class Budget:
    """What a demo spends. A few hundred steps show that everything works; they do not make a good mouth."""

    clips: int
    clip_seconds: tuple[float, float]
    landmark_steps: int
    landmark_batch: int
    landmark_rate: float
    renderer_steps: int
    renderer_batch: int
    renderer_rate: float
    renderer_losses: dict[str, float]  # weights that differ from the published recipe's
    validations: int  # in each training, beside the first
    validation_samples: int
    validation_clips: int
    references: int  # of the dub


FULL = Budget(
    clips=8,
    clip_seconds=(4.0, 5.0),
    landmark_steps=160,
    landmark_batch=16,
    landmark_rate=1e-3,
    renderer_steps=120,
    renderer_batch=4,
    renderer_rate=1e-3,
    renderer_losses={
        "warm_up_epochs": 0.0,
        "pixel_weight": 10.0,
        "warp_weight": 0.0,
        "perceptual_weight": 0.0,
        "adversarial_weight": 0.0,
        "feature_matching_weight": 0.0,
    },
    validations=5,
    validation_samples=8,
    validation_clips=2,
    references=5,
)
"""The renderer learns from pixels alone: the published losses judge by VGG-19 features, which without ImageNet weights are
random, and by a discriminator that takes thousands of steps to help; in the demo's minutes both only cost time."""
TINY = Budget(
    clips=2,
    clip_seconds=(2.0, 2.5),
    landmark_steps=2,
    landmark_batch=2,
    landmark_rate=1e-3,
    renderer_steps=2,
    renderer_batch=2,
    renderer_rate=2e-4,
    renderer_losses={"warm_up_epochs": 0.0},
    validations=1,
    validation_samples=2,
    validation_clips=1,
    references=3,
)
"""For a test of the whole path, with the published recipe's losses."""
PIXELS_ALONE = "The renderer learnt from the difference of pixels alone; the published recipe's perceptual and adversarial losses come on top of that."
BUDGETS = {"full": FULL, "tiny": TINY}


@dataclass(frozen=True)
class Demo:
    """One run of the demo: its folder, what it starts from, and where its parts are."""

    folder: Path
    budget: Budget
    clips: Path
    speech: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """The corpus store."""
        return self.folder / "corpus"

    @property
    def settings(self) -> Path:
        """The folder of the settings files."""
        return self.folder / "settings"

    @property
    def runs(self) -> Path:
        """The folder of the training runs, by network."""
        return self.folder / "runs"

    @property
    def models(self) -> Path:
        """The folder of the published models, by network and version."""
        return self.folder / "models"

    @property
    def results(self) -> Path:
        """The folder of what the jobs handed back."""
        return self.settings / "results"

    @property
    def dub(self) -> Path:
        """The dubbed video."""
        return self.folder / "dubs" / "dubbed.mp4"

    @property
    def page(self) -> Path:
        """The page that shows it all."""
        return self.folder / "index.html"


def main() -> int:
    """Exit code 0 when everything was made, 1 with one sentence when it was not."""
    options = _parse()
    try:
        with services.ended_by_signals():
            _run(options)
    except (DubmillError, ServiceError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: ended before its end; everything that it had started is ended too.", file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From clips to a dubbed video through Airflow and Ray on this machine.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo", help="folder of all runs (default: demo/ in the repository)")
    parser.add_argument("--clips", type=Path, help="folder of your clips (default: footage that is made for the demo)")
    parser.add_argument("--speech", type=Path, help="speech for the dub, sound or video (default: speech that is made for the demo)")
    parser.add_argument("--budget", choices=BUDGETS, default="full", help="how long to train: full, or tiny for a test of the path")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: where everything is, seconds by stage")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> None:
    _check_inputs(options)
    folder = _new_folder(options.out.resolve())
    began = time.monotonic()
    print(f"Everything of this run lies in {folder}", flush=True)
    with Services(folder) as started:
        ray_url = started.begin_ray()  # it comes up while the footage is made
        demo = _with_footage(options, folder)
        _run_dags(demo, started, ray_url)
    with _stage(demo, "page"):
        _write_page(demo)
    _point_latest_at(folder)
    _tell(demo, time.monotonic() - began, as_json=options.json)


def _check_inputs(options: argparse.Namespace) -> None:
    if options.clips and not options.clips.is_dir():
        raise SettingsError(f"CLIPS must be a folder of videos, and {options.clips} is none.")
    if options.speech and not options.speech.is_file():
        raise SettingsError(f"SPEECH must be a file, and {options.speech} is none.")


def _new_folder(out: Path) -> Path:
    """The first free one of out/1, out/2, …"""
    number = 1 + max((int(entry.name) for entry in out.glob("[0-9]*") if entry.name.isdigit()), default=0)
    folder = out / str(number)
    folder.mkdir(parents=True)
    return folder


def _with_footage(options: argparse.Namespace, folder: Path) -> Demo:
    """The demo with the user's clips and speech, or with what is made for those that are not given."""
    budget = BUDGETS[options.budget]
    clips, speech = options.clips or folder / "footage", options.speech or folder / "speech.wav"
    demo = Demo(folder, budget, clips.resolve(), speech.resolve())
    if options.clips is None:
        from tasks.sample import make_sample_footage  # brings the portraits and the voice along; not needed for one's own

        with _stage(demo, "footage"):
            make_sample_footage(folder / "footage", clips=budget.clips, seconds=budget.clip_seconds)  # and speech.wav beside it
    elif options.speech is None:
        from tasks.sample import make_sample_speech
        from tasks.sample.footage import DUBBING_SENTENCES

        with _stage(demo, "speech"):
            make_sample_speech(demo.speech, DUBBING_SENTENCES["en"])
    return demo


def _run_dags(demo: Demo, started: Services, ray_url: str) -> None:
    """Prepares Airflow's database, waits for Ray, and runs the four DAGs one after the other."""
    with _stage(demo, "start of Ray and Airflow"):
        write_settings_files(demo)
        environment = airflow_environment(demo.folder / "airflow", demo.settings, ray_url) | {"DUBMILL_TASK_RETRIES": "0"}
        services.migrate_airflow(started, environment)
        started.wait_for_ray(ray_url)
    with _stage(demo, "ingest_corpus"):
        run_dag(started, environment, "ingest_corpus")
        _write_job_list(demo)
    for dag_id in ("train_landmark_generator", "train_renderer"):
        with _stage(demo, dag_id):
            run_dag(started, environment, dag_id)
    with _stage(demo, "bulk_dubbing"):
        run_dag(started, environment, "bulk_dubbing")
        _require_dub(demo)


@contextmanager
def _stage(demo: Demo, name: str) -> Iterator[None]:
    print(f"{name} …", flush=True)
    began = time.monotonic()
    yield
    demo.seconds[name] = time.monotonic() - began
    print(f"{name}: {demo.seconds[name]:.0f} s", flush=True)


def write_settings_files(demo: Demo) -> None:
    """The settings files, one a DAG and one on publishing, as a user would write them."""
    budget, store = demo.budget, str(demo.store)
    files: dict[str, Settings] = {
        "ingest_corpus": IngestSettings(sources=(str(demo.clips),), store=store, batch_sources=max(1, budget.clips // 4)),
        "train_landmark_generator": LandmarkGeneratorTraining(
            store=store,
            out=str(demo.runs / "landmark-generator"),
            preset="small",
            steps=budget.landmark_steps,
            batch_size=budget.landmark_batch,
            learning_rate=budget.landmark_rate,
            validate_every=max(1, budget.landmark_steps // budget.validations),
            validation_samples=budget.validation_samples,
            validation_clips=budget.validation_clips,
            device="cpu",
        ),
        "train_renderer": RendererTraining(
            store=store,
            out=str(demo.runs / "renderer"),
            preset="small",
            steps=budget.renderer_steps,
            batch_size=budget.renderer_batch,
            learning_rate=budget.renderer_rate,
            **budget.renderer_losses,  # type: ignore[arg-type]
            validate_every=max(1, budget.renderer_steps // budget.validations),
            validation_samples=budget.validation_samples,
            validation_clips=budget.validation_clips,
            device="cpu",
        ),
        "publish": ModelsSettings(models=str(demo.models), device="cpu"),
        "bulk_dubbing": BulkDubSettings(
            jobs=str(demo.folder / "jobs.csv"),
            out=str(demo.dub.parent),
            landmark_generator=str(demo.models / "landmark-generator" / "current.json"),
            renderer=str(demo.models / "renderer" / "current.json"),
            references=budget.references,
            landmark_references=budget.references,
            device="cpu",
        ),
    }
    demo.settings.mkdir(parents=True)
    for dag_id, settings in files.items():
        write_settings(settings, str(demo.settings / f"{dag_id}.yaml"))


def _write_job_list(demo: Demo) -> None:
    """One job: the first clip of the corpus with the speech. Raises ServiceError when ingest could use no clip."""
    source = dub_source(demo)
    with (demo.folder / "jobs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job_id", "video", "speech", "out"])
        writer.writerow(["demo", source, demo.speech, demo.dub.name])


def dub_source(demo: Demo) -> str:
    """The source of the corpus's first clip, by name."""
    from tasks.corpus.store import CorpusStore  # after ingest only

    sources = sorted(CorpusStore.open(str(demo.store)).clips().column("source").to_pylist())
    if not sources:
        raise ServiceError(f"None of the clips in {demo.clips} could be used; `dubmill corpus show {demo.store}` says why.")
    return str(sources[0])


def _require_dub(demo: Demo) -> None:
    """Raises ServiceError when the one job failed: a bulk run counts failed jobs and succeeds."""
    failed = last_result(demo.results, "bulk_dubbing.dub").get("failed")
    if isinstance(failed, dict) and failed:
        raise ServiceError(f"The dub failed: {EXPLANATIONS[Reason(next(iter(failed)))]}.")


def _write_page(demo: Demo) -> None:
    from tasks.report import DemoFacts, demo_report

    facts = DemoFacts(
        store=str(demo.store),
        landmark_generator_dir=_run_folder(demo, "train_landmark_generator"),
        renderer_dir=_run_folder(demo, "train_renderer"),
        dub=str(demo.dub),
        dub_source=dub_source(demo),
        speech=str(demo.speech),
        seconds_by_stage=dict(demo.seconds),
        training_note=PIXELS_ALONE if demo.budget.renderer_losses.get("pixel_weight") else "",
        steps={"landmark_generator": demo.budget.landmark_steps, "renderer": demo.budget.renderer_steps},
    )
    demo_report(facts, demo.page)


def _run_folder(demo: Demo, dag_id: str) -> str:
    """Where a DAG's training left its weights, its curves and its state."""
    return str(Path(str(last_result(demo.results, f"{dag_id}.train")["checkpoint"])).parent)


def _weights(demo: Demo, dag_id: str) -> Path:
    """The weights that a DAG published."""
    published = last_result(demo.results, f"{dag_id}.publish")
    return Path(str(published["location"])) / f"{published['kind']}.safetensors"


def _point_latest_at(folder: Path) -> None:
    latest = folder.parent / "latest"
    if latest.is_symlink() or not latest.exists():
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)


def _tell(demo: Demo, seconds: float, *, as_json: bool) -> None:
    made = {
        "page": demo.page,
        "dubbed video": demo.dub,
        "landmark generator": _weights(demo, "train_landmark_generator"),
        "renderer": _weights(demo, "train_renderer"),
        "corpus": demo.store,
        "settings": demo.settings,
        "logs": demo.folder / "logs",
    }
    print("\n" + "\n".join(f"{name:<26}{place}" for name, place in made.items()))
    print("\n" + "\n".join(f"{name:<26}{taken:6.0f} s" for name, taken in [*demo.seconds.items(), ("in all", seconds)]), flush=True)
    if as_json:
        facts = {name.replace(" ", "_"): str(place) for name, place in made.items()}
        print(json.dumps(facts | {"folder": str(demo.folder), "seconds_by_stage": demo.seconds, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
