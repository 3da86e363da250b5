"""What a scenario lets dubmill do, and what it finds of that afterwards: clips in a store, dubs with their rows."""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pyarrow.parquet as pq

from schemas.errors import StoreError
from schemas.settings import BulkDubSettings, DubSettings, IngestSettings, write_settings
from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.file_hash import file_hash
from tasks.progress import silent
from tests.chaos.stage import Stage
from tests.footage import make_speech, make_talking_clip
from tests.tasks.dubbing.random_networks import write_random_networks

PLACE_COLUMNS = frozenset({"batch", "faces_shard", "faces_offset"})
"""Where a clip lies, which need not be the same in two stores with the same clips."""
PICTURE_PX = (192, 192)


@dataclass(frozen=True)
class Size:
    """How much there is to do: sources to ingest and lists of dubs, with the seconds of each."""

    clips: int = 6
    clip_s: float = 1.0
    dubs: int = 6
    speech_s: float = 0.6


@dataclass(frozen=True)
class Work:
    """One scenario's own: a store and a folder of dubs that are empty at first, and the settings that fill them."""

    name: str
    store: str
    out: str
    settings: dict[str, str]
    """Of each DAG, where its settings file lies."""


@dataclass(frozen=True)
class Kept:
    """What is found afterwards. clips: rows of each over all batches. content: a digest of all that is kept of each clip, its pictures by their checksums.
    dubs: rows that say done, of each job over all result tables. frames: of each finished dub. failed: jobs whose last row says so, by reason.
    damage: what `corpus verify` says, which reads back every picture.
    """

    clips: Counter[str] = field(default_factory=Counter)
    content: dict[str, str] = field(default_factory=dict)
    dubs: Counter[str] = field(default_factory=Counter)
    frames: dict[str, int] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    damage: tuple[str, ...] = ()


class Material:
    """Footage, speeches and networks in the bucket, once for all scenarios; each scenario has a store and a list of its own."""

    def __init__(self, stage: Stage, size: Size) -> None:
        self.size, self._place, self._folder = size, stage.place, stage.folder / "material"
        for seed in range(size.clips):
            clip = make_talking_clip(self._folder / f"footage/speaker-{seed % 2}/{seed}.mp4", size.clip_s, size=PICTURE_PX, seed=seed)
            places.put(clip, f"{self._place}/footage/{clip.parent.name}/{clip.name}")
        places.put(make_speech(self._folder / "speech.wav", size.speech_s), f"{self._place}/speech.wav")
        (self._folder / "networks").mkdir()
        self._networks = self._uploaded(write_random_networks(self._folder / "networks"))

    def work(self, name: str, workers: int = 1) -> Work:
        """A new store and a new list. workers: actors that ingest."""
        here = f"{self._place}/{name}"
        places.write_bytes(f"{here}/lists/{name}.csv", self._list().encode())
        ingest = IngestSettings(sources=(f"{self._place}/footage",), store=f"{here}/corpus", batch_sources=1, workers=workers)
        dub = BulkDubSettings(**self._networks.model_dump(), jobs=f"{here}/lists", out=f"{here}/dubs", workers=2)
        settings = {dag_id: f"{here}/{dag_id}.yaml" for dag_id in ("ingest_corpus", "bulk_dubbing")}
        write_settings(ingest, settings["ingest_corpus"])
        write_settings(dub, settings["bulk_dubbing"])
        return Work(name, ingest.store, f"{dub.out}/{name}.csv", settings)

    @property
    def expected(self) -> Kept:
        """What is kept of it, as far as names go: a clip of each source, a row of each job."""
        hashes = [file_hash(path)[:16] for path in (self._folder / "footage").rglob("*.mp4")]
        clips, dubs = Counter(f"{name}-s0t0" for name in hashes), Counter(f"dub-{number:02}" for number in range(self.size.dubs))
        return Kept(clips=clips, dubs=dubs)

    def _uploaded(self, networks: DubSettings) -> DubSettings:
        remote = {}
        for kind in ("landmark_generator", "renderer"):
            local = Path(getattr(networks, kind))
            remote[kind] = f"{self._place}/{local.name}"
            places.put(local, remote[kind])
        return networks.replaced(**remote, references=1, landmark_references=2)

    def _list(self) -> str:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["job_id", "video", "speech", "out"])
        for number in range(self.size.dubs):
            seed = number % self.size.clips
            rows.writerow([f"dub-{number:02}", f"{self._place}/footage/speaker-{seed % 2}/{seed}.mp4", f"{self._place}/speech.wav", f"dub-{number:02}.mp4"])
        return text.getvalue()


def batches_there(work: Work) -> int:
    """Finished batches of the store."""
    return len(places.list_names(f"{work.store}/clips", ".parquet"))


def dubs_there(work: Work) -> int:
    """Finished videos."""
    return len(places.list_names(work.out, ".mp4"))


def kept(work: Work) -> Kept:
    """Everything that the store and the folder of dubs hold."""
    clips, content, damage = _clips(work.store)
    rows = list(_result_rows(work.out))
    there = set(places.list_names(work.out, ".mp4"))
    done = [row for row in rows if row["status"] == "done"]
    last = {row["job_id"]: row for row in rows}
    return Kept(
        clips=clips,
        content=content,
        dubs=Counter(row["job_id"] for row in done if places.name_of(row["output"]) in there),
        frames={row["job_id"]: row["frames"] for row in done},
        failed=Counter(row["reason"] for row in last.values() if row["status"] == "failed"),
        damage=damage,
    )


def _clips(location: str) -> tuple[Counter[str], dict[str, str], tuple[str, ...]]:
    try:
        store = CorpusStore.open(location)
    except StoreError:  # nothing was begun
        return Counter(), {}, ()
    every = Counter(store.clip_rows(["clip_id"]).column("clip_id").to_pylist())
    rows = store.clips().to_pylist()
    arrays = {clip.clip_id: clip for clip in store.read_clips((row["batch"], row["clip_id"]) for row in rows)}
    content = {}
    for row in rows:
        clip, digest = arrays[row["clip_id"]], hashlib.sha256()
        digest.update(repr(sorted((name, value) for name, value in row.items() if name not in PLACE_COLUMNS)).encode())
        for array in (clip.mel, clip.pose, clip.content, clip.boxes, clip.lip_opening):
            digest.update(array.tobytes())
        content[row["clip_id"]] = digest.hexdigest()
    return every, content, tuple(map(str, verify_store(location, silent)))


def _result_rows(out: str) -> Iterator[dict[str, object]]:
    folder = f"{out}/results"
    for name in places.list_names(folder, ".parquet"):
        with fsspec.open(f"{folder}/{name}", "rb") as file:
            yield from pq.read_table(file, columns=["job_id", "status", "reason", "output", "frames"]).to_pylist()


def written_again(puts: Counter[str], work: Work) -> tuple[int, int]:
    """How often more than once a batch's landmarks and a dub were written: work that was done again, though it counts once."""
    base = work.store.removeprefix("s3://").removesuffix("/corpus")
    batch, dub = re.compile(rf"/{re.escape(base)}/corpus/landmarks/[^/]+\.parquet"), re.compile(rf"/{re.escape(base)}/dubs/.*\.mp4")
    again = Counter({path: count - 1 for path, count in puts.items()})
    return sum(count for path, count in again.items() if batch.fullmatch(path)), sum(count for path, count in again.items() if dub.fullmatch(path))
