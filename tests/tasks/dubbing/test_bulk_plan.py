from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.jobs import DubJob, Segment
from schemas.settings import BulkDubSettings
from tasks import places
from tasks.dubbing.bulk_plan import SHAPING, existing, file_sizes, fingerprints, grouped, in_order, plan_bulk, settings_of
from tests.s3_server import s3_bucket

SETTINGS = BulkDubSettings(landmark_generator="l", renderer="r", jobs="jobs.csv", out="/out")
VERSIONS = {"landmark_generator": "1" * 16, "renderer": "2" * 16}
JOB = DubJob(job_id="a", video="/v.mp4", speech="/s.wav", out="a.mp4")


def job(name: str, video: str, speech: Path | str = "/s.wav", **more: object) -> DubJob:
    return DubJob(job_id=name, video=video, speech=str(speech), out=f"{name}.mp4", **more)


def names(jobs: tuple[DubJob, ...]) -> str:
    return "".join(job.job_id for job in jobs)


def speeches(folder: Path, **sizes: int) -> dict[str, Path]:
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(size))
    return {name: folder / name for name in sizes}


def test_jobs_of_one_video_stay_together_and_the_most_to_say_comes_first(tmp_path: Path) -> None:
    speech = speeches(tmp_path, short=10, middle=40, long=50)
    jobs = [job("a", "one", speech["short"]), job("b", "two", speech["middle"]), job("c", "one", speech["long"]), job("d", "three", speech["short"])]
    assert names(in_order(jobs, {})) == "cabd"


def test_what_is_urgent_comes_before_what_is_long_and_what_failed_before_comes_last(tmp_path: Path) -> None:
    speech = speeches(tmp_path, short=10, long=50)
    jobs = [job("a", "one", speech["long"]), job("b", "one", speech["short"], priority=1), job("c", "one", speech["long"]), job("d", "two", speech["short"])]
    assert names(in_order(jobs, {"a": {"status": "failed"}, "c": {"status": "done"}})) == "bcda"


def test_the_order_of_the_list_is_no_part_of_the_order(tmp_path: Path) -> None:
    jobs = [job(name, "one", settings={"references": number % 2 + 1}) for number, name in enumerate("abcd")]
    assert names(in_order(jobs, {})) == names(in_order(jobs[::-1], {})) == "acbd"


def test_groups_are_of_one_video() -> None:
    jobs = [job(str(number), video) for number, video in enumerate("aaabbc")]
    assert [[job.job_id for job in group] for group in grouped(jobs, most=2)] == [["0", "1"], ["2"], ["3", "4"], ["5"]]


OTHERS: dict[str, object] = {
    "fps": "25",
    "loop": "cut",
    "face": "left",
    "references": 5,
    "landmark_references": 3,
    "smoothing": "none",
    "rest_in_silence": False,
    "fade_from_yaw_deg": 1.0,
    "gone_at_yaw_deg": 90.0,
    "min_face_px": 1.0,
    "keep_covered": False,
    "hold_to_head": False,
    "match_colour": False,
    "sharpening": 1.0,
    "jaw_predictor": "/jaw.dat",
    "soundtrack": "/music.wav",
    "precision": "bf16",
    "encoder": "x264",
    "encoder_preset": "slow",
    "crf": 30,
    "hdr": "refuse",
    "patch": "/patch",
    "consent": "77",
}


def fingerprint(job: DubJob = JOB, settings: BulkDubSettings = SETTINGS, versions: dict[str, str] = VERSIONS) -> str:
    return fingerprints(settings, versions)(job)


@pytest.mark.parametrize("name", sorted(SHAPING))
def test_every_setting_that_shapes_an_output_makes_it_another_dub(name: str) -> None:
    of_the_run, of_the_row = SETTINGS.replaced(**{name: OTHERS[name]}), JOB.replaced(settings={name: OTHERS[name]})
    assert fingerprint(settings=of_the_run) == fingerprint(of_the_row) != fingerprint()


@pytest.mark.parametrize(
    "changed",
    [
        {"device": "cpu"},
        {"batch_frames": 3},
        {"memory_share": 0.1},
        {"compile": True},
        {"templates": "/kept"},
        {"workers": 7},
        {"canary": 3},
        {"time_limit_factor": 7},
        {"out": "/moved"},
        {"jobs": "other.csv"},
        {"renderer": "same weights elsewhere"},
    ],
)
def test_what_shapes_nothing_makes_no_other_dub(changed: dict[str, object]) -> None:
    assert fingerprint(settings=SETTINGS.replaced(**changed)) == fingerprint()


def test_a_row_counts_but_not_its_priority() -> None:
    assert fingerprint(JOB.replaced(priority=9)) == fingerprint()
    assert fingerprint(JOB.replaced(settings={"batch_frames": 3})) == fingerprint()
    changes: list[dict[str, object]] = [
        {"video": "/w.mp4"},
        {"speech": "/t.wav"},
        {"out": "b.mp4"},
        {"segments": [Segment(start_s=0, end_s=1, speech="/s.wav")]},
    ]
    prints = {fingerprint(JOB.replaced(**change)) for change in changes} | {fingerprint(versions=VERSIONS | {"renderer": "3" * 16})}
    assert len(prints | {fingerprint()}) == 6


def test_rows_override_the_run_and_patches_go_below_its_out() -> None:
    settings = settings_of(JOB.replaced(settings={"references": 5, "patch": "patches/a"}), SETTINGS.replaced(references=10, crf=20))
    assert (settings.references, settings.crf, settings.patch) == (5, 20, "/out/patches/a")


def test_patches_of_all_jobs_in_one_folder_are_refused() -> None:
    with pytest.raises(SettingsError, match="make `patch` a column"):
        plan_bulk(SETTINGS.replaced(patch="/patches"))


def check_files_are_found(root: str) -> None:
    for name, size in (("many/1", 1), ("many/.hidden", 2), ("few/1", 3), *((f"many/x{number}", 4) for number in range(20))):
        places.write_bytes(f"{root}/{name}", bytes(size))
    asked = {f"{root}/{name}": size for name, size in (("many/1", 1), ("few/1", 3), *((f"many/x{number}", 4) for number in range(20)))}
    nowhere = [f"{root}/many/none", f"{root}/few/none", f"{root}/none/1"]
    assert existing([*asked, f"{root}/many/.hidden", *nowhere]) == {*asked, f"{root}/many/.hidden"}
    assert file_sizes([*asked, *nowhere]) == asked


def test_many_files_are_asked_for_by_folder(tmp_path: Path) -> None:
    check_files_are_found(str(tmp_path))


def test_many_objects_are_asked_for_by_prefix() -> None:
    with s3_bucket("plans") as bucket:
        check_files_are_found(bucket)
        assert file_sizes(["s3://no-such-bucket-anywhere/speech.wav"]) == {}


def test_thousands_of_outputs_cost_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    monkeypatch.setattr(places, "list_names", lambda folder: listed.append(folder) or ["7"])
    monkeypatch.setattr(places, "exists", lambda location: pytest.fail(f"{location} was asked for alone"))
    assert existing(f"{tmp_path}/{number}" for number in range(5000)) == {f"{tmp_path}/7"}
    assert listed == [str(tmp_path)]
