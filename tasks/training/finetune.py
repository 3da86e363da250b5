"""Fine-tuning: both networks adapted to the footage of one person. Learns from the beginning of each video, and judges by its end.

OUT/landmark-generator.safetensors   the weights to use
OUT/renderer.safetensors
OUT/finetune.json                    what they are made of; once everything is done, also how it ended
OUT/corpus/                          the person's clips
OUT/runs/<kind>/                     the two training runs
"""

import logging
from collections import Counter
from typing import Any

from pydantic import ValidationError

from models.iplap import vgg19_location
from schemas.checkpoints import Kind
from schemas.errors import CheckpointError, MediaError, SettingsError, StoreError
from schemas.jobs import FinetuneSummary, Snapshot, TrainingSummary
from schemas.reasons import EXPLANATIONS, Reason
from schemas.settings import (
    CropSettings,
    DubSettings,
    FinetuneSettings,
    IngestSettings,
    LandmarkGeneratorTraining,
    RendererTraining,
    Settings,
    SnapshotSettings,
)
from tasks import places
from tasks.corpus.discover import discover
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.speakers import SpeakerList
from tasks.corpus.store import CorpusStore
from tasks.dubbing.generate import check_headers, checkpoint_versions
from tasks.progress import Progress, silent
from tasks.training.landmark_generator import train_landmark_generator
from tasks.training.renderer import train_renderer
from tasks.training.state import state_location, weights_location

LOG = logging.getLogger(__name__)

KINDS: tuple[Kind, ...] = ("landmark-generator", "renderer")
SHORTEST_SEGMENT_S = 1.0
"""As short as clips may be: the networks' references come from the same clip, and in a shorter one they would all look alike."""
LONGEST_SEGMENT_S = 10.0
"""As long as clips usually are; of a video of a minute the end is still held out within half of that."""
UNTOLD_DURATION_S = 10.0
"""Taken for a video that does not say how long it lasts, as browsers record them: clips of two seconds serve short and long ones."""
SMALLEST_FACE_PX = 80.0
"""Below it landmarks go clearly wrong. A corpus of many people can afford to ask for more; of one person there is no other footage."""
WARM_UP_STEPS = 25
"""Adam's first steps are full ones in every direction, since it knows of no gradients yet; good weights should not be shaken by them."""
FREE_SETTINGS = frozenset({"videos", "start_from", "out", "device"})
"""What another call for the same folder may change: places are compared by what they hold."""


WHAT_TO_GIVE = {
    Reason.NO_FACE: "no face was found in it; give footage in which the person is seen from the front and near enough",
    Reason.OTHER_FACE: "another face of the same moment was taken for the speaker; give footage that shows one person alone",
    Reason.TIME_LIMIT: "it took too long; cut it into pieces and give those",
}
"""In place of explanations that speak of settings which are not to be had here."""


class Adaptation(Settings):
    """What a folder's networks are adapted from, and to whom."""

    settings: dict[str, Any]
    """Those that are not free."""
    videos: dict[str, int]
    """Bytes of each."""
    start: dict[str, str]
    """Versions of both checkpoints."""
    summary: FinetuneSummary | None = None
    """None: it is not finished."""


def finetune(settings: FinetuneSettings, progress: Progress = silent) -> FinetuneSummary:
    """Adapts both networks to the videos of one person; leaves them in `settings.out`, beside what they were made of (see above).

    Of each video the last `held_out_share` is not learnt from. There both networks are looked at before the first step and now and then
    later; the weights that come out are those with the best score, and where no step was better, the start's own. A call that
    was interrupted goes on, one for finished work returns at once. Raises CheckpointError, MediaError, SettingsError and
    StoreError, each with one sentence, for what the user can mend.
    """
    crop = _crop_of_start(settings)
    wanted = _adaptation(settings)
    kept = _kept_adaptation(settings.out, wanted)
    if kept is not None and kept.summary is not None and _has_weights(settings.out):
        return _where_it_is(kept.summary, settings.out)
    _keep(settings.out, wanted)
    snapshot = _snapshot_of_person(settings, crop, progress)
    landmark_generator = train_landmark_generator(_landmark_settings(settings, snapshot), _titled(progress, "landmark generator"))
    renderer = train_renderer(_renderer_settings(settings, snapshot, crop), _titled(progress, "renderer"))
    summary = _summary(settings, snapshot, landmark_generator, renderer)
    _keep(settings.out, wanted.replaced(summary=summary))
    return summary


def _crop_of_start(settings: FinetuneSettings) -> CropSettings:
    """The crop that both checkpoints were trained with. CheckpointError when one is not there or they do not belong together."""
    missing = [f"{kind}.safetensors" for kind in KINDS if not places.exists(_start_location(settings, kind))]
    if missing:
        raise CheckpointError(f"The folder {settings.start_from} has no {' and no '.join(missing)}; fine-tuning starts from both networks in one folder.")
    return check_headers(_both(settings))


def _start_location(settings: FinetuneSettings, kind: Kind) -> str:
    return weights_location(settings.start_from, kind)


