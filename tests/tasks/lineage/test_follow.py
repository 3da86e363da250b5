"""Lineage is followed both ways, and what is not known is said."""

import shutil
import time
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import SettingsError, StoreError
from schemas.jobs import DubOrigin
from tasks import places
from tasks.corpus.forget import forget
from tasks.corpus.snapshot import freeze_snapshot
from tasks.dubbing import stamp as stamps
from tasks.dubbing.stamp import make_stamp
from tasks.file_hash import file_hash
from tasks.lineage.follow import follow
from tasks.lineage.node import Lineage, Node
from tasks.lineage.shown import plain_lines
from tasks.media.encode import VideoWriter
from tasks.published import Current, current_location, write_current
from tests.s3_server import s3_bucket
from tests.tasks.lineage.conftest import EVERYTHING, SOURCES, TURNED_AWAY, House, grown_from, make_store, sha256_of_source, take_out

CLIPS = [f"{index:016x}-s0t0" for index in range(len(SOURCES))]


def outline(nodes: tuple[Node, ...]) -> dict[str, dict]:
    """Kind and name of each thing, and below it what hangs on it."""
    return {f"{node.kind} {node.name}": outline(node.children) for node in nodes}


def one(found: list[Lineage]) -> Lineage:
    [lineage] = found
    return lineage


def short(weights: Path) -> str:
    return file_hash(weights)[:12]


@pytest.fixture
def networks(house: House) -> dict[str, Path | str]:
    """Both networks as they are published."""
    return {"landmark_generator": house.published("landmark-generator"), "renderer": house.published("renderer")}


IN_FIRST = {"snapshot first": {"speaker anna": {}, "speaker ben": {}}}


def test_a_dub_leads_up_to_its_models_their_snapshot_and_its_speakers(house: House, networks: dict[str, Path]) -> None:
    output = house.dub("monday", networks, video_sha256=sha256_of_source(3), consent="contract 7")
    found = one(follow([output], **house.places))
    assert (found.subject.kind, found.subject.facts["job_id"], found.subject.facts["consent"]) == ("dub", "monday", "contract 7")
    assert outline(found.made_of) == {
        "video /elsewhere.mp4": {"source /footage/carla.mp4": {"speaker carla": {}}},  # known by its content, whatever its name
        "speech /s.wav": {},
        f"landmark-generator {short(networks['landmark_generator'])}": IN_FIRST,
        f"renderer {short(networks['renderer'])}": IN_FIRST,
    }
    snapshot = found.made_of[2].children[0]
    assert (snapshot.facts["train"], snapshot.facts["store"]) == (3, house.store.uri)
    assert snapshot.children[0].facts == {"clips": 2, "sources": ["/footage/anna/1.mp4", "/footage/anna/2.mp4"]}
    assert found.went_into == found.notes == ()
    assert one(follow(["monday"], **house.places)) == found


@pytest.mark.parametrize("what", [CLIPS[0], "/footage/anna/1.mp4", "anna"])
def test_footage_leads_down_to_snapshots_models_and_dubs(house: House, networks: dict[str, Path], what: str) -> None:
    made = house.dub("by them", networks)
    seen = house.dub("of her", {"landmark_generator": "c" * 64, "renderer": "d" * 64}, video="/footage/anna/1.mp4")
    heard = house.dub("with her voice", {"landmark_generator": "c" * 64, "renderer": "d" * 64}, speech_sha256=sha256_of_source(0))
    found = one(follow([what], **house.places))
    dubs = {"dubs made with it": {f"dub {made}": {}}}
    assert outline(found.went_into) == {
        "snapshot first": {f"{kind.replace('_', '-')} {short(weights)}": dubs for kind, weights in networks.items()},
        "dubs whose video or speech it is": {f"dub {seen}": {}, f"dub {heard}": {}},
    }
    assert found.went_into[0].facts["train"] == (2 if what == "anna" else 1)
    made_of = {"anna": {}, "/footage/anna/1.mp4": {"speaker anna": {}}, CLIPS[0]: {"source /footage/anna/1.mp4": {"speaker anna": {}}}}
    assert outline(found.made_of) == made_of[what]


