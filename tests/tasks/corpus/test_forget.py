"""Forgetting: nothing that a store holds names a person any more, all others are as they were, and a kill loses nothing of either."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import write_tensors
from schemas.checkpoints import HEADER_KEY, CheckpointHeader, LandmarkGeneratorSize
from schemas.errors import StoreError
from schemas.jobs import BatchPlan, PlannedSource
from schemas.settings import CropSettings, FormatSettings, SnapshotSettings
from schemas.tables import DUB_RESULTS
from tasks import places
from tasks.corpus import forget as forgetting
from tasks.corpus import layout
from tasks.corpus.forget import forget
from tasks.corpus.ingest import ingest_here
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.corpus.verify import verify_store
from tasks.dubbing.results import ResultWriter
from tasks.progress import silent
from tests.footage import make_talking_clip
from tests.s3_server import s3_bucket
from tests.tasks.corpus.conftest import settings_for

ANNA = "anna"
EVERYTHING = SnapshotSettings(name="first", min_frames=5, min_face_px=0, min_detected_share=0, max_yaw_deg=180, twins="all")


@pytest.fixture
def snapshot(store: Path) -> str:
    return freeze_snapshot(CorpusStore.open(str(store)), EVERYTHING).name


def clip_rows(store: Path | str) -> list[dict]:
    opened = CorpusStore.open(str(store))
    return [row for batch in opened.batches() for row in opened.table(layout.CLIPS, batch).to_pylist()]


def rows_of(store: Path, speaker: str) -> list[dict]:
    return [row for row in clip_rows(store) if row["speaker"] == speaker]


def pictures(store: Path | str) -> dict[str, list[bytes]]:
    """The coded pictures of every clip."""
    opened = CorpusStore.open(str(store))
    places_of = {row["clip_id"]: zip(row["faces_offset"], row["faces_size"], strict=True) for row in clip_rows(store)}
    shards = {row["clip_id"]: row["faces_shard"] for row in clip_rows(store)}
    return {clip: [opened.face_picture_bytes(shards[clip], *place) for place in held] for clip, held in places_of.items()}


def rest_of(store: Path, rows: list[dict]) -> tuple[dict[str, list[bytes]], list[tuple[str, str]]]:
    """Pictures of all clips but those, and where all rows but those come from."""
    gone = {row["clip_id"] for row in rows}
    kept = {clip: held for clip, held in pictures(store).items() if clip not in gone}
    return kept, sorted((row["source"], row["clip_id"]) for row in clip_rows(store) if row["clip_id"] not in gone)


def words_in(store: Path) -> str:
    """All that the files of a store say, tables and file names too."""
    said = []
    for path in store.rglob("*"):
        if path.is_file():
            said += [str(path.relative_to(store)), path.read_bytes().decode("latin-1")]
        if path.suffix == ".parquet":
            columns = [name for name in pq.read_schema(path).names if name not in ("mel", "flac", "pose", "content", "box")]
            said.append(str(pq.read_table(path, columns=columns).to_pylist()))
    return "\n".join(said)


def test_nothing_names_the_person_any_more_and_all_others_are_as_they_were(store: Path, snapshot: str) -> None:
    anna = rows_of(store, ANNA)
    rest = rest_of(store, anna)
    summary = forget(str(store), [ANNA])
    assert set(summary.clips) == {row["clip_id"] for row in anna} != set()
    said = words_in(store)
    for word in (f'"{ANNA}"', f"'{ANNA}'", *summary.clips, *(row["source"] for row in anna)):
        assert word not in said
    assert rest_of(store, anna) == rest
    assert rest[0]
    assert verify_store(str(store), silent) == []


def test_a_batch_made_anew_is_coded_as_any_other(store: Path) -> None:
    def codings() -> set[tuple[str, ...]]:
        tables = [pq.read_metadata(path) for path in sorted((store / layout.LANDMARKS).iterdir())]
        columns = [table.row_group(0).column(index) for table in tables if table.num_rows for index in range(table.num_columns)]
        return {(column.path_in_schema, column.compression, *sorted(column.encodings)) for column in columns}

    before = codings()
    forget(str(store), ["bert"])
    assert codings() == before


def test_the_same_content_under_another_name_is_that_person_too(store: Path) -> None:
    assert {row["speaker"] for row in clip_rows(store)} >= {"anna", "bert"}
    forget(str(store), ["bert"])  # bert.mp4 is a copy of anna/one.mp4
    assert not any(row["source"].endswith(("bert.mp4", "one.mp4")) for row in clip_rows(store))
    assert any(row["source"].endswith("gap.MP4") for row in clip_rows(store))


def test_a_person_does_not_come_back(footage: Path, store: Path, tmp_path: Path) -> None:
    before = clip_rows(store)
    forget(str(store), [ANNA])
    kept = clip_rows(store)
    assert len(kept) < len(before)
    again = ingest_here(settings_for(footage, store), silent)
    assert (again.known, again.clips) == (again.sources, 0)
    shutil.copy(footage / "anna" / "one.mp4", tmp_path / "renamed.mp4")
    renamed = ingest_here(settings_for(tmp_path / "renamed.mp4", store), silent)
    assert (renamed.clips, renamed.rejects) == (0, {"forgotten": 1})
    assert clip_rows(store) == kept
    assert verify_store(str(store), silent) == []


def test_one_clip_of_several_goes_alone(footage: Path, store: Path, snapshot: str) -> None:
    of_gap = [row for row in clip_rows(store) if row["source"].endswith("gap.MP4")]
    assert len(of_gap) == 2  # the face is away for a while
    rest = rest_of(store, of_gap[:1])
    summary = forget(str(store), clips=[of_gap[0]["clip_id"]])
    assert (summary.clips, summary.sources) == ((of_gap[0]["clip_id"],), 0)
    assert rest_of(store, of_gap[:1]) == rest
    assert verify_store(str(store), silent) == []
    again = ingest_here(settings_for(footage, store), silent)
    assert again.known == again.sources
    both = forget(str(store), clips=[of_gap[1]["clip_id"]])
    assert both.sources == 1
    assert "gap.MP4" not in words_in(store)


def test_a_clip_goes_from_every_batch_that_holds_it(store: Path) -> None:
    twice = next(row["clip_id"] for row in clip_rows(store) if row["source"].endswith("bert.mp4"))
    assert sum(row["clip_id"] == twice for row in clip_rows(store)) == 2
    forget(str(store), clips=[twice])
    assert twice not in words_in(store)
    assert "bert.mp4" not in words_in(store)


def test_snapshots_are_replaced_under_another_name(store: Path, snapshot: str) -> None:
    before = CorpusStore.open(str(store)).snapshot(snapshot)
    summary = forget(str(store), clips=[before.clips[0].clip_id])
    opened = CorpusStore.open(str(store))
    [name] = opened.snapshots()
    assert summary.snapshots == {snapshot: name}
    assert name.startswith("first-without-")
    after = opened.snapshot(name)
    assert [(clip.clip_id, clip.split) for clip in after.clips] == [(clip.clip_id, clip.split) for clip in before.clips[1:]]
    assert len(list(opened.read_clips((clip.batch, clip.clip_id) for clip in after.clips))) == len(after.clips)


def test_a_dry_run_says_the_same_and_changes_nothing(store: Path, snapshot: str) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    said = forget(str(store), [ANNA], dry_run=True)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert forget(str(store), [ANNA]) == said.replaced(dry_run=False)


def test_models_and_dubs_are_listed(store: Path, snapshot: str, tmp_path: Path) -> None:
    trained = CheckpointHeader(kind="landmark-generator", architecture=LandmarkGeneratorSize(), crop=CropSettings(), snapshot=snapshot)
    for name, header in {"hers": trained, "other": trained.replaced(snapshot="another")}.items():
        write_tensors(str(tmp_path / "models" / f"{name}.safetensors"), {"one": torch.zeros(1)}, {HEADER_KEY: header.model_dump_json()})
    sources = {row["speaker"]: row["source"] for row in clip_rows(store)}
    row = dict.fromkeys(DUB_RESULTS.names) | {"speech": "s.wav", "status": "done", "landmark_generator": "", "renderer": "", "fingerprint": ""}
    with ResultWriter(str(tmp_path / "dubs")) as writer:
        writer.add(row | {"job_id": "1", "video": sources[ANNA], "output": "hers.mp4"})
        writer.add(row | {"job_id": "2", "video": "/elsewhere/other.mp4", "output": "other.mp4"})
    summary = forget(str(store), [ANNA], also=[str(tmp_path)])
    assert summary.models == (str(tmp_path / "models" / "hers.safetensors"),)
    assert summary.dubs == ("hers.mp4",)


def test_whom_nobody_knows_is_said(store: Path) -> None:
    assert forget(str(store), ["nobody at all"]).not_found == ("nobody at all",)
    with pytest.raises(StoreError, match="nobody to forget"):
        forget(str(store))


def test_unfinished_plans_that_name_the_person_go(store: Path) -> None:
    source = PlannedSource(uri="/new/anna/late.mp4", size=1, version="1", speaker=ANNA)
    plan = BatchPlan(batch="begun", sources=(source,), format=FormatSettings(), schema_version=2)
    places.write_bytes(layout.plan_location(str(store), plan.batch), plan.model_dump_json().encode())
    assert forget(str(store), [ANNA]).leftovers == ("begun",)
    assert "late.mp4" not in words_in(store)


@pytest.mark.parametrize("whom", ["speaker", "clip"])
def test_a_kill_at_any_moment_leaves_a_sound_store_and_the_next_run_finishes(store: Path, snapshot: str, tmp_path: Path, whom: str) -> None:
    clip = next(row["clip_id"] for row in clip_rows(store) if row["source"].endswith("gap.MP4"))
    speakers, clips = ([ANNA], []) if whom == "speaker" else ([], [clip])
    whole = Path(shutil.copytree(store, tmp_path / "whole"))
    forget(str(whole), speakers, clips)
    wanted = {str(path.relative_to(whole)): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    for steps in range(200):
        copy = Path(shutil.copytree(store, tmp_path / f"copy{steps}"))
        killed = True
        with pytest.MonkeyPatch.context() as patch:
            die_after(patch, steps)
            with suppress(KeyboardInterrupt):
                forget(str(copy), speakers, clips)
                killed = False
        assert [fault for fault in verify_store(str(copy), silent) if not is_of_a_snapshot_under_way(fault)] == []
        forget(str(copy), speakers, clips)
        assert {str(path.relative_to(copy)): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == wanted
        shutil.rmtree(copy)
        if not killed:
            break
    assert steps > 10


def is_of_a_snapshot_under_way(fault: str) -> bool:
    """A snapshot is there when its .json is there; a table of left-out clips alone is told and does no harm."""
    return fault.startswith("Snapshot first") and fault.endswith(".json is missing.")


def die_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Ends the run at the next file that is written or removed after so many."""
    left = iter([True] * steps)

    def mortal(step: Callable[..., object]) -> Callable[..., object]:
        def step_or_die(*arguments: object) -> object:
            if not next(left, False):
                raise KeyboardInterrupt
            return step(*arguments)

        return step_or_die

    for name in ("remove", "write_bytes", "write_once"):
        patch.setattr(places, name, mortal(getattr(places, name)))
    patch.setattr(forgetting, "add_forgotten", mortal(forgetting.add_forgotten))