def _both(settings: FinetuneSettings) -> DubSettings:
    return DubSettings(landmark_generator=_start_location(settings, "landmark-generator"), renderer=_start_location(settings, "renderer"))


def _adaptation(settings: FinetuneSettings) -> Adaptation:
    """What these settings ask for. StoreError when a video is not there, SettingsError when there is none."""
    if not settings.videos:
        raise SettingsError("There is nobody to adapt to: give at least one video of the person.")
    videos = {source.uri: source.size for source in discover(settings.videos, SpeakerList())}
    if not videos:
        raise SettingsError(f"There is no video under {', '.join(settings.videos)}; give a video of the person.")
    chosen = settings.with_absolute_locations().model_dump(mode="json", exclude=set(FREE_SETTINGS))
    return Adaptation(settings=chosen, videos=videos, start=checkpoint_versions(_both(settings)))


def _kept_adaptation(out: str, wanted: Adaptation) -> Adaptation | None:
    """What was begun in a folder, None when nothing was. SettingsError when that is something else than what is wanted."""
    location = _record_location(out)
    if not places.exists(location):
        there = [name for name in ("corpus/settings.json", *(f"{kind}.safetensors" for kind in KINDS)) if places.exists(places.join(out, name))]
        if there:
            raise SettingsError(f"{out} holds {' and '.join(there)} of something else already; give another folder as out.")
        return None
    try:
        kept = Adaptation.model_validate_json(places.read_bytes(location))
    except ValidationError as error:
        raise StoreError(f"{location} cannot be read; give another folder as out.") from error
    _require_same(kept, wanted, out)
    return kept


def _require_same(kept: Adaptation, wanted: Adaptation, out: str) -> None:
    if kept.videos != wanted.videos:
        raise SettingsError(
            f"{out} holds networks adapted to {', '.join(kept.videos)}, not to {', '.join(wanted.videos)} as it is now; give another folder as out."
        )
    if kept.start != wanted.start:
        raise SettingsError(f"{out} holds networks that started from other checkpoints than those; give another folder as out.")
    others = [f"{name} {kept.settings.get(name)}, not {value}" for name, value in wanted.settings.items() if kept.settings.get(name) != value]
    if others:
        raise SettingsError(f"{out} holds networks adapted with other settings ({'; '.join(others)}); give those, or another folder as out.")


def _record_location(out: str) -> str:
    return places.join(out, "finetune.json")


def _keep(out: str, adaptation: Adaptation) -> None:
    places.write_bytes(_record_location(out), adaptation.model_dump_json(indent=1).encode())


def _has_weights(out: str) -> bool:
    return all(places.exists(weights_location(out, kind)) for kind in KINDS)


def _where_it_is(summary: FinetuneSummary, out: str) -> FinetuneSummary:
    """The same summary for a folder that may have been moved."""
    here = {
        "landmark_generator": summary.landmark_generator.replaced(checkpoint=weights_location(out, "landmark-generator")),
        "renderer": summary.renderer.replaced(checkpoint=weights_location(out, "renderer")),
    }
    return summary.model_copy(update={"out": out, **here})


def _snapshot_of_person(settings: FinetuneSettings, crop: CropSettings, progress: Progress) -> Snapshot:
    """Ingests the videos that OUT/corpus does not know yet, and freezes the choice that holds out their ends."""
    from tasks.corpus.ingest import ingest_here  # media libraries, which machines that only train do not have

    location = places.join(settings.out, "corpus")
    segment_s = _segment_s(location, settings)
    footage = IngestSettings(sources=settings.videos, store=location, layout="folder", crop=crop, segment_s=segment_s)
    ingest_here(footage, lambda done, total=None, _note="": progress(done, total, "videos cut into clips"))
    store = CorpusStore.open(location)
    _require_clips(store)
    snapshot = freeze_snapshot(store, _selection(settings))
    if not any(clip.split == "val" for clip in snapshot.clips):
        raise StoreError(
            f"{_named(settings.videos)} gives too little to hold anything out for judging: {len(snapshot.clips)} clip of {segment_s:g} s or less;"
            f" give a video in which the face is seen for {SHORTEST_SEGMENT_S / settings.held_out_share:g} s or more."
        )
    return snapshot


def _selection(settings: FinetuneSettings) -> SnapshotSettings:
    return SnapshotSettings(
        hold_out="endings", val_share=settings.held_out_share, test_share=0.0, layout_splits=False, min_face_px=SMALLEST_FACE_PX, seed=settings.seed
    )


def _segment_s(location: str, settings: FinetuneSettings) -> float:
    """The longest clip in seconds: that of the store where there is one, else such that the end to be held out is a clip or more.

    That is told by the longest video: of shorter ones a whole clip may be the end, or they are learnt from whole.
    """
    if places.exists(places.join(location, "settings.json")):
        return CorpusStore.open(location).format.segment_s
    longest_s = max(_durations_s(settings.videos))
    return min(max(settings.held_out_share * longest_s, SHORTEST_SEGMENT_S), LONGEST_SEGMENT_S)


