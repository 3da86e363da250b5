"""What is to be compared: two videos, two folders of them by name, or the clips of a store's split."""

import csv
import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoint import read_header
from schemas.errors import SettingsError, StoreError
from schemas.jobs import CutClip, EvaluationPair, Snapshot, SnapshotClip
from schemas.locations import without_secrets
from schemas.settings import EvaluateSettings
from tasks import places
from tasks.corpus.discover import is_video_name
from tasks.corpus.store import CorpusStore
from tasks.faces.references import even_steps
from tasks.mel_windows import VIDEO_FPS
from tasks.published import weights_in_use

CLIP_COLUMNS = ("source", "segment_start_s", "frames", "speaker")
LONGEST_NAMED = 5
"""Unpaired videos that an error names."""


@dataclass(frozen=True)
class Pairs:
    """The pairs, and the names of videos that have no partner."""

    pairs: tuple[EvaluationPair, ...]
    unpaired: tuple[str, ...] = ()


def find_pairs(settings: EvaluateSettings) -> Pairs:
    """The pairs that settings name. SettingsError where they name none, or where videos lack a partner that must not; StoreError for places."""
    known = _conditions(settings.conditions) if settings.conditions else {}
    if settings.store:
        if settings.generated or settings.real:
            raise SettingsError("Give two videos or folders to compare, or a store whose test clips are dubbed and compared; not both.")
        return Pairs(tuple(_with_conditions(pair, known) for pair in _pairs_of_split(settings)))
    if not (settings.generated and settings.real):
        raise SettingsError("Give a generated and a real video, or two folders of them; or a store with --store.")
    found = _pairs_by_name(settings.generated, settings.real)
    if found.unpaired and not settings.allow_unpaired:
        named = ", ".join(found.unpaired[:LONGEST_NAMED]) + (f" and {len(found.unpaired) - LONGEST_NAMED} more" if len(found.unpaired) > LONGEST_NAMED else "")
        raise SettingsError(f"Videos without a partner of their name: {named}; give the missing ones, or leave these out with --allow-unpaired.")
    if not found.pairs:
        raise SettingsError(without_secrets(f"No video in {settings.generated} has a partner of its name in {settings.real}."))
    return Pairs(tuple(_with_conditions(pair, known) for pair in found.pairs), found.unpaired)


def _pairs_by_name(generated: str, real: str) -> Pairs:
    """One pair of two files; of two folders the videos with the same path below both, whatever their suffixes."""
    if is_video_name(places.name_of(generated)) and is_video_name(places.name_of(real)):
        return Pairs((EvaluationPair(name=_stem(places.name_of(generated)), generated=generated, real=real),))
    made, true = _videos(generated), _videos(real)
    pairs = [EvaluationPair(name=name, generated=made[name], real=true[name], speaker=_folder(name)) for name in sorted(made.keys() & true.keys())]
    alone = [made[name] for name in sorted(made.keys() - true.keys())] + [true[name] for name in sorted(true.keys() - made.keys())]
    return Pairs(tuple(pairs), tuple(map(without_secrets, alone)))


def _videos(location: str) -> dict[str, str]:
    """Videos below a place, by their path below it without suffix. SettingsError when two have the same name, StoreError when there is none."""
    below = len(str(places.local_path(location)).rstrip("/")) if not places.is_remote(location) else len(location.rstrip("/"))
    found: dict[str, str] = {}
    for file in places.list_objects(location):
        path = str(file.path)
        if not is_video_name(places.name_of(path)):
            continue
        name = _stem(path[below:].lstrip("/") or places.name_of(path))
        if name in found:
            raise SettingsError(without_secrets(f"{found[name]} and {path} have one name; which of them is meant?"))
        found[name] = path
    if not found:
        raise StoreError(without_secrets(f"There are no videos at {location}."))
    return found


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _folder(name: str) -> str | None:
    """Who speaks, by the folder of the video; None for one that lies directly below the place."""
    return name.rpartition("/")[0] or None


def _pairs_of_split(settings: EvaluateSettings) -> list[EvaluationPair]:
    """Each clip of the split under its own speech, and, where the settings ask for it, under that of the next clip of another speaker."""
    if not (settings.store and settings.landmark_generator and settings.renderer):
        raise SettingsError("To dub a store's clips, give --landmark-generator and --renderer too.")
    store = CorpusStore.open(settings.store)
    clips = _clips_of_split(store.snapshot(snapshot_of(settings)), settings)
    cuts = _cuts(store, clips)
    pairs = [EvaluationPair(name=clip.clip_id, clip=cuts[clip.clip_id], speaker=clip.speaker) for clip in clips]
    return pairs + (_with_other_speech(store, clips, cuts) if settings.other_speech else [])


