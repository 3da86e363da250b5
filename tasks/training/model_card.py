"""The model card: what a published network is, what it was trained on, and how well it does. The same bytes for the same facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from models.checkpoint import NAMES
from schemas.checkpoints import Ancestor, CheckpointHeader
from schemas.jobs import Snapshot
from schemas.locations import without_secrets
from tasks.durations import spoken_duration
from tasks.evaluation.metric_meanings import meaning
from tasks.training.data_sources import DataSource, TrainingData
from tasks.training.measuring import HELD_OUT
from tasks.training.validation import DECIBELS_A_PIXEL, PUBLISHED_SIZE

WHAT_IT_DOES = {
    "landmark-generator": "Given speech and the pose of a head, it says where mouth and jaw are: 57 landmarks a frame, 25 frames a second (IP_LAP, CVPR 2023).",
    "renderer": "Given a sketch of a face and pictures of the same person, it draws the lower half of that face (IP_LAP, CVPR 2023).",
}
SCORES = {
    "landmark-generator": "minus `l1`; higher is better",
    "renderer": (
        f"`psnr` in dB, less {DECIBELS_A_PIXEL:g} dB for each pixel (of a picture of {PUBLISHED_SIZE}) of `mouth_lmd_px` where that is measured;"
        " higher is better"
    ),
}
PERCEPTUAL_WEIGHTS = {
    "imagenet": "The perceptual losses used VGG-19 features trained on ImageNet, whose pictures have terms of their own.",
    "seeded-random": "The perceptual losses used VGG-19 with random weights from a fixed seed: no foreign weights and no foreign data.",
    None: "No foreign weights went into its losses.",
}
SYNTHETIC_MEDIA = (
    "What this network makes is **synthetic media**: people are seen saying what they did not say. Use it only with the consent of whoever is shown and"
    " heard, tell viewers, and obey the law where it is shown. Dubs made by dubmill say in their metadata which weights made them (`dubmill inspect`)."
)


@dataclass(frozen=True)
class ModelFacts:
    """All that the card says."""

    version: str
    header: CheckpointHeader
    settings: Mapping[str, Any]
    snapshot: Snapshot
    data: TrainingData
    score: float
    metrics: Mapping[str, float]
    absent: Mapping[str, str] = field(default_factory=dict)
    former_version: str | None = None
    former_score: float | None = None
    former_metrics: Mapping[str, float] = field(default_factory=dict)
    has_curves: bool = False
    sha256: str = ""
    """Of the weights file."""


def model_card(facts: ModelFacts) -> str:
    """The card of a published network as Markdown with YAML in front, as model hubs read it."""
    sections = [_front(facts), _what_it_is(facts), _data(facts), _metrics(facts), _curves(facts), _training(facts)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front(facts: ModelFacts) -> str:
    licences = {source.licence for source in facts.data.sources}
    only = licences.pop() if len(licences) == 1 else None
    values = {
        "library_name": "dubmill",
        "license": "other",
        "license_name": only or ("mixed" if licences and not facts.data.unlicensed else "not-stated"),
        "tags": ["talking-head", "dubbing", "synthetic-media", facts.header.kind],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _what_it_is(facts: ModelFacts) -> str:
    header = facts.header
    crop = ", ".join(f"{name} {value}" for name, value in header.crop.model_dump().items())
    mel = ", ".join(f"{name} {value}" for name, value in header.mel.model_dump().items())
    return f"""# {NAMES[header.kind].capitalize()} {facts.version}

{WHAT_IT_DOES[header.kind]}

{SYNTHETIC_MEDIA}

