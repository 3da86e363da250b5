"""What a run trains on: the store, the snapshot it reads, and its clips."""

import hashlib
import logging
from dataclasses import dataclass

from schemas.jobs import Snapshot
from schemas.locations import absolute_location, without_secrets
from schemas.settings import SnapshotSettings, TrainingSettings
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.training.footage import Lessons, read_lessons
from tasks.training.session import Session, from_leader
from tasks.training.state import SavedRun

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """An opened corpus."""

    store: CorpusStore
    snapshot: Snapshot
    lessons: Lessons

    @property
    def place(self) -> str:
        """Where the store is, as weights name it: it means the same in any folder, and holds no secrets."""
        return without_secrets(absolute_location(self.store.uri))

    @property
    def digest(self) -> str:
        """Tells apart corpora whose snapshots have the same name: SHA-256 over the clips, their splits and how their sound is moved."""
        clips = "".join(f"{clip.clip_id} {clip.split} {clip.sound_shift_frames}\n" for clip in self.snapshot.clips)
        return hashlib.sha256(clips.encode()).hexdigest()


def open_corpus(settings: TrainingSettings, saved: SavedRun | None, session: Session) -> Corpus:
    """Opens the store and reads the snapshot's clips: that of the worker that leads, on every worker.

    StoreError when there is no store, no such snapshot or no clip to train on.
    """
    store = CorpusStore.open(settings.store)
    name = from_leader(choose_snapshot(store, settings, saved).name if session.leads else "", session)
    snapshot = store.snapshot(name)
    return Corpus(store, snapshot, read_lessons(store, snapshot, settings.memory_limit_mb, settings.cache))


def choose_snapshot(store: CorpusStore, settings: TrainingSettings, saved: SavedRun | None) -> Snapshot:
    """The snapshot that the settings name, or that a resumed run read, or one frozen now with the default selection."""
    name = settings.snapshot or (saved.snapshot if saved else None)
    if name:
        return store.snapshot(name)
    snapshot = freeze_snapshot(store, SnapshotSettings())
    left_out = ", ".join(f"{setting} {count}" for setting, count in snapshot.left_out.items())
    LOG.info("The snapshot %s holds %d clips; left out: %s.", snapshot.name, len(snapshot.clips), left_out or "none")
    return snapshot