def snapshot_of(settings: EvaluateSettings) -> str:
    """The snapshot that settings name, or that the renderer was trained on. SettingsError where there is neither."""
    named = settings.snapshot or (read_header(weights_in_use(settings.renderer)).snapshot if settings.renderer else None)
    if named is None:
        raise SettingsError("The renderer does not say which snapshot it was trained on; give --snapshot.")
    return named


def _clips_of_split(snapshot: Snapshot, settings: EvaluateSettings) -> list[SnapshotClip]:
    clips = sorted((clip for clip in snapshot.clips if clip.split == settings.split), key=lambda clip: clip.clip_id)
    if not clips:
        raise StoreError(f"The snapshot {snapshot.name} has no {settings.split} clips; name another with --split, or freeze one with more speakers.")
    most = min(settings.most_clips or len(clips), len(clips))
    return [clips[index] for index in np.unique(even_steps(len(clips), most))]


def _cuts(store: CorpusStore, clips: list[SnapshotClip]) -> dict[str, CutClip]:
    """Where each clip lies in its source. StoreError for one that the store has no more."""
    rows = store.clips(CLIP_COLUMNS)
    rows = rows.filter(pc.is_in(rows["clip_id"], value_set=pa.array([clip.clip_id for clip in clips])))
    known = {row["clip_id"]: row for row in rows.to_pylist()}
    if missing := [clip.clip_id for clip in clips if clip.clip_id not in known]:
        raise StoreError(f"The corpus store {store.uri} no longer has the clip {missing[0]} of the snapshot.")
    return {
        clip.clip_id: CutClip(
            source=known[clip.clip_id]["source"],
            start_frame=round(known[clip.clip_id]["segment_start_s"] * VIDEO_FPS),
            frames=known[clip.clip_id]["frames"],
            sound_shift_frames=clip.sound_shift_frames,
        )
        for clip in clips
    }


def _with_other_speech(store: CorpusStore, clips: list[SnapshotClip], cuts: dict[str, CutClip]) -> list[EvaluationPair]:
    partners = {clip.clip_id: partner for clip in clips if (partner := _partner(clip, clips)) is not None}
    arrays = store.read_clips([(partner.batch, partner.clip_id) for partner in {each.clip_id: each for each in partners.values()}.values()])
    heard = {clip.clip_id: tuple(map(float, clip.lip_opening)) for clip in arrays}
    return [
        EvaluationPair(
            name=f"{clip.clip_id}-says-{partners[clip.clip_id].clip_id}",
            clip=cuts[clip.clip_id],
            speech=cuts[partners[clip.clip_id].clip_id],
            speaker=clip.speaker,
            heard=heard[partners[clip.clip_id].clip_id],
        )
        for clip in clips
        if clip.clip_id in partners
    ]


def _partner(clip: SnapshotClip, clips: list[SnapshotClip]) -> SnapshotClip | None:
    """The next clip of another speaker; where there is one speaker, the next clip of another source."""
    at = clips.index(clip)
    following = clips[at + 1 :] + clips[:at]
    others = [other for other in following if other.speaker != clip.speaker] or [other for other in following if _source(other) != _source(clip)]
    return others[0] if others else None


def _source(clip: SnapshotClip) -> str:
    """What of a clip_id names the source's content."""
    return clip.clip_id.partition("-")[0]


def _conditions(location: str) -> dict[str, dict[str, str]]:
    """Speaker and language by name, of a CSV file. SettingsError when it cannot be read or has no column `name`."""
    try:
        rows = list(csv.DictReader(io.StringIO(places.read_bytes(location).decode("utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(without_secrets(f"The conditions {location} cannot be read: {error}.")) from error
    if rows and "name" not in rows[0]:
        raise SettingsError(without_secrets(f"The conditions {location} have no column name."))
    return {row["name"]: {column: row[column] for column in ("speaker", "language") if row.get(column)} for row in rows}


def _with_conditions(pair: EvaluationPair, known: dict[str, dict[str, str]]) -> EvaluationPair:
    """The pair with what the conditions say of its name, of the end of it, or of the clip that it is of."""
    found = known.get(pair.name) or known.get(places.name_of(pair.name)) or known.get(pair.name.partition("-says-")[0])
    return pair.model_copy(update=found) if found else pair
