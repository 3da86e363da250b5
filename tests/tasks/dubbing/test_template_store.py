import json
import multiprocessing
import os
import random
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import StoreError
from schemas.settings import CropSettings, DubSettings, TemplateSettings
from tasks import places
from tasks.dubbing.reference_choice import References
from tasks.dubbing.template import Template
from tasks.dubbing.template_store import BOUNDED, FORMAT, KeptTemplate, TemplateStore, list_lines, template_key, templates_of
from tests.s3_server import s3_bucket

SETTINGS = DubSettings(landmark_generator="none", renderer="none")
DAY_S = 86400


def template(frames: int = 40, seed: int = 0) -> Template:
    numbers = np.random.default_rng(seed)
    pose, content = (numbers.random((frames, 2, points), dtype=np.float32) for points in (74, 57))
    pose[3:5] = np.nan
    faces = numbers.integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    return Template(
        pose=pose,
        content=content,
        boxes=numbers.random((frames, 4)),
        tracks=numbers.integers(-1, 2, frames).astype(np.int32),
        references=References(pose[:5], content[:5], faces, 255 - faces),
        shots=np.sort(numbers.integers(0, 4, frames)).astype(np.int32),
        yaw_deg=numbers.random(frames, dtype=np.float32),
        face_px=numbers.random(frames, dtype=np.float32),
        detected=numbers.random(frames) < 0.5,
        visibility=numbers.random(frames, dtype=np.float32),
    )


def assert_same(one: Template, other: Template) -> None:
    for kind, first, second in ((Template, one, other), (References, one.references, other.references)):
        for field in fields(kind):
            if field.name != "references":
                assert getattr(first, field.name).dtype == getattr(second, field.name).dtype
                np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def never() -> Template:
    raise AssertionError("it was kept, and need not be made")


def use(store: TemplateStore, key: str, days_ago: float = 0.0, frames: int = 40) -> None:
    """Keeps a template that was used last so many days ago."""
    store.get(key, lambda: template(frames))
    note = Path(store.location) / f"{key}.json"
    values = json.loads(note.read_text())
    note.write_text(json.dumps(values | {"used_s": values["used_s"] - days_ago * DAY_S}))


def a_day_passes(store: TemplateStore) -> None:
    """The store was bounded longer ago than it may be."""
    place = Path(store.location) / BOUNDED
    place.write_text(str(float(place.read_text()) - 1.1 * DAY_S))


def file_names(store: TemplateStore) -> list[str]:
    return sorted(path.name for path in Path(store.location).iterdir() if path.name != BOUNDED)


def keys(store: TemplateStore) -> list[str]:
    return [kept.key for kept in store.list()]


@pytest.fixture
def store(tmp_path: Path) -> TemplateStore:
    return TemplateStore(str(tmp_path / "templates"))