def test_a_store_of_objects_forgets_too(store: Path, snapshot: str) -> None:
    with s3_bucket("forgetting") as bucket:
        for path in (path for path in store.rglob("*") if path.is_file()):
            places.put(path, places.join(bucket, path.relative_to(store).as_posix()))
        here, there = forget(str(store), [ANNA]), forget(bucket, [ANNA])
        assert there.replaced(store=str(store)) == here
        assert pictures(bucket) == pictures(store)
        assert verify_store(bucket, silent) == []


def test_two_snapshots_that_lose_their_names_stay_two(store: Path) -> None:
    opened = CorpusStore.open(str(store))
    for number, seed in enumerate((0, 3)):
        freeze_snapshot(opened, EVERYTHING.replaced(name=f"anna-{number}", seed=seed))
    gone = next(row["clip_id"] for row in clip_rows(store) if row["source"].endswith("gap.MP4"))
    summary = forget(str(store), [ANNA[:3]], [gone])
    made = sorted(summary.snapshots.values())
    assert all(name.startswith("snapshot-without-") for name in made)
    assert opened.snapshots() == made
    assert {opened.snapshot(name).selection.seed for name in made} == {0, 3}


def test_content_that_was_turned_away_does_not_come_back_under_another_name(tmp_path: Path) -> None:
    hidden = make_talking_clip(tmp_path / "footage" / ANNA / "a.mp4", seconds=0.8, hidden_frames=range(3, 20))
    settings = settings_for(tmp_path / "footage", tmp_path / "store")
    assert ingest_here(settings, silent).rejects == {"too-short": 1}
    forget(settings.store, [ANNA])
    hidden.rename(tmp_path / "footage" / "other.mp4")
    assert ingest_here(settings, silent).rejects == {"forgotten": 1}