def _durations_s(videos: tuple[str, ...]) -> list[float]:
    """Of each video that can be opened; MediaError when none can."""
    from tasks.media.probe import probe  # a media library

    durations_s, failures = [], []
    for source in discover(videos, SpeakerList()):
        try:
            with places.local_copy(source.uri) as path:
                durations_s.append(probe(path).duration_s or UNTOLD_DURATION_S)
        except MediaError as error:
            failures.append(error)
    if not durations_s:
        raise failures[0]
    return durations_s


def _require_clips(store: CorpusStore) -> None:
    """MediaError when no video gave a clip; says which gave none when others did."""
    rejects = [row for row in store.rejects().to_pylist() if row["clip_id"] is None]
    told = [f"{row['source']}: {(EXPLANATIONS | WHAT_TO_GIVE)[Reason(row['reason'])]}" for row in rejects]
    if not sum(store.clip_counts().values()):
        raise MediaError(Reason(rejects[0]["reason"]) if rejects else Reason.NO_FACE, f"There is nothing to learn from in {'; '.join(told)}.")
    for sentence in told:
        LOG.warning("Nothing is learnt from %s.", sentence)


def _landmark_settings(settings: FinetuneSettings, snapshot: Snapshot) -> LandmarkGeneratorTraining:
    return LandmarkGeneratorTraining(
        **_shared_settings(settings, snapshot, "landmark-generator"),
        freeze=settings.freeze_landmark_generator,
        batch_size=settings.landmark_batch_size,
    )


def _renderer_settings(settings: FinetuneSettings, snapshot: Snapshot, crop: CropSettings) -> RendererTraining:
    """With ImageNet features the published recipe; without them pixels alone.

    Features with random weights would pull good weights towards what they happen to weigh, and a discriminator that has
    seen nothing yet teaches a few hundred steps long more noise than faces, unless features hold against it.
    """
    features = _perceptual_weights(settings)
    pixels_alone = {"pixel_weight": 1.0, "warp_weight": 0.0, "perceptual_weight": 0.0, "adversarial_weight": 0.0, "feature_matching_weight": 0.0}
    return RendererTraining(
        **_shared_settings(settings, snapshot, "renderer"),
        **({"perceptual_weights": features} if features else pixels_alone),
        freeze=settings.freeze_renderer,
        batch_size=settings.renderer_batch_size,
        size=crop.size,
        warm_up_steps=0,
    )


def _perceptual_weights(settings: FinetuneSettings) -> str | None:
    """VGG-19 features: those that are given, or those that an import left beside the renderer."""
    beside = vgg19_location(_start_location(settings, "renderer"))
    return settings.perceptual_weights or (beside if places.exists(beside) else None)


def _shared_settings(settings: FinetuneSettings, snapshot: Snapshot, kind: Kind) -> dict[str, Any]:
    run = places.join(settings.out, "runs", kind)
    return {
        "store": places.join(settings.out, "corpus"),
        "out": run,
        "snapshot": snapshot.name,
        "start_from": _start_location(settings, kind),
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "rate_warm_up_steps": min(WARM_UP_STEPS, settings.steps),
        "validate_every": settings.validate_every,
        "stop_after": settings.stop_after,
        "preview_every": settings.validate_every,  # of the start, too: before and after can be looked at
        "precision": settings.precision,
        "device": settings.device,
        "seed": settings.seed,
        "resume": bool(places.list_names(state_location(run, "checkpoints"))),
    }


def _summary(settings: FinetuneSettings, snapshot: Snapshot, landmark_generator: TrainingSummary, renderer: TrainingSummary) -> FinetuneSummary:
    """Puts the weights to use into OUT and says how it went."""
    runs = {"landmark-generator": landmark_generator, "renderer": renderer}
    return FinetuneSummary(
        out=settings.out,
        landmark_generator=_with_weights(settings, landmark_generator),
        renderer=_with_weights(settings, renderer),
        clips=dict(Counter(clip.split for clip in snapshot.clips)),
        unchanged=tuple(kind for kind in KINDS if runs[kind].best_step == 0),
    )


def _with_weights(settings: FinetuneSettings, run: TrainingSummary) -> TrainingSummary:
    """Puts a run's best weights into OUT: where no step was better than the start, the start's own file, as it is."""
    best = _start_location(settings, run.kind) if run.best_step == 0 else run.checkpoint
    target = weights_location(settings.out, run.kind)
    with places.local_copy(best) as path:
        places.put(path, target)
    return run.replaced(checkpoint=target)


def _titled(progress: Progress, title: str) -> Progress:
    """Progress of one part of the work, which its notes name."""
    return lambda done, total=None, note="": progress(done, total, f"{title}: {note}" if note else title)


def _named(videos: tuple[str, ...]) -> str:
    return places.name_of(videos[0]) if len(videos) == 1 else f"{places.name_of(videos[0])} and {len(videos) - 1} more"
