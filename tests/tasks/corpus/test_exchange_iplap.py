"""A store written as IP_LAP's preprocessing writes, and read back into another store."""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from schemas.errors import StoreError
from schemas.jobs import IngestSummary, Snapshot, SnapshotClip
from schemas.settings import CropSettings, FormatSettings, SnapshotSettings
from tasks import places
from tasks.audio import SAMPLE_RATE, mel_spectrogram
from tasks.corpus import layout
from tasks.corpus.exchange import export_iplap, import_iplap
from tasks.corpus.exchange.iplap_export import ExportSummary, clip_name, frames_with_sound, moved_sound
from tasks.corpus.exchange.iplap_files import landmark_file
from tasks.corpus.exchange.iplap_videos import oblong_of_sketch
from tasks.corpus.known import add_forgotten
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import ClipArrays, CorpusStore
from tasks.corpus.verify import verify_store
from tasks.faces import draw_sketch
from tasks.progress import silent

Made = tuple[Path, IngestSummary]
EVERYTHING = SnapshotSettings(
    name="everything", min_frames=5, min_face_px=0, min_detected_share=0, twins="all", max_yaw_deg=180, max_offset_frames=1000, shift_sound=False
)
ROOTS = ("lrs2_audio", "lrs2_face", "lrs2_landmarks", "lrs2_sketch")


