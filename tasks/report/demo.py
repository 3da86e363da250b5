"""The demo's page: everything that the demo did, in one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from schemas.errors import DubmillError, MediaError, StoreError
from schemas.settings import Settings
from tasks import places
from tasks.media.probe import probe
from tasks.report.corpus import CorpusFacts, corpus_facts
from tasks.report.page import picture_uri, write_page
from tasks.report.training import CurveFigure, TrainingFacts, training_facts
from tasks.report.video import PageVideo, moments, page_video

HEADLINES = {"landmark generator": ("l1",), "renderer": ("warp", "loss", "l1")}
"""The curves that the demo's page shows of each network."""
STRIP_MOMENTS = 6

Location = Annotated[str, BeforeValidator(str)]
"""A path or URI; a Path is taken too."""


class DemoFacts(Settings):
    """Where the demo left what, and how long it took."""

    store: Location
    landmark_generator_dir: Location
    renderer_dir: Location
    dub: Location = Field(description="the dubbed video")
    dub_source: Location = Field(description="the video (or picture) that was dubbed")
    speech: Location = Field(description="the speech it was dubbed with")
    seconds_by_stage: dict[str, float] = Field(default_factory=dict, description="in the order in which they ran")
    steps: dict[str, int] = Field(default_factory=dict, description="training steps by network: landmark_generator, renderer")
    training_note: str = Field(default="", description="a sentence on how training here differs from the published recipe")


@dataclass(frozen=True)
class StageRow:
    """A stage and its time."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class DubSection:
    """The dub beside its source, and a strip of moments of both, source above dub."""

    source: PageVideo
    dub: PageVideo
    duration_s: float
    strip_uri: str


@dataclass(frozen=True)
class NetworkSection:
    """One network on the demo's page; `training` is None and `absent` says why when there is no run to read."""

    name: str
    steps: int | None
    training: TrainingFacts | None
    curves: list[CurveFigure]
    absent: str = ""


def demo_report(facts: DemoFacts, html: str | Path) -> None:
    """Writes the demo's page. What is not there yet is said in its section.

    Raises StoreError when the page cannot be written.
    """
    dub, dub_absent = _dub_section(facts)
    corpus, corpus_absent = _corpus_section(facts.store)
    write_page(
        "demo.html.j2",
        html,
        title="Demo",
        facts=facts,
        stages=_stage_rows(facts.seconds_by_stage),
        total_s=sum(facts.seconds_by_stage.values()),
        corpus=corpus,
        corpus_absent=corpus_absent,
        networks=[
            _network_section("landmark generator", facts.landmark_generator_dir, facts.steps.get("landmark_generator")),
            _network_section("renderer", facts.renderer_dir, facts.steps.get("renderer")),
        ],
        dub=dub,
        dub_absent=dub_absent,
    )


def _stage_rows(seconds_by_stage: dict[str, float]) -> list[StageRow]:
    longest = max(seconds_by_stage.values(), default=0.0) or 1.0
    return [StageRow(name.replace("_", " "), seconds, seconds / longest) for name, seconds in seconds_by_stage.items()]


def _corpus_section(store: str) -> tuple[CorpusFacts | None, str]:
    try:
        return corpus_facts(store), ""
    except StoreError as error:
        return None, str(error)


def _network_section(name: str, folder: str, steps: int | None) -> NetworkSection:
    try:
        training = training_facts(folder)
    except StoreError as error:
        return NetworkSection(name, steps, None, [], str(error))
    curves = [curve for curve in training.curves if curve.name in HEADLINES[name]]
    return NetworkSection(name, steps or training.step, training, curves or training.curves[:2])


def _dub_section(facts: DemoFacts) -> tuple[DubSection | None, str]:
    if not places.exists(facts.dub):
        return None, f"There is no dubbed video at {facts.dub}."
    try:
        with places.local_copy(facts.dub) as path:
            duration_s = probe(path).duration_s or 0.0
        source = page_video(facts.dub_source, longest_s=max(duration_s, 1.0))
        return DubSection(source, page_video(facts.dub), duration_s, _strip(facts)), ""
    except (DubmillError, MediaError, OSError) as error:
        return None, str(error)


def _strip(facts: DemoFacts) -> str:
    """Moments of the source (above) and of the dub at the same times, while both last."""
    lengths = []
    for location in (facts.dub_source, facts.dub):
        with places.local_copy(location) as path:
            info = probe(path)
        lengths += [info.duration_s] if info.duration_s and not info.is_picture else []
    times_s = [float(time_s) for time_s in np.linspace(0.08, 0.9, STRIP_MOMENTS) * min(lengths)]
    rows = [np.hstack(moments(location, times_s)) for location in (facts.dub_source, facts.dub)]
    width = min(row.shape[1] for row in rows)
    return picture_uri(np.vstack([row[:, :width] for row in rows]))
