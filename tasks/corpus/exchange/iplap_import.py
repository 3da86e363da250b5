"""What people preprocessed with IP_LAP's own scripts, as finished batches of a corpus store."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from schemas.errors import StoreError
from schemas.jobs import BatchPlan, PlannedSource, Split
from schemas.locations import is_remote, local_path
from schemas.settings import CropSettings, FormatSettings, IngestSettings, Settings, check_settings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.batch import BatchCounts, batch_files, publish_batch
from tasks.corpus.exchange import iplap_files
from tasks.corpus.exchange.iplap_export import SPLITS, SUMMARY
from tasks.corpus.exchange.iplap_videos import Folders, cut_video, find_videos, first_picture_size
from tasks.corpus.known import DIGEST, read_forgotten, read_known, source_digest
from tasks.corpus.plan import plan_batch
from tasks.corpus.store import CorpusStore
from tasks.progress import Progress, silent

IPLAP_CROP = CropSettings(padding="iplap-train", size=128)
"""What the original's preprocessing cuts."""
LARGER_SIZE = 256
"""Pixels; what forks of it cut."""


class ImportSummary(Settings):
    """What an import did."""

    store: str
    videos: int = Field(description="videos found")
    known: int = Field(description="videos that a finished batch already has")
    batches: tuple[str, ...] = Field(description="batches written by this run")
    clips: int = Field(description="clips written by this run")
    frames: int = Field(description="frames written by this run")
    rejects: dict[str, int] = Field(description="videos and clips turned away by this run, by reason")
    crop: CropSettings = Field(description="the crop that the pictures are taken to hold")


def import_iplap(folder: str, store_uri: str, progress: Progress = silent, crop: CropSettings | None = None) -> ImportSummary:
    """Takes what IP_LAP's preprocessing wrote into a store, which is made when it is not there.

    folder: holds one folder each with landmark, face and audio in its name, and one with sketch if there are sketches.
    crop: of the pictures; None: as dubmill's own export says, else the original's. A store of another crop is an error.
    Videos that a finished batch has are not read again. Splits come from `filelists/lrs2` in the folder, where it is there.
    Measures are of what is there: the box is the crop's own pixels, so `face_px` is the size of the picture and not of the
    source's face, and every frame counts as detected. progress: told the videos done. Raises StoreError and SettingsError.
    """
    if is_remote(folder):
        raise StoreError(f"{folder} is remote; copy it to a local folder first: it is millions of small files.")
    root = Path(local_path(folder)).resolve()
    folders = Folders.of(root)
    videos = find_videos(folders, _splits(root))
    if not videos:
        raise StoreError(f"{folder} holds nothing that IP_LAP's preprocessing wrote: no folder with landmarks, faces and sound of a video.")
    store = _open_store(store_uri, crop or _crop_of(root, folders))
    new = _unknown(store, videos)
    counts = list(_write_batches(store, folders, new, progress))
    progress(len(new), len(new), "videos")
    return _summary(store, len(videos), len(videos) - len(new), counts)


def _splits(root: Path) -> dict[str, Split]:
    """The split of each video of the file lists; a line may carry a second word."""
    splits: dict[str, Split] = {}
    for split in SPLITS:
        path = root / iplap_files.LISTS / f"{split}.txt"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        splits |= {line.split()[0]: split for line in lines if line.strip()}
    return splits


def _crop_of(root: Path, folders: Folders) -> CropSettings:
    """The crop that dubmill's export wrote down; where there is no such file the original's, in the size of the pictures (forks have 256)."""
    path = root / SUMMARY
    if not path.is_file():
        return IPLAP_CROP if first_picture_size(folders) != LARGER_SIZE else IPLAP_CROP.replaced(size=LARGER_SIZE)
    try:
        return check_settings(CropSettings, json.loads(path.read_text(encoding="utf-8"))["crop"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"The file {path} does not say which crop the pictures hold.") from error


def _open_store(store_uri: str, crop: CropSettings) -> CorpusStore:
    """The store as it is, its crop apart, which must be this one; a new one where there is none."""
    there = places.exists(places.join(store_uri, layout.SETTINGS))
    store_format = CorpusStore.open(store_uri).format if there else FormatSettings()
    return CorpusStore.create_or_open(store_uri, store_format.replaced(crop=crop.model_dump()))


def _unknown(store: CorpusStore, videos: list[PlannedSource]) -> list[PlannedSource]:
    """Videos that no finished batch has in this version, and that were not forgotten."""
    digests = np.array([source_digest(video.uri, video.size, video.version) for video in videos], dtype=DIGEST)
    return [video for video, position in zip(videos, read_known(store).positions(digests).tolist(), strict=True) if position < 0]


def _write_batches(store: CorpusStore, folders: Folders, videos: list[PlannedSource], progress: Progress) -> Iterator[BatchCounts]:
    """As many videos a batch as an ingest takes sources. A killed import leaves plans that the next one makes again, and finishes."""
    settings = IngestSettings(store=store.uri)
    for start in range(0, len(videos), settings.batch_sources):
        plan = plan_batch(videos[start : start + settings.batch_sources], store.format)
        places.write_bytes(layout.plan_location(store.uri, plan.batch), plan.model_dump_json().encode())
        yield _write_batch(store, folders, plan, settings.shard_mb, lambda done, _total=None, note="", start=start: progress(start + done, len(videos), note))


def _write_batch(store: CorpusStore, folders: Folders, plan: BatchPlan, shard_mb: int, progress: Progress) -> BatchCounts:
    forgotten = read_forgotten(store.uri).contents
    with tempfile.TemporaryDirectory(prefix="dubmill-import-") as made:
        with batch_files(made, plan, shard_mb) as files:
            for done, video in enumerate(plan.sources):
                progress(done, len(plan.sources), places.name_of(video.uri))
                for piece in cut_video(video, folders, plan.format, forgotten):
                    files.add(piece)
            counts = files.counts()
        return counts if publish_batch(made, store.uri, plan.batch) else BatchCounts(batch=plan.batch, written=False)


def _summary(store: CorpusStore, videos: int, known: int, counts: list[BatchCounts]) -> ImportSummary:
    written = [count for count in counts if count.written]
    rejects = sum((Counter(count.rejects) for count in written), Counter[str]())
    return ImportSummary(
        store=store.uri,
        videos=videos,
        known=known,
        batches=tuple(sorted(count.batch for count in written)),
        clips=sum(count.clips for count in written),
        frames=sum(count.frames for count in written),
        rejects=dict(sorted(rejects.items())),
        crop=store.format.crop,
    )