def test_what_no_snapshot_chose_went_into_nothing(house: House, networks: dict[str, Path]) -> None:
    house.dub("other", networks)
    found = one(follow(["carla"], **house.places))
    assert (found.subject.facts["clips"], found.went_into) == (1, ())


def test_a_snapshot_leads_both_ways(house: House, networks: dict[str, Path]) -> None:
    output = house.dub("monday", networks)
    found = one(follow(["first"], **house.places))
    assert outline(found.made_of) == IN_FIRST["snapshot first"]
    assert outline(found.went_into)[f"renderer {short(networks['renderer'])}"] == {"dubs made with it": {f"dub {output}": {}}}


def test_a_model_is_found_by_file_version_and_what_is_in_use(house: House, networks: dict[str, Path]) -> None:
    write_current(current_location(f"{house.folder}/models", "renderer"), Current(version="x", weights=f"{short(networks['renderer'])}/renderer.safetensors"))
    digest = file_hash(networks["renderer"])
    output = house.dub("monday", networks)
    names = (str(networks["renderer"]), digest, digest[:12], digest[:8], f"{house.folder}/models/renderer/current.json")
    for name in names:
        found = one(follow([name], **house.places))
        assert (found.subject.kind, found.subject.facts["location"]) == ("renderer", str(networks["renderer"]))
        assert outline(found.made_of) == IN_FIRST
        assert outline(found.went_into) == {"dubs made with it": {f"dub {output}": {}}}
    alone = one(follow([names[0]]))
    assert outline(alone.made_of) == IN_FIRST, "the weights name their store"
    assert len(alone.notes) == 3


def test_weights_that_are_not_published_are_told_by_their_content(house: House) -> None:
    networks = {"landmark_generator": house.weights("landmark-generator", "run/l.safetensors"), "renderer": house.weights("renderer", "run/r.safetensors")}
    house.weights("renderer", "other/r.safetensors")
    output = house.dub("monday", networks)
    found = one(follow([output], **house.places))
    assert [node.facts["location"] for node in found.made_of[2:]] == list(map(str, networks.values()))


def test_a_dub_whose_models_are_not_there_says_so_and_still_leads_to_what_they_learnt_from(house: House) -> None:
    output = house.dub("monday", {"landmark_generator": "c" * 64, "renderer": "d" * 64})
    found = one(follow([output], **house.places))
    assert outline(found.made_of[3:]) == {f"renderer {'d' * 12}": IN_FIRST}
    assert found.made_of[3].unknown == ("These weights are not under --models.",)
    nowhere = one(follow(["monday"], dubs=house.places["dubs"]))
    assert nowhere.made_of[3].children[0].unknown == ("It is in no corpus store that was looked through.",)
    by_version = one(follow(["d" * 10], **house.places))
    assert by_version.subject.unknown == ("These weights are not under --models.",)
    assert outline(by_version.went_into) == {"dubs made with it": {f"dub {output}": {}}}


def test_imported_weights_do_not_say_what_they_learnt_from(house: House) -> None:
    nothing = {"snapshot": None, "snapshot_checksum": "", "store": None, "origin": "imported", "imported_sha256": "9" * 64}
    imported = house.weights("renderer", "imported.safetensors", **nothing)
    tuned = house.published("renderer", ancestors=(grown_from(imported, "imported", None),))
    found = one(follow([str(tuned)], **house.places))
    assert outline(found.made_of) == IN_FIRST | {f"renderer {short(imported)}": {}}
    assert found.made_of[1].unknown == ("They were imported, and do not say what they learnt from.",)
    down = one(follow([str(imported)], **house.places))
    assert (down.made_of, down.subject.facts["imported_sha256"]) == ((), "9" * 64)
    assert outline(down.went_into) == {f"renderer {short(tuned)}": {}}


def test_what_grew_from_weights_holds_what_they_learnt(house: House) -> None:
    other = {"snapshot": "elsewhere", "snapshot_checksum": "", "store": "/nowhere"}
    parent = house.published("renderer")
    child = house.weights("renderer", "child.safetensors", ancestors=(grown_from(parent),), **other)
    orphan = house.weights("renderer", "orphan.safetensors", ancestors=(grown_from(child).replaced(version="0" * 12),), **other)
    found = one(follow(["ben"], **house.places))
    assert outline(found.went_into) == {"snapshot first": {f"renderer {short(parent)}": {f"renderer {short(child)}": {}}, f"renderer {short(orphan)}": {}}}
    assert next(node for node in found.went_into[0].children if node.name == short(orphan)).facts["began_with"] == "0" * 12
    up = one(follow([str(child)], **house.places))
    assert outline(up.made_of) == {"snapshot elsewhere": {}, f"renderer {short(parent)}": IN_FIRST}
    assert up.made_of[0].unknown == ("It is in no corpus store that was looked through. It lay in /nowhere.",)