* **Weights:** `{header.kind}.safetensors`; the version is the beginning of their SHA-256{f", `{facts.sha256}`" if facts.sha256 else ""}.
* **Crop:** {crop}. **Mel spectrogram:** {mel}. dubmill refuses to use the weights with any other.
* **Trained** for {header.step} steps on the snapshot `{facts.snapshot.name}` with dubmill {header.code_version or "(version not known)"}.
* {PERCEPTUAL_WEIGHTS[header.perceptual_weights]}"""


def _data(facts: ModelFacts) -> str:
    rows = [
        (source.name or "(no name)", source.licence or "**not stated**", source.clips, spoken_duration(source.duration_s), len(source.speakers))
        for source in facts.data.sources
    ]
    table = _table(("Source", "Licence", "Clips", "Duration", "Speakers"), rows)
    lost = f"\n\n{facts.data.lost_clips} clips of the snapshot are in the corpus no longer, and cannot be told of." if facts.data.lost_clips else ""
    return f"## Data\n\n{_ancestors(facts.header)}{_licences_said(facts.data)}\n\nTraining and validation clips by file or folder:\n\n{table}{lost}"


def _ancestors(header: CheckpointHeader) -> str:
    """The weights that training began with, whose data is not in the table; nothing where it began from nothing."""
    if not header.ancestors:
        return ""
    said = [_ancestor(ancestor) for ancestor in header.ancestors]
    return f"**Training began with other weights, and what they had learnt from is not listed here:** {'; then '.join(said)}.\n\n"


def _ancestor(ancestor: Ancestor) -> str:
    if ancestor.origin == "imported":
        return f"`{ancestor.version}`, published weights of IP_LAP's format, which were imported"
    return f"`{ancestor.version}`, trained for {ancestor.step} steps on the snapshot `{ancestor.snapshot}`"


def _licences_said(data: TrainingData) -> str:
    unlicensed = data.unlicensed
    if not unlicensed:
        return "The licence of every source below is stated."
    clips, all_clips = _clips(unlicensed), _clips(data.sources)
    duration = spoken_duration(sum(source.duration_s for source in unlicensed))
    return f"**The licence of {len(unlicensed)} of {len(data.sources)} sources is not stated: {clips} of {all_clips} clips, {duration}.**"


def _clips(sources: Sequence[DataSource]) -> int:
    return sum(source.clips for source in sources)


def _metrics(facts: ModelFacts) -> str:
    shown = {name: value for name, value in facts.metrics.items() if name != HELD_OUT}
    rows = [(f"`{name}`", f"{value:.4g}", *_former(facts, name), meaning(name, NAMES[facts.header.kind])) for name, value in shown.items()]
    head = ("Metric", "Value", *((f"Version {facts.former_version}",) if facts.former_version else ()), "Meaning")
    former = f" The version in use before, {facts.former_version}, has {facts.former_score:.6g}." if facts.former_version else ""
    seen = "the validation clips of the snapshot, which it did not learn from"
    if facts.metrics.get(HELD_OUT) == 0:
        seen = "**the training clips: the snapshot has no validation clips, so these numbers say little**"
    absent = "".join(f"\n* `{name}` is not measured: {why}" for name, why in facts.absent.items())
    score = f"**Score {facts.score:.6g}** ({SCORES[facts.header.kind]}).{former}"
    return f"## Metrics\n\n{score}\n\nMeasured on {seen}.\n\n{_table(head, rows)}{chr(10) + absent if absent else ''}"


def _former(facts: ModelFacts, name: str) -> tuple[str, ...]:
    """The cell of the version before; none where there was none."""
    if not facts.former_version:
        return ()
    return (f"{facts.former_metrics[name]:.4g}",) if name in facts.former_metrics else ("",)


def _curves(facts: ModelFacts) -> str:
    return "## Curves\n\nBlue: validation clips; grey: training clips.\n\n![curves](curves.svg)" if facts.has_curves else ""


def _training(facts: ModelFacts) -> str:
    split = ", ".join(f"{sum(clip.split == name for clip in facts.snapshot.clips)} {name}" for name in ("train", "val", "test"))
    return f"""## Training

The snapshot `{facts.snapshot.name}` holds {split} clips, split by {facts.snapshot.split_by}. Settings, also in `settings.yaml`:

```yaml
{as_yaml(facts.settings)}```"""


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as a flat YAML file, without secrets."""
    return without_secrets(yaml.safe_dump(dict(settings), sort_keys=True, allow_unicode=True))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
