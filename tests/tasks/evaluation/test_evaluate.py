"""`dubmill evaluate` from end to end on made footage: how figures move, what is not compared, what is written."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import CheckpointError, DubmillError
from schemas.gate import Gate
from schemas.jobs import EvaluationPair
from schemas.settings import EvaluateSettings, IngestSettings, Limit, SnapshotSettings
from schemas.tables import EVALUATED_CLIPS
from tasks.corpus.ingest import ingest_here
from tasks.corpus.snapshot import freeze_snapshot
from tasks.corpus.store import CorpusStore
from tasks.evaluation.evaluate import CLIPS_TABLE, SUMMARY, evaluate_here
from tasks.evaluation.evaluate_pair import Instruments, Row, evaluate_pair
from tasks.evaluation.summary_table import summary_lines
from tasks.progress import silent
from tasks.sample.portrait import Pose, load_portrait
from tests.footage import loudness, make_talking_clip, speech_like_sound
from tests.manipulations import blurred, cut_clip, mouth_frozen, write_clip
from tests.tasks.dubbing.random_networks import write_random_networks

FRAMES = 30
SECONDS = FRAMES / 25


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    make_opening_clip(folder / "long.mp4", FRAMES + 10)
    make_talking_clip(folder / "other.mp4", SECONDS, seed=1)
    cut_clip(folder / "long.mp4", folder / "real.mp4", FRAMES)
    return folder


def make_opening_clip(to: Path, frames: int) -> Path:
    """A drawn mouth that opens wide enough for FaceMesh to see it, in step with its sound, on a head that sways without a period."""
    face = load_portrait("astronaut")
    time_s = np.arange(frames) / 25
    openings, sway = loudness(time_s, 0), 4 * np.sin(2 * np.pi * 0.4 * time_s) + 2 * np.sin(2 * np.pi * 1.1 * time_s)
    pictures = (face.posed(Pose(opening=float(opening), head_x=float(x))) for opening, x in zip(openings, sway, strict=True))
    return write_clip(to, pictures, speech_like_sound(frames / 25, 0))


@pytest.fixture(scope="module")
def rows(footage: Path) -> dict[str, tuple[Row, Row]]:
    """The rows (generated, real) of the clip beside itself, spoilt in known ways."""
    real = footage / "real.mp4"
    made = {
        "identical": real,
        "shifted": cut_clip(footage / "long.mp4", footage / "shifted.mp4", FRAMES, start_frame=5),
        "blurred": blurred(real, footage / "blurred.mp4", FRAMES),
        "frozen": mouth_frozen(real, footage / "frozen.mp4", FRAMES),
        "swapped": cut_clip(real, footage / "swapped.mp4", FRAMES, sound_from=footage / "other.mp4"),
    }
    with Instruments(EvaluateSettings(pictures=8)) as instruments:
        pairs = {name: EvaluationPair(name=name, generated=str(path), real=str(real)) for name, path in made.items()}
        return {name: tuple(evaluate_pair(pair, instruments)) for name, pair in pairs.items()}  # type: ignore[misc]


def test_a_clip_beside_itself_has_exact_figures(rows: dict[str, tuple[Row, Row]]) -> None:
    generated, real = rows["identical"]
    assert (generated["status"], generated["shift_frames"], generated["overlap"]) == ("compared", 0, 1.0)
    assert {name: generated[name] for name in ("psnr", "ssim", "lmd", "lip_lmd", "articulation", "mouth_sharpness")} == {
        "psnr": 100.0,
        "ssim": pytest.approx(1.0),
        "lmd": 0.0,
        "lip_lmd": 0.0,
        "articulation": 1.0,
        "mouth_sharpness": 1.0,
    }
    assert all(generated[name] == real[name] for name in ("jitter", "seam", "lip_speech_correlation"))


def test_a_shift_in_time_is_found_and_such_a_pair_is_not_compared(rows: dict[str, tuple[Row, Row]]) -> None:
    generated, real = rows["shifted"]
    assert (generated["status"], real["status"], generated["shift_frames"]) == ("misaligned", "misaligned", -5)
    assert "5 frames before the real one" in generated["detail"]
    assert generated.get("psnr") is None


def test_a_blur_shows_in_the_picture_and_inside_the_mouth(rows: dict[str, tuple[Row, Row]]) -> None:
    generated, _ = rows["blurred"]
    assert generated["status"] == "compared"
    assert generated["psnr"] < 40
    assert generated["ssim"] < 0.98
    assert generated["mouth_sharpness"] < 0.8


def test_a_frozen_mouth_mumbles_and_lies_where_it_should_not(rows: dict[str, tuple[Row, Row]]) -> None:
    generated, real = rows["frozen"]
    assert generated["status"] == "compared"
    assert generated["articulation"] < 0.6
    assert generated["lip_lmd"] > 1.5 * generated["lmd"] > 0
    assert generated["jitter"] < real["jitter"]
    assert generated["lip_speech_correlation"] < real["lip_speech_correlation"]


def test_under_another_speech_the_clips_own_mouth_is_all_leak_and_likeness_says_nothing(rows: dict[str, tuple[Row, Row]]) -> None:
    generated, real = rows["swapped"]
    assert (generated["speech"], real["speech"]) == ("other", "other")
    assert generated["leak"] > 0.9
    assert all(generated.get(name) is None for name in ("psnr", "lip_lmd", "articulation", "real_closures"))
    assert "leak" not in rows["identical"][0]


def test_what_is_written_says_all_of_it(footage: Path, tmp_path: Path) -> None:
    for side in ("made", "real"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "one.mp4").write_bytes((footage / "real.mp4").read_bytes())
    (tmp_path / "made" / "short.mp4").write_bytes((footage / "real.mp4").read_bytes())
    (tmp_path / "real" / "short.mp4").write_bytes((footage / "long.mp4").read_bytes())
    (tmp_path / "made" / "broken.mp4").write_text("no video")
    (tmp_path / "real" / "broken.mp4").write_bytes((footage / "real.mp4").read_bytes())
    thresholds = {"psnr": Limit(at_least=40), "fid": Limit(at_most=30)}
    settings = EvaluateSettings(
        generated=f"{tmp_path}/made", real=f"{tmp_path}/real", out=f"{tmp_path}/out", metrics=("psnr", "seam", "fid"), pictures=2, thresholds=thresholds
    )
    summary = evaluate_here(settings, silent)
    assert json.loads((tmp_path / "out" / SUMMARY).read_text()) == json.loads(summary.model_dump_json())
    table = pq.read_table(tmp_path / "out" / CLIPS_TABLE)
    assert table.schema.equals(EVALUATED_CLIPS)
    assert [(row["name"], row["side"]) for row in table.to_pylist()] == [(name, side) for name in ("broken", "one", "short") for side in ("generated", "real")]
    assert (summary.pairs, summary.compared) == (3, 1)
    assert [(each.name, each.status) for each in summary.not_compared] == [("broken", "failed"), ("short", "misaligned")]
    psnr, seam = summary.metrics
    assert (psnr.name, psnr.generated.value, psnr.real.exact) == ("psnr", 100.0, True)  # type: ignore[union-attr]
    assert (seam.name, seam.real.exact) == ("seam", False)  # type: ignore[union-attr]
    assert summary.absent == {"fid": "The setting fid_weights names no weights to measure it with."}
    assert summary.gate == Gate(status="held", sentence="fid was not measured: The setting fid_weights names no weights to measure it with.")
    lines = "\n".join(summary_lines(summary))
    assert "gate held: fid was not measured" in lines
    assert "100 (exact)" in lines
    assert "1 of 3 pairs were compared" in lines
    assert "failed: broken:" in lines


def test_where_nothing_can_be_compared_the_reason_is_the_error_and_the_files_are_there(footage: Path, tmp_path: Path) -> None:
    make_talking_clip(tmp_path / "empty.mp4", 0.4, hidden_frames=range(10))
    settings = EvaluateSettings(generated=f"{tmp_path}/empty.mp4", real=f"{footage}/real.mp4", out=f"{tmp_path}/out")
    with pytest.raises(DubmillError, match=r"Not one of 1 pairs could be compared: No face is found in any frame of .*empty\.mp4"):
        evaluate_here(settings, silent)
    assert (tmp_path / "out" / SUMMARY).is_file()


def test_weights_that_are_not_there_are_told_before_any_work(footage: Path, tmp_path: Path) -> None:
    settings = EvaluateSettings(generated=f"{footage}/real.mp4", real=f"{footage}/real.mp4", out=f"{tmp_path}/out", sync_weights=f"{tmp_path}/none.model")
    with pytest.raises(CheckpointError, match=r"none\.model cannot be read"):
        evaluate_here(settings, silent)


def test_weights_stand_in_the_output_with_their_hash(footage: Path, tmp_path: Path, alexnet_weights: Path) -> None:
    settings = EvaluateSettings(generated=f"{footage}/blurred.mp4", real=f"{footage}/real.mp4", out=f"{tmp_path}/out", metrics=("lpips",), pictures=2)
    if not (footage / "blurred.mp4").exists():
        blurred(footage / "real.mp4", footage / "blurred.mp4", FRAMES)
    (figure,) = evaluate_here(settings.replaced(lpips_weights=str(alexnet_weights)), silent).metrics
    assert figure.weights is not None
    assert len(figure.weights) == 64
    assert "lpips 0.1" in figure.version
    assert figure.generated is not None
    assert figure.generated.value > 0


def test_the_test_clips_of_a_store_are_dubbed_with_both_speeches_and_measured(tmp_path: Path) -> None:
    for name, seed in (("anna/one", 0), ("bert/two", 1)):
        make_talking_clip(tmp_path / "footage" / f"{name}.mp4", SECONDS, seed=seed)
    ingest_here(IngestSettings(sources=(f"{tmp_path}/footage",), store=f"{tmp_path}/store"), silent)
    store = CorpusStore.open(f"{tmp_path}/store")
    snapshot = freeze_snapshot(store, SnapshotSettings(name="first", min_face_px=10, min_frames=10))
    networks = write_random_networks(tmp_path)
    assert {clip.split for clip in snapshot.clips}
    (tmp_path / "dub.yaml").write_text("references: 3\nlandmark_references: 5\nrest_in_silence: false\n")
    settings = EvaluateSettings(
        store=store.uri,
        snapshot="first",
        split="train",
        landmark_generator=networks.landmark_generator,
        renderer=networks.renderer,
        dub_settings=f"{tmp_path}/dub.yaml",
        out=f"{tmp_path}/out",
        pictures=2,
        device="cpu",
    )
    summary = evaluate_here(settings, silent)
    train = sorted(clip.clip_id for clip in snapshot.clips if clip.split == "train")
    names = [row["name"] for row in pq.read_table(tmp_path / "out" / CLIPS_TABLE).to_pylist() if row["side"] == "generated"]
    says = [name for name in names if "-says-" in name]
    assert [name for name in names if "-says-" not in name] == train
    assert len(says) == (len(train) if len(train) > 1 else 0)
    assert set(summary.models) == {"landmark_generator", "renderer"}
    assert all((tmp_path / "out" / "videos" / f"{train[0]}.{side}.mp4").is_file() for side in ("real", "generated"))
    assert summary.snapshot == "first"
    told = {figure.name: figure.generated.value for figure in summary.metrics if figure.generated}
    assert told["psnr"] < 60
    if says:
        assert -1 <= told["leak"] <= 1
    assert np.isfinite(list(told.values())).all()