def test_a_snapshot_of_the_same_name_in_another_store_is_another(house: House, tmp_path: Path, networks: dict[str, Path]) -> None:
    other = make_store(tmp_path / "other")
    Path(f"{other.uri}/snapshots/first.json").unlink()
    freeze_snapshot(other, house.store.snapshot("first").selection.replaced(min_frames=25))
    assert one(follow(["first"], stores=[other.uri], models=house.places["models"])).went_into == ()
    found = one(follow([str(networks["renderer"])], stores=[other.uri]))
    assert found.made_of[0].facts["store"] == house.store.uri


def test_a_store_that_was_moved_is_known_by_its_snapshot(house: House, tmp_path: Path, networks: dict[str, Path]) -> None:
    moved = shutil.move(house.store.uri, tmp_path / "moved")
    assert outline(one(follow([str(networks["renderer"])], stores=[str(moved)])).made_of) == IN_FIRST


def test_who_was_taken_out_is_gone_from_the_snapshot_and_not_from_the_model(house: House, networks: dict[str, Path]) -> None:
    left = take_out(house.store, "ben")
    up = one(follow([str(networks["renderer"])], **house.places))
    assert outline(up.made_of) == {"snapshot first": {f"snapshot {left}": {"speaker anna": {}}}}
    assert "somebody was taken out" in up.made_of[0].unknown[0]
    down = one(follow(["anna"], **house.places))
    assert f"renderer {short(networks['renderer'])}" in outline(down.went_into)[f"snapshot {left}"]


def stamped_video(path: Path, networks: dict[str, Path], video: str) -> Path:
    models = {network: file_hash(weights) for network, weights in networks.items()}
    origin = DubOrigin(video=video, speech="f" * 64, models=models, snapshots=dict.fromkeys(models, "first"), consent="contract 8")
    with VideoWriter(str(path), 16, 16, Fraction(25), metadata=make_stamp(origin)) as writer:
        for _ in range(5):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    return path


def test_a_dub_without_a_row_is_known_by_its_stamp(house: House, networks: dict[str, Path]) -> None:
    alone = stamped_video(house.folder / "dubs" / "alone.mp4", networks, sha256_of_source(2))
    (house.folder / "dubs" / "holiday.mp4").write_text("no video")
    found = one(follow([str(alone)], **house.places))
    assert found.subject.facts == {"consent": "contract 8"}
    assert outline(found.made_of)["video 0000000000000002"] == {"source /footage/ben.mp4": {"speaker ben": {}}}
    assert outline(found.made_of)[f"renderer {short(networks['renderer'])}"] == IN_FIRST
    down = one(follow([short(networks["renderer"])], **house.places))
    assert outline(down.went_into) == {"dubs made with it": {f"dub {alone}": {}}}
    assert forget(house.store.uri, ["ben"], also=[str(house.folder / "dubs")], dry_run=True).dubs == (str(alone),)


def test_a_row_of_an_older_dubmill_is_completed_by_the_stamp(house: House, networks: dict[str, Path]) -> None:
    video = stamped_video(house.folder / "dubs" / "monday.mp4", networks, sha256_of_source(3))
    nothing = dict.fromkeys(("video_sha256", "speech_sha256", "landmark_generator_sha256", "renderer_sha256", "renderer_snapshot"))
    house.dub("monday", networks, **nothing)
    found = one(follow([str(video)], **house.places))
    assert found.made_of[0].facts == {"sha256": sha256_of_source(3)}
    down = one(follow(["first"], **house.places))
    assert outline(down.went_into)[f"renderer {short(networks['renderer'])}"] == {"dubs made with it": {f"dub {video}": {}}}
    video.unlink()
    assert one(follow(["monday"], **house.places)).made_of[0].unknown == ("Its content was not noted, so it is known by its name alone.",)


