import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import StoreError
from schemas.jobs import IngestSummary
from schemas.settings import CropSettings, FormatSettings
from tasks import places
from tasks.corpus import layout
from tasks.corpus.store import CorpusStore
from tasks.faces.landmarks import FaceMesh
from tasks.media.decode import read_frames

Made = tuple[Path, IngestSummary]


def keys(store: CorpusStore) -> list[tuple[str, str]]:
    return [(row["batch"], row["clip_id"]) for row in store.clips(()).to_pylist()]


def test_there_is_no_store_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^There is no corpus store at .*\.$"):
        CorpusStore.open(str(tmp_path))


def test_a_store_of_another_version_or_without_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(StoreError, match="tables of version 99"):
        CorpusStore.open(str(tmp_path))
    (tmp_path / "settings.json").write_text(json.dumps({"schema_version": 99, "a_field_of_tomorrow": 1, "picture": "avif"}))
    with pytest.raises(StoreError, match="tables of version 99"):
        CorpusStore.open(str(tmp_path))
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(StoreError, match="cannot be read"):
        CorpusStore.open(str(tmp_path))
    (tmp_path / "settings.json").write_text("half")
    with pytest.raises(StoreError, match="cannot be read"):
        CorpusStore.open(str(tmp_path))


def test_creating_twice_with_one_format_opens(tmp_path: Path) -> None:
    store_format = FormatSettings(crop=CropSettings(size=256))
    CorpusStore.create_or_open(str(tmp_path), store_format)
    assert CorpusStore.create_or_open(str(tmp_path), store_format).format == store_format
    assert CorpusStore.open(str(tmp_path)).clips().num_rows == 0


def test_reading_one_clip_gives_shapes_and_ranges(made: Made) -> None:
    store = CorpusStore.open(str(made[0]))
    clips = {clip.clip_id: clip for clip in store.read_clips(keys(store))}
    assert len(clips) == 3
    for clip in clips.values():
        frames = len(clip.boxes)
        assert clip.pose.shape == (frames, 2, 74)
        assert clip.content.shape == (frames, 2, 57)
        assert clip.mel.shape == (1 + frames * 640 // 200, 80)
        assert clip.lip_opening.shape == clip.faces_offset.shape == clip.faces_size.shape == (frames,)
        assert clip.mel.dtype == clip.pose.dtype == np.float32
        assert -0.2 < clip.pose.min() < clip.pose.max() < 1.2
        assert np.abs(clip.mel).max() <= 4


def test_landmarks_and_picture_are_those_of_the_source(made: Made) -> None:
    store = CorpusStore.open(str(made[0]))
    row = next(row for row in store.clips().to_pylist() if row["clip_id"].endswith("-s0t1"))
    clip = next(store.read_clips([(row["batch"], row["clip_id"])]))
    frame = next(read_frames(row["source"], 25, 23, 24)).picture
    with FaceMesh() as mesh:
        points = mesh.find(frame)
    x0, y0, x1, y1 = map(int, clip.boxes[3])
    face = store.face_picture(clip.faces_shard, clip.faces_offset[3], clip.faces_size[3])
    np.testing.assert_array_equal(face, cv2.resize(frame[y0:y1, x0:x1], (128, 128)))
    assert points is not None
    stored = np.concatenate([clip.pose[3], clip.content[3]], axis=1) * [[x1 - x0], [y1 - y0]] + [[x0], [y0]]
    np.testing.assert_allclose(np.sort(stored[0]), np.sort(points[:, 0]), atol=0.01)


def test_a_range_of_a_shard_is_the_tar_member(made: Made) -> None:
    store = CorpusStore.open(str(made[0]))
    row = store.clips().to_pylist()[0]
    with tarfile.open(layout.shard_location(store.uri, row["faces_shard"])) as tar:
        member = tar.getmember(f"{row['clip_id']}.000002.png")
        inside = tar.extractfile(member)
        assert inside is not None
        assert inside.read() == store.face_picture_bytes(row["faces_shard"], row["faces_offset"][2], row["faces_size"][2])
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_what_is_not_there_is_one_sentence(made: Made) -> None:
    store = CorpusStore.open(str(made[0]))
    with pytest.raises(StoreError, match="has no clip 0000"):
        list(store.read_clips([(store.batches()[0], "0000")]))
    with pytest.raises(StoreError, match=r"none\.tar cannot be read"):
        store.face_picture_bytes("none.tar", 0, 1)
    with pytest.raises(StoreError, match="ends before"):
        store.face_picture_bytes(store.clips()["faces_shard"][0].as_py(), 10**9, 10)
    with pytest.raises(StoreError, match="no snapshot nine"):
        store.snapshot("nine")


def test_of_two_that_make_a_store_at_once_the_second_sees_the_format_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = places.exists

    def made_meanwhile(location: str) -> bool:
        monkeypatch.setattr(places, "exists", exists)
        CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings())
        return False

    monkeypatch.setattr(places, "exists", made_meanwhile)
    with pytest.raises(StoreError, match="was made with picture png, not jpeg"):
        CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings(picture="jpeg"))
    assert CorpusStore.open(str(tmp_path / "store")).format == FormatSettings()
