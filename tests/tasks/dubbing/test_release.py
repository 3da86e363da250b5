"""Approved dubs go out: copied once, recorded when whole, and one that is away holds up no other."""

import json
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest

from ray_jobs.release_dubs import run
from schemas.errors import StoreError
from schemas.gate import Gate
from schemas.jobs import DubJob
from schemas.locations import version_of
from schemas.review import ApprovedDub, ReleaseOutcome, ReviewBatch, ReviewItem, ReviewRow
from schemas.settings import ReleaseSettings
from tasks import places
from tasks.progress import silent
from tests.s3_server import s3_bucket


def approved(folder: Path, job_id: str, **more: object) -> ApprovedDub:
    values = {"batch": "monday.csv", "number": len(job_id), "fingerprint": "f1", "dub": str(folder / f"{job_id}.mp4"), "name": f"deep/{job_id}.mp4"}
    with suppress(FileNotFoundError):
        values["version"] = version_of(fsspec.filesystem("file").info(values["dub"]))
    return ApprovedDub.model_validate({"version": "", **values, "job_id": job_id, "approved_by": "ann", "approved_at": "2026-01-01T00:00:00+00:00", **more})


def settings(folder: Path, release: str, *dubs: ApprovedDub) -> ReleaseSettings:
    (folder / "list.jsonl").write_text("".join(f"{dub.model_dump_json()}\n" for dub in dubs))
    return ReleaseSettings(release=release, lists="/lists", approved=str(folder / "list.jsonl"))


def test_dubs_are_copied_and_recorded_and_a_second_run_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"dub of a")
    told = settings(tmp_path, str(tmp_path / "release"), approved(tmp_path, "a"))
    summary = run(told, silent)
    released = tmp_path / "release" / "monday.csv" / "deep" / "a.mp4"
    assert (summary.released, summary.already_released, summary.missing, released.read_bytes()) == (1, 0, 0, b"dub of a")
    record = json.loads(Path(f"{released}.released.json").read_text())
    assert (record["approved_by"], record["released"], record["size"]) == ("ann", str(released), 8)
    assert (tmp_path / "a.mp4").exists(), "the room still plays it"
    released.write_bytes(b"untouched")
    assert run(told, silent).already_released == 1
    assert released.read_bytes() == b"untouched"


def test_what_was_not_recorded_is_copied_again_and_so_is_another_dub_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"whole")
    released = tmp_path / "release" / "monday.csv" / "deep" / "a.mp4"
    released.parent.mkdir(parents=True)
    released.write_bytes(b"hal")  # a copy without its record may be of a run that was killed
    run(settings(tmp_path, str(tmp_path / "release"), approved(tmp_path, "a")), silent)
    assert released.read_bytes() == b"whole"
    (tmp_path / "a.mp4").write_bytes(b"made anew")
    run(settings(tmp_path, str(tmp_path / "release"), approved(tmp_path, "a", fingerprint="f2")), silent)
    assert released.read_bytes() == b"made anew"


def test_a_dub_that_is_away_is_named_and_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "bb.mp4").write_bytes(b"dub of b")
    summary = run(settings(tmp_path, str(tmp_path / "release"), approved(tmp_path, "a"), approved(tmp_path, "bb")), silent)
    outcome = ReleaseOutcome.model_validate_json(Path(summary.outcome).read_bytes())
    assert (summary.released, summary.missing, outcome.released, list(outcome.missing)) == (1, 1, (("monday.csv", 2),), ["monday.csv: a"])
    assert outcome.outdated == ()


def test_a_file_that_was_changed_since_it_was_approved_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"looked at")
    dub = approved(tmp_path, "a")
    (tmp_path / "a.mp4").write_bytes(b"made anew since")
    summary = run(settings(tmp_path, str(tmp_path / "release"), dub), silent)
    outcome = ReleaseOutcome.model_validate_json(Path(summary.outcome).read_bytes())
    assert (summary.released, outcome.released, outcome.outdated) == (0, (), ((dub.batch, dub.number),))
    assert "changed since it was approved" in outcome.missing["monday.csv: a"]
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize("where", ["item", "run", "gone"])
def test_a_gate_that_was_closed_after_the_approval_holds_the_dub_back(tmp_path: Path, where: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"looked at")
    held = Gate(status="held", sentence="jitter is 0.05, over 0.03.")
    row = ReviewRow(job_id="a", fingerprint="f1", risk=0.1, gate=held if where == "item" else Gate(), duration_s=1.0)
    batch = ReviewBatch(rows=(row,), gate=held if where == "run" else Gate())
    material = tmp_path / "review" / "monday.csv"
    if where != "gone":
        (material / "items").mkdir(parents=True)
        (material / "batch.json").write_text(batch.model_dump_json())
        (material / "items" / "a.json").write_text(item_of(row, tmp_path).model_dump_json())
    summary = run(settings(tmp_path, str(tmp_path / "release"), approved(tmp_path, "a").model_copy(update={"folder": str(material)})), silent)
    outcome = ReleaseOutcome.model_validate_json(Path(summary.outcome).read_bytes())
    assert outcome.missing == ({} if where == "gone" else {"monday.csv: a": "The gate holds it: jitter is 0.05, over 0.03."})
    assert (tmp_path / "release" / "monday.csv" / "deep" / "a.mp4").exists() is (where == "gone")


def item_of(row: ReviewRow, folder: Path) -> ReviewItem:
    job = DubJob(job_id=row.job_id, video="/v.mp4", speech="/s.wav", out="a.mp4")
    return ReviewItem(
        job_id=row.job_id, fingerprint=row.fingerprint, dub=str(folder / "a.mp4"), source="previews/a.mp4", job=job, fps=25, duration_s=1.0, peaks=(),
        source_opening=(), dub_opening=(), confidence=(), risk=row.risk, gate=row.gate,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["/etc/x.mp4", "../x.mp4", "deep/../../x.mp4", "s3://other/x.mp4", "~/x.mp4"])
def test_no_name_leads_out_of_the_release_folder(tmp_path: Path, name: str) -> None:
    line = approved(tmp_path, "a").model_dump() | {"name": name}
    (tmp_path / "list.jsonl").write_text(json.dumps(line))
    with pytest.raises(StoreError, match="cannot be read"):
        run(ReleaseSettings(release=str(tmp_path), lists="/lists", approved=str(tmp_path / "list.jsonl")), silent)


def test_buckets_are_released_to_as_folders_are(tmp_path: Path) -> None:
    with s3_bucket("released") as bucket:
        places.write_bytes(f"{bucket}/dubs/a.mp4", b"dub of a")
        version = version_of(fsspec.filesystem("s3").info(f"{bucket}/dubs/a.mp4"))
        told = settings(tmp_path, f"{bucket}/release", approved(tmp_path, "a", dub=f"{bucket}/dubs/a.mp4", version=version))
        assert [run(told, silent).released for _ in range(2)] == [1, 0]
        assert places.read_bytes(f"{bucket}/release/monday.csv/deep/a.mp4") == b"dub of a"