def not_fetched(location: str) -> Path:
    assert not places.is_remote(location), "a video was fetched whole"
    return Path(location)


def test_all_of_it_may_lie_in_a_bucket(house: House, networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    house.dub("monday", networks, video_sha256=sha256_of_source(3))
    stamped_video(house.folder / "dubs" / "alone.mp4", networks, sha256_of_source(2))
    with s3_bucket("lineage") as bucket:
        for path in (path for path in house.folder.rglob("*") if path.is_file()):
            places.put(path, places.join(bucket, path.relative_to(house.folder).as_posix()))
        monkeypatch.setattr(stamps, "local_copy", lambda location: nullcontext(not_fetched(location)))
        there = {"stores": [f"{bucket}/corpus"], "models": [f"{bucket}/models"], "dubs": [f"{bucket}/dubs"]}
        names = ("anna", "monday", "dubs/alone.mp4")
        in_bucket = plain_lines(follow([*names[:2], f"{bucket}/{names[2]}"], **there))
        here = plain_lines(follow([*names[:2], str(house.folder / names[2])], **house.places))
        assert sorted(line.replace(bucket, str(house.folder)) for line in in_bucket) == sorted(here)


def test_a_file_is_known_by_its_content_under_another_name(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "renamed.mov"
    copy.write_text("anna talks")
    monkeypatch.setattr("tasks.lineage.follow.file_hash", lambda path: sha256_of_source(1))
    found = one(follow([str(copy)], stores=[house.store.uri]))
    assert (found.subject.kind, outline(found.made_of)) == ("source", {"speaker anna": {}})


def test_a_name_that_means_two_things_gives_both(house: House) -> None:
    freeze_snapshot(house.store, EVERYTHING.replaced(name="anna"))
    assert {found.subject.kind for found in follow(["anna"], **house.places)} == {"snapshot", "speaker"}


def test_a_source_that_was_turned_away_says_why(house: House) -> None:
    found = one(follow([TURNED_AWAY], **house.places))
    assert (found.subject.kind, found.subject.unknown, found.went_into) == ("source", ("It was turned away: no-face.",), ())


def test_what_nobody_knows_is_one_sentence(house: House) -> None:
    with pytest.raises(SettingsError, match=r"^nobody and /nothing\.mp4 is nothing that these places know: give --store, --models and --dubs"):
        follow(["nobody", "anna", "/nothing.mp4"], **house.places)
    with pytest.raises(StoreError, match="There is nothing at /nowhere to look through"):
        follow(["anna"], stores=[house.store.uri], models=["/nowhere"])


def test_lines_say_it_in_words_once_and_do_not_run_on(house: House, networks: dict[str, Path]) -> None:
    output = house.dub("monday", networks, consent="contract 7")
    lines = plain_lines(follow([output], **house.places))
    assert lines[0] == f"dub {output}: job id monday, consent contract 7"
    assert lines[1] == "  made of"
    snapshots = [line.strip() for line in lines if line.strip().startswith("snapshot first")]
    assert len(snapshots) == 2
    assert snapshots[1].endswith("as above")
    assert sum(line.strip().startswith("speaker anna: clips 2, sources /footage/anna/1.mp4, /footage/anna/2.mp4") for line in lines) == 1
    for number in range(30):
        house.dub(f"more {number:02}", networks)
    many = plain_lines(follow(["first"], **house.places))
    assert sum(line.strip() == "and 11 more (--json names them)" for line in many) == 2


@pytest.mark.soak
def test_a_hundred_thousand_rows_take_seconds(house: House, networks: dict[str, Path]) -> None:
    house.dub("row", networks)
    [part] = (house.folder / "dubs" / "results").iterdir()
    row = pq.read_table(part).to_pylist()[0] | {"confidence": [0.5] * 60, "worst": "x" * 500}
    for number in range(200):
        rows = [row | {"job_id": f"{number}-{index}", "output": f"/dubs/{number}-{index}.mp4"} for index in range(500)]
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(part)), part.with_name(f"part-{number + 1:05d}-00000000.parquet"))
    began = time.process_time()
    found = one(follow(["anna"], **house.places))
    assert found.went_into[0].children[0].children[0].facts["count"] == 100_001
    assert time.process_time() - began < 20