@pytest.mark.parametrize("held_bytes", [0, 10**9])
def test_what_was_kept_comes_back_as_it_was(store: TemplateStore, held_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.dubbing.frame_arrays.HELD_BYTES", held_bytes)
    made, was_kept = store.get("a", template)
    assert not was_kept
    again, was_kept = store.get("a", never)
    assert was_kept
    assert isinstance(again.pose, np.memmap) == (held_bytes == 0)
    assert_same(again, made)


def test_nothing_in_a_file_is_python(store: TemplateStore) -> None:
    store.get("a", template)
    with np.load(Path(store.location) / "a.npz", allow_pickle=False) as arrays:
        assert json.loads(bytes(arrays["about"]))["format"] == FORMAT
        assert all(not array.dtype.hasobject for array in arrays.values())


def test_one_that_was_made_for_fewer_frames_is_made_again_unless_the_video_ended(store: TemplateStore) -> None:
    store.get("long", lambda: template(40), frames=40)
    assert store.get("long", never, frames=30)[1]
    assert not store.get("long", lambda: template(60), frames=60)[1]
    assert store.get("long", never, frames=50)[0].frames == 60
    store.get("whole", lambda: template(40), frames=1000)
    assert store.get("whole", never, frames=5000)[0].frames == 40


def test_the_longest_unused_go_first_when_it_is_too_much(store: TemplateStore) -> None:
    for days, key in enumerate("abcd"):
        use(store, key, days_ago=4 - days)
    size = store.list()[0].bytes
    small = TemplateStore(store.location, TemplateSettings(max_gb=3.5 * size / 1e9))
    store.get("a", never)  # used just now
    use(small, "e")
    assert keys(small) == ["e", "a", "d"]
    assert file_names(store) == ["a.json", "a.npz", "d.json", "d.npz", "e.json", "e.npz"]


def test_what_nobody_used_for_long_goes(store: TemplateStore) -> None:
    use(store, "old", days_ago=31)
    use(store, "young", days_ago=29)
    a_day_passes(store)
    store.get("new", template)
    assert keys(store) == ["new", "young"]


def test_one_that_was_not_used_for_too_long_is_made_again(store: TemplateStore) -> None:
    use(store, "old", days_ago=31)
    use(store, "young", days_ago=29)
    assert store.get("young", never)[1]
    assert not store.get("old", template)[1]
    assert store.get("old", never)[1]


def test_the_bounds_hold_where_templates_are_only_read_too(store: TemplateStore) -> None:
    for days, key in ((31, "old"), (3, "b"), (2, "c"), (1, "d")):
        use(TemplateStore(store.location, TemplateSettings(max_age_days=99)), key, days_ago=days)
    small = TemplateStore(store.location, TemplateSettings(max_gb=2.5 * store.list()[0].bytes / 1e9))
    a_day_passes(store)
    small.get("b", never)  # used just now
    assert keys(small) == ["b", "d"]


def test_a_store_that_is_only_read_is_looked_through_once_a_day(store: TemplateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.get("a", template)
    times: list[int] = []
    monkeypatch.setattr(store, "_bound", lambda: times.append(1))
    for _ in range(3):
        store.get("a", never)
    assert len(times) == 0  # it was when "a" was written
    a_day_passes(store)
    store.get("a", never)
    assert len(times) == 1


def test_keeping_one_more_costs_no_look_at_each_of_the_others_until_there_are_too_many(store: TemplateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        store.get(f"key-{number:02}", template)
    size, read = store.list()[0].bytes, []
    monkeypatch.setattr("tasks.places.read_bytes", lambda location, known=places.read_bytes: read.append(location) or known(location))
    roomy, small = (TemplateStore(store.location, TemplateSettings(max_gb=room * size / 1e9)) for room in (21.5, 21.4))
    roomy.get("one-more", template)
    assert len(read) <= 2
    small.get("too-many", template)
    assert {f"key-{number:02}.json" for number in range(20)} <= {places.name_of(location) for location in read}
    assert "key-00" not in keys(store)
    assert len(keys(store)) == 21


def test_what_another_job_uses_while_the_bounds_are_held_stays(store: TemplateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    use(store, "old", days_ago=31)
    listed = store.list()
    store.get("old", template)  # another job makes it anew
    monkeypatch.setattr(store, "list", lambda: listed)
    a_day_passes(store)
    store.get("new", template)
    assert store.get("old", never)[1]


def test_the_note_of_a_dropped_template_goes_after_a_day(store: TemplateStore) -> None:
    for key, days in (("old", 1.1), ("young", 0.9)):
        use(store, key, days_ago=days)
        (Path(store.location) / f"{key}.npz").unlink()
    a_day_passes(store)
    store.get("new", template)
    assert file_names(store) == ["new.json", "new.npz", "young.json"]


def test_a_dub_bounds_its_templates_as_its_settings_say(tmp_path: Path) -> None:
    kept = templates_of(SETTINGS.replaced(templates=str(tmp_path), templates_max_gb=2, templates_max_age_days=3))
    assert kept is not None
    assert kept.settings == TemplateSettings(max_gb=2, max_age_days=3)
    assert SETTINGS.template_settings == TemplateSettings()
    assert templates_of(SETTINGS) is None


def test_a_list_says_when_each_goes(store: TemplateStore) -> None:
    use(store, "a", days_ago=3)
    (kept,) = TemplateStore(store.location, TemplateSettings(max_age_days=10)).list()
    assert (kept.goes_s - kept.used_s) / DAY_S == pytest.approx(10)
    assert kept.goes_s == pytest.approx(time.time() + 7 * DAY_S, abs=60)


def test_a_person_reads_what_is_kept_and_what_goes(store: TemplateStore) -> None:
    assert list_lines(store, ()) == [f"No template is kept in {store.location}."]
    kept = [
        KeptTemplate("aa-1", "anna.mp4", 354, 2_866_669, used_s=1.7e9, goes_s=4e9),
        KeptTemplate("bb-1", "ben.mp4", 75, 1_500_000_000, used_s=1.6e9, goes_s=1.6e9),
        KeptTemplate("cc-1", "", 1, 30_000_000_000, used_s=0.0, goes_s=4e9),
    ]
    anna, ben, unknown, together = list_lines(store, kept)
    assert anna == "aa-1     2.9 MB     354 frames  used 2023-11-14 22:13 UTC, goes 2096-10-02  anna.mp4"
    assert "1.5 GB" in ben
    assert "due to go  ben.mp4" in ben  # its time has passed
    assert " 1 frame   last use not known, due to go" in unknown  # there is no room for it
    assert together == "3 kept: 31.5 GB of 20 GB"


def test_lists_and_drops(store: TemplateStore) -> None:
    assert store.list() == ()
    assert store.drop() == ()
    for key, name in (("aa-1", "anna.mp4"), ("aa-2", "anna.mp4"), ("bb-1", "ben.mp4"), ("cc-1", "")):
        store.get(key, template, name=name)
    assert {(kept.key, kept.name, kept.frames) for kept in store.list()} >= {("aa-1", "anna.mp4", 40), ("cc-1", "", 40)}
    assert all(kept.bytes > 40 * 131 * 8 for kept in store.list())
    assert store.drop(["nobody", ""]) == ()
    assert sorted(store.drop(["aa"])) == ["aa-1", "aa-2"]
    assert store.drop(["ben.mp4"]) == ("bb-1",)
    assert store.drop() == ("cc-1",)
    assert file_names(store) == []


def test_a_damaged_one_is_made_again(store: TemplateStore) -> None:
    """Cut short or changed anywhere: what comes back is what was kept, or made anew; never anything else."""
    kept, other = template(), template(seed=1)
    file = Path(store.location) / "a.npz"
    store.get("a", lambda: kept)
    content = file.read_bytes()
    dice = random.Random(0)
    made_again = 0
    for _ in range(150):
        damaged = bytearray(content[: dice.randrange(len(content))] if dice.random() < 0.2 else content)
        for _ in range(dice.choice((1, 30))):
            if damaged:
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        file.write_bytes(bytes(damaged))
        found, was_kept = store.get("a", lambda: other)
        assert_same(found, kept if was_kept else other)
        made_again += not was_kept
    assert made_again > 120
    assert store.get("a", never)[1]


def test_another_format_is_made_again(store: TemplateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.get("a", template)
    monkeypatch.setattr("tasks.dubbing.template_store.FORMAT", FORMAT + 1)
    assert not store.get("a", template)[1]
    assert store.get("a", never)[1]


def test_who_may_only_read_uses_what_is_there(store: TemplateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.get("a", template)

    def refused(location: str, content: bytes) -> None:
        raise StoreError("no")

    monkeypatch.setattr("tasks.places.write_bytes", refused)
    assert store.get("a", never)[1]


def use_much(location: str, seed: int) -> None:
    """Takes and drops templates of a store over and over, and finds each as it was made."""
    store, dice = TemplateStore(location, TemplateSettings(max_gb=2.5 * 50_000 / 1e9)), random.Random(seed)
    for _ in range(60):
        number = dice.randrange(4)
        found, _ = store.get(f"key-{number}", lambda number=number: template(seed=number))  # type: ignore[misc]
        assert_same(found, template(seed=number))
        if dice.random() < 0.1:
            store.drop([f"key-{number}"])
        store.list()


def test_jobs_that_use_it_at_once_do_not_hurt_each_other(tmp_path: Path) -> None:
    location = str(tmp_path / "templates")
    jobs = [multiprocessing.get_context("spawn").Process(target=use_much, args=(location, seed)) for seed in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert not [path for path in Path(location).iterdir() if "partial" in path.name]


def test_leftovers_of_killed_writers_go_after_a_day(store: TemplateStore) -> None:
    store.get("a", template)
    old, new = (Path(store.location) / f".a.{name}.partial.npz" for name in ("00", "11"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    a_day_passes(store)
    store.get("b", template)
    assert (old.exists(), new.exists()) == (False, True)
    assert sorted(keys(store)) == ["a", "b"]


def test_the_key_is_of_content_and_of_what_shapes_a_template(tmp_path: Path) -> None:
    video, twin, other, person = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4", "person.png"))
    for path, content in ((video, b"1"), (twin, b"1"), (other, b"2"), (person, b"3")):
        path.write_bytes(content)
    crop = CropSettings()
    key = template_key(video, SETTINGS, crop)
    assert key == template_key(str(twin), SETTINGS.replaced(crf=20, min_face_px=99.0), crop)
    pictured = SETTINGS.replaced(face=str(person))
    different = {
        template_key(other, SETTINGS, crop),
        template_key(video, SETTINGS, CropSettings(size=256)),
        template_key(video, pictured, crop),
        *(
            template_key(video, SETTINGS.replaced(**{name: value}), crop)
            for name, value in (("face", "left"), ("smoothing", "none"), ("references", 5), ("fps", 25))
        ),
    }
    assert len({key} | different) == 8
    before = template_key(video, pictured, crop)
    person.write_bytes(b"somebody else")
    assert template_key(video, pictured, crop) != before
    assert key.startswith(template_key(video, pictured, crop).partition("-")[0])
    person.unlink()  # who looks at it tells that it is not there
    assert key.startswith(template_key(video, pictured, crop).partition("-")[0])


def test_templates_of_nothing_but_gaps_or_one_frame_are_kept_too(store: TemplateStore) -> None:
    one = template(5)
    gaps = replace(one, pose=np.full_like(one.pose, np.nan))
    assert_same(store.get("gaps", lambda: gaps)[0], store.get("gaps", never)[0])


def test_a_bucket_keeps_templates_too() -> None:
    with s3_bucket("templates") as prefix:
        store = TemplateStore(f"{prefix}/kept")
        assert store.list() == ()
        made, _ = store.get("a", template, name="anna.mp4")
        found, was_kept = TemplateStore(f"{prefix}/kept").get("a", never)
        assert was_kept
        assert_same(found, made)
        assert [(kept.key, kept.frames) for kept in store.list()] == [("a", 40)]
        places.write_bytes(f"{prefix}/kept/a.npz", b"damaged")
        assert not store.get("a", template)[1]
        assert TemplateStore(f"{prefix}/kept", TemplateSettings(max_gb=1e-9)).get("b", template)[1] is False
        assert store.list() == ()