@pytest.fixture(scope="module")
def exported(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[CorpusStore, Snapshot, Path, ExportSummary]:
    """A store, a snapshot of all its clips, and its export. For reading only."""
    folder = tmp_path_factory.mktemp("export")
    store = CorpusStore.open(str(shutil.copytree(made[0], folder / "store")))
    snapshot = freeze_snapshot(store, EVERYTHING)
    summary = export_iplap(store.uri, str(folder / "out"), snapshot.name)
    return store, snapshot, folder / "out", summary


Exported = tuple[CorpusStore, Snapshot, Path, ExportSummary]


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the export, to be changed."""
    return Path(shutil.copytree(exported[2], tmp_path / "preprocessed"))


def videos(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder / "lrs2_face").as_posix() for path in (folder / "lrs2_face").glob("*/*"))


def rejects(store: Path) -> list[dict]:
    return CorpusStore.open(str(store)).rejects().to_pylist()


def test_each_frame_has_its_files_in_four_folders(exported: Exported) -> None:
    store, snapshot, out, summary = exported
    assert summary.frames == sum(len(clip.pose) for clip in store.read_clips((clip.batch, clip.clip_id) for clip in snapshot.clips)) > 0
    for clip in snapshot.clips:
        [arrays] = store.read_clips([(clip.batch, clip.clip_id)])
        numbers = range(len(arrays.pose))
        assert {path.name for path in (out / "lrs2_landmarks" / clip_name(clip)).iterdir()} == {f"{number}.npy" for number in numbers}
        for root in ("lrs2_face", "lrs2_sketch"):
            assert {path.name for path in (out / root / clip_name(clip)).iterdir()} == {f"{number}.png" for number in numbers}
        assert {path.name for path in (out / "lrs2_audio" / clip_name(clip)).iterdir()} == {"audio.wav", "audio.npy"}


def test_what_a_frame_holds_is_what_the_store_holds(exported: Exported) -> None:
    store, snapshot, out, _ = exported
    clip = snapshot.clips[0]
    [arrays] = store.read_clips([(clip.batch, clip.clip_id)])
    frame = len(arrays.pose) - 1
    coded = store.face_picture_bytes(arrays.faces_shard, arrays.faces_offset[frame], arrays.faces_size[frame])
    assert (out / "lrs2_face" / clip_name(clip) / f"{frame}.png").read_bytes() == coded
    x0, y0, x1, y1 = arrays.boxes[frame].tolist()
    sketch = cv2.imread(str(out / "lrs2_sketch" / clip_name(clip) / f"{frame}.png"))
    assert np.array_equal(sketch, draw_sketch(arrays.pose[frame], arrays.content[frame], (y1 - y0, x1 - x0)))
    held = np.load(out / "lrs2_landmarks" / clip_name(clip) / f"{frame}.npy", allow_pickle=True).item()
    upper_lip = next((x, y) for index, x, y in held["content_landmarks"] if index == 0)
    assert upper_lip == tuple(arrays.content[frame, :, 17 + 5])  # the 6th lip point


def test_sound_is_16_bit_mono_with_its_mel(exported: Exported) -> None:
    store, snapshot, out, _ = exported
    clip = snapshot.clips[0]
    [arrays] = store.read_clips([(clip.batch, clip.clip_id)])
    samples, rate = soundfile.read(out / "lrs2_audio" / clip_name(clip) / "audio.wav", dtype="float32")
    assert (rate, samples.shape) == (SAMPLE_RATE, (len(arrays.pose) * 640,))
    mel = np.load(out / "lrs2_audio" / clip_name(clip) / "audio.npy")
    assert mel.dtype == np.float64
    assert np.array_equal(mel, arrays.mel)
    assert np.abs(mel - mel_spectrogram(samples)).max() < 0.1  # of 16 bits


def test_lists_are_where_the_training_scripts_look(exported: Exported) -> None:
    _, snapshot, out, summary = exported
    for split in ("train", "val", "test"):
        names = (out / "filelists" / "lrs2" / f"{split}.txt").read_text().splitlines()
        assert names == sorted(clip_name(clip) for clip in snapshot.clips if clip.split == split)
        assert len(names) == summary.clips[split]
    assert summary.clips["train"] >= 1


def test_the_export_says_which_crop_it_holds(exported: Exported) -> None:
    store, _, out, summary = exported
    assert summary.crop == store.format.crop
    assert f"padding {store.format.crop.padding}" in (out / "README.md").read_text()
    assert json.loads((out / "export.json").read_text())["crop"]["padding"] == store.format.crop.padding


def test_a_frame_is_written_with_the_sound_it_was_moved_to() -> None:
    """Sound whose samples say of which frame they are."""
    sound = np.repeat(np.arange(10, dtype=np.float32), 640)
    for shift in (3, -3, 0, 10, -12):
        kept = frames_with_sound(10, shift)
        assert len(kept) == max(0, 10 - abs(shift))
        assert moved_sound(sound, kept, shift)[::640].tolist() == [frame + shift for frame in kept]


def test_the_snapshots_shift_is_in_frames_wav_and_mel(exported: Exported, tmp_path: Path) -> None:
    store, snapshot, _, _ = exported
    clip = snapshot.clips[0].model_copy(update={"sound_shift_frames": -5, "split": "train"})
    shifted = snapshot.model_copy(update={"name": "shifted", "clips": (clip,)})
    places.write_bytes(layout.snapshot_location(store.uri, "shifted"), shifted.model_dump_json().encode())
    [arrays] = store.read_clips([(clip.batch, clip.clip_id)])
    summary = export_iplap(store.uri, str(tmp_path / "out"), "shifted")
    assert (summary.shifted_clips, summary.frames) == (1, len(arrays.pose) - 5)
    mel = np.load(tmp_path / "out" / "lrs2_audio" / clip_name(clip) / "audio.npy")
    inner = slice(4, len(mel) - 4)  # away from the ends, where windows reach beyond the sound
    assert np.abs(mel[inner] - arrays.mel[inner]).max() < 0.1
    sixth = store.face_picture_bytes(arrays.faces_shard, arrays.faces_offset[5], arrays.faces_size[5])
    assert (tmp_path / "out" / "lrs2_face" / clip_name(clip) / "0.png").read_bytes() == sixth


@pytest.mark.parametrize("coding", ["webp", "jpeg"])
def test_other_codings_are_written_as_png(exported: Exported, tmp_path: Path, coding: str) -> None:
    _, _, out, _ = exported
    store = CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings(picture=coding))
    import_iplap(str(out), store.uri)
    snapshot = freeze_snapshot(store, EVERYTHING)
    export_iplap(store.uri, str(tmp_path / "out"), snapshot.name)
    clip = snapshot.clips[0]
    [arrays] = store.read_clips([(clip.batch, clip.clip_id)])
    picture = store.face_picture(arrays.faces_shard, arrays.faces_offset[0], arrays.faces_size[0])
    path = tmp_path / "out" / "lrs2_face" / clip_name(clip) / "0.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert np.array_equal(cv2.imread(str(path)), picture)


def test_an_export_does_not_mix_with_what_is_there(exported: Exported, tmp_path: Path) -> None:
    store, snapshot, out, _ = exported
    with pytest.raises(StoreError, match="is not empty"):
        export_iplap(store.uri, str(out), snapshot.name)
    with pytest.raises(StoreError, match="local folders"):
        export_iplap(store.uri, "s3://bucket/out", snapshot.name)
    with pytest.raises(StoreError, match="no snapshot nothing"):
        export_iplap(store.uri, str(tmp_path / "out"), "nothing")


def test_there_and_back(exported: Exported, tmp_path: Path) -> None:
    store, snapshot, out, _ = exported
    summary = import_iplap(str(out), str(tmp_path / "back"))
    back = CorpusStore.open(str(tmp_path / "back"))
    assert (summary.clips, summary.rejects, summary.crop) == (len(snapshot.clips), {}, store.format.crop)
    rows = {"/".join(Path(row["source"]).parts[-2:]): row for row in back.clips().to_pylist()}
    for clip in snapshot.clips:
        row = rows[clip_name(clip)]
        [there], [here] = store.read_clips([(clip.batch, clip.clip_id)]), back.read_clips([(row["batch"], row["clip_id"])])
        assert np.array_equal(there.pose, here.pose)
        assert np.array_equal(there.content, here.content)
        assert np.abs(there.mel - here.mel).max() < 0.1  # of 16 bits
        assert pictures(store, there) == pictures(back, here)
        assert all(np.array_equal(sketch(there, frame), sketch(here, frame)) for frame in range(len(there.pose)))
        assert (row["split"], row["face_px"], row["detected_share"]) == (clip.split, 128.0, 1.0)
    assert list(verify_store(back.uri, silent)) == []


def pictures(store: CorpusStore, clip: ClipArrays) -> list[bytes]:
    places_of = zip(clip.faces_offset, clip.faces_size, strict=True)
    return [store.face_picture_bytes(clip.faces_shard, offset, size) for offset, size in places_of]


def sketch(clip: ClipArrays, frame: int) -> np.ndarray:
    x0, y0, x1, y1 = clip.boxes[frame].tolist()
    return draw_sketch(clip.pose[frame], clip.content[frame], (y1 - y0, x1 - x0))


def test_a_second_import_writes_nothing(folder: Path, tmp_path: Path) -> None:
    first = import_iplap(str(folder), str(tmp_path / "store"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()}
    second = import_iplap(str(folder), str(tmp_path / "store"))
    assert (second.batches, second.clips, second.known) == ((), 0, first.videos)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_only_what_is_new_comes_in_later(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "aside"
    name = videos(folder)[0]
    for root in ROOTS:
        shutil.move(folder / root / name, moved / root / name)
    first = import_iplap(str(folder), str(tmp_path / "store"))
    for root in ROOTS:
        shutil.move(moved / root / name, folder / root / name)
    second = import_iplap(str(folder), str(tmp_path / "store"))
    assert second.known == first.videos
    assert second.clips == 1


def test_names_of_the_original_and_its_crop(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "export.json", folder / "README.md"):
        path.unlink()
    shutil.rmtree(folder / "filelists")
    for before, after in (("lrs2_face", "lrs2_face128"), ("lrs2_sketch", "lrs2_sketch128"), ("lrs2_audio", "lrs2_preprocessed_audio")):
        (folder / before).rename(folder / after)
    summary = import_iplap(str(folder), str(tmp_path / "store"))
    assert summary.crop == CropSettings(padding="iplap-train", size=128)
    assert summary.rejects == {}
    assert set(CorpusStore.open(str(tmp_path / "store")).clips(["split"])["split"].to_pylist()) == {None}


def test_without_sketches_boxes_are_square(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "lrs2_sketch")
    import_iplap(str(folder), str(tmp_path / "store"))
    store = CorpusStore.open(str(tmp_path / "store"))
    [clip, *_] = store.read_clips((row["batch"], row["clip_id"]) for row in store.clips(["clip_id"]).to_pylist())
    assert np.unique(clip.boxes, axis=0).tolist() == [[0, 0, 128, 128]]


@pytest.mark.parametrize("oblong", [-30, -1, 0, 7, 41])
def test_a_sketch_tells_the_ratio_of_its_crop(exported: Exported, oblong: int) -> None:
    store, snapshot, _, _ = exported
    [clip] = store.read_clips([(snapshot.clips[0].batch, snapshot.clips[0].clip_id)])
    drawn = draw_sketch(clip.pose[0], clip.content[0], (128 + max(oblong, 0), 128 + max(-oblong, 0)))
    assert oblong_of_sketch(drawn, clip.pose[0], clip.content[0], near=0) == oblong


def test_a_frame_without_files_ends_a_clip(folder: Path, tmp_path: Path) -> None:
    name = long_video(folder)
    for root in ("lrs2_face", "lrs2_landmarks", "lrs2_sketch"):
        for path in (folder / root / name).glob("10.*"):
            path.unlink()
    whole = [row for row in imported(folder, tmp_path, name) if row["clip_id"]]
    assert [(row["segment_start_s"], row["frames"]) for row in whole] == [(0.0, 10), (0.44, whole[1]["frames"])]
    [first, second] = CorpusStore.open(str(tmp_path / "store")).read_clips((row["batch"], row["clip_id"]) for row in whole)
    eleventh = np.load(folder / "lrs2_landmarks" / name / "11.npy", allow_pickle=True).item()["pose_landmarks"]
    assert second.pose[0, 0, 3] == np.float32(next(x for index, x, _ in eleventh if index == 93))  # the 4th pose point
    assert rejects(tmp_path / "store") == []
    assert len(first.pose) == 10


def long_video(folder: Path) -> str:
    return max(videos(folder), key=lambda name: len(list((folder / "lrs2_face" / name).iterdir())))


def imported(folder: Path, tmp_path: Path, name: str) -> list[dict]:
    """Clips of one video, in order."""
    import_iplap(str(folder), str(tmp_path / "store"))
    rows = CorpusStore.open(str(tmp_path / "store")).clips().to_pylist()
    return sorted((row for row in rows if row["source"].endswith(name)), key=lambda row: row["segment_start_s"])


def test_frames_that_are_too_few_are_said(folder: Path, tmp_path: Path) -> None:
    name = long_video(folder)
    for root in ("lrs2_face", "lrs2_landmarks"):
        for path in (folder / root / name).glob("3.*"):
            path.unlink()
    imported(folder, tmp_path, name)
    [reject] = rejects(tmp_path / "store")
    assert (reject["reason"], reject["retryable"]) == ("too-short", False)
    assert reject["clip_id"].endswith("-s0t0")


def damage(folder: Path, name: str, kind: str) -> None:
    picture, landmarks = folder / "lrs2_face" / name / "10.png", folder / "lrs2_landmarks" / name / "10.npy"
    match kind:
        case "no picture":
            picture.unlink()
        case "no landmarks":
            landmarks.unlink()
        case "picture cut off":
            picture.write_bytes(picture.read_bytes()[:40])
        case "picture of another size":
            cv2.imwrite(str(picture), np.zeros((96, 96, 3), np.uint8))
        case "picture of absurd size":
            picture.write_bytes(absurd(picture.read_bytes()))
        case "landmarks cut off":
            landmarks.write_bytes(landmarks.read_bytes()[:500])
        case "landmarks that name half a character":
            empty = landmark_file(np.zeros((2, 74), np.float32), np.zeros((2, 57), np.float32))
            landmarks.write_bytes(empty[: empty.index(b"\n") + 1] + b"\x80\x04\x8c\x03\xed\xa0\x80\x8c\x01a\x93.")


def absurd(png: bytes) -> bytes:
    """A PNG whose header asks for one row more than OpenCV ever takes."""
    header = b"IHDR" + struct.pack(">II", 2**15, 2**15 + 1) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


DAMAGES = (
    "no picture",
    "no landmarks",
    "picture cut off",
    "picture of another size",
    "picture of absurd size",
    "landmarks cut off",
    "landmarks that name half a character",
)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_frames_are_rejected_and_the_rest_is_kept(folder: Path, tmp_path: Path, kind: str) -> None:
    name = long_video(folder)
    damage(folder, name, kind)
    clips = imported(folder, tmp_path, name)
    [reject] = rejects(tmp_path / "store")
    assert (reject["reason"], reject["clip_id"], reject["retryable"]) == ("damaged", None, False)
    assert "frame 10" in reject["detail"]
    assert [row["segment_start_s"] for row in clips] == [0.0, 0.44]


@pytest.mark.parametrize("other", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/nowhere.png")], ids=["folder", "pipe", "link to nowhere"])
def test_what_is_no_file_is_no_picture(folder: Path, tmp_path: Path, other: Callable[[Path], None]) -> None:
    name = long_video(folder)
    picture = folder / "lrs2_face" / name / "10.png"
    picture.unlink()
    other(picture)
    assert [row["segment_start_s"] for row in imported(folder, tmp_path, name)] == [0.0, 0.44]
    assert [reject["reason"] for reject in rejects(tmp_path / "store")] == ["damaged"]


def test_a_sketch_that_cannot_be_read_is_as_none(folder: Path, tmp_path: Path) -> None:
    name = long_video(folder)
    sketch = folder / "lrs2_sketch" / name / "0.png"
    sketch.write_bytes(absurd(sketch.read_bytes()))
    assert imported(folder, tmp_path, name)
    assert rejects(tmp_path / "store") == []


def test_no_clip_is_written_outside_the_export() -> None:
    hostile = SnapshotClip(clip_id="../../../out", batch="b", speaker="../..", split="train")
    folder, name = clip_name(hostile).split("/")
    assert not {folder, name} & {"", ".", ".."}


@pytest.mark.parametrize(("part", "reason"), [("lrs2_audio", "no-audio"), ("lrs2_face", "damaged"), ("lrs2_landmarks", "damaged")])
def test_a_video_without_a_part_is_turned_away(folder: Path, tmp_path: Path, part: str, reason: str) -> None:
    name = videos(folder)[0]
    shutil.rmtree(folder / part / name)
    assert imported(folder, tmp_path, name) == []
    [reject] = rejects(tmp_path / "store")
    assert reject["reason"] == reason


def test_a_silent_video_is_turned_away(folder: Path, tmp_path: Path) -> None:
    name = videos(folder)[0]
    soundfile.write(folder / "lrs2_audio" / name / "audio.wav", np.zeros(16000, np.int16), 16000)
    assert imported(folder, tmp_path, name) == []
    assert [reject["reason"] for reject in rejects(tmp_path / "store")] == ["silent-audio"]


def test_forgotten_content_does_not_come_back_under_another_name(folder: Path, tmp_path: Path) -> None:
    name = videos(folder)[0]
    [row, *_] = imported(folder, tmp_path, name)
    shutil.rmtree(tmp_path / "store")
    CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings())
    add_forgotten(str(tmp_path / "store"), contents=[row["clip_id"][:16]])
    for root in ROOTS:
        (folder / root / "renamed").mkdir()
        (folder / root / name).rename(folder / root / "renamed" / "x")
    assert imported(folder, tmp_path, "renamed/x") == []
    assert [reject["reason"] for reject in rejects(tmp_path / "store")] == ["forgotten"]


def test_a_forgotten_clip_does_not_come_back(folder: Path, tmp_path: Path) -> None:
    name = long_video(folder)
    damage(folder, name, "no picture")
    first, second = imported(folder, tmp_path, name)
    shutil.rmtree(tmp_path / "store")
    CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings())
    add_forgotten(str(tmp_path / "store"), contents=[first["clip_id"]])
    assert [row["clip_id"] for row in imported(folder, tmp_path, name)] == [second["clip_id"]]
    assert (first["clip_id"], "forgotten") in {(reject["clip_id"], reject["reason"]) for reject in rejects(tmp_path / "store")}


def test_a_store_of_another_crop_is_an_error(exported: Exported, tmp_path: Path) -> None:
    CorpusStore.create_or_open(str(tmp_path / "store"), FormatSettings(crop=CropSettings(padding="iplap-dub")))
    with pytest.raises(StoreError, match="padding iplap-dub, not"):
        import_iplap(str(exported[2]), str(tmp_path / "store"))


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no folder with landmark or face or audio"):
        import_iplap(str(tmp_path), str(tmp_path / "store"))
    with pytest.raises(StoreError, match="cannot be listed"):
        import_iplap(str(tmp_path / "nowhere"), str(tmp_path / "store"))
    with pytest.raises(StoreError, match="remote"):
        import_iplap("s3://bucket/lrs2", str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
