"""Real footage through the command line: the clips and hard cases beside the checkout, in part by `make test`, whole by `make soak`."""

import json
from fractions import Fraction
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
import torch

from models import LandmarkGenerator, Renderer
from models.checkpoint import save_checkpoint
from schemas.checkpoints import CheckpointHeader, LandmarkGeneratorSize, RendererSize
from schemas.settings import CropSettings
from tests.test_dubmill import dubmill

HARD_IN_SHORT = ("x03_no_face_cartoon.mp4", "x12_tiny_frame_no_audio.mp4", "x15_50fps_two_seconds.mp4", "x16_one_second_clip.mp4", "x20_truncated.mp4")
CORPUS_IN_SHORT = ("c28_grid_bbaf2n_360x288.mpg", "c29_grid_brbk7n_360x288.mpg")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Options that name two untrained networks, far narrower than `small`: here the path is tested, not the pictures."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    landmark_generator = LandmarkGenerator(LandmarkGeneratorSize(width=64, layers=1, feed_forward=64))
    renderer = Renderer(RendererSize(width=16))
    for kind, network in (("landmark-generator", landmark_generator), ("renderer", renderer)):
        header = CheckpointHeader(kind=kind, architecture=network.size_settings, crop=CropSettings())
        save_checkpoint(str(folder / f"{kind}.safetensors"), network, header)
    return ["--landmark-generator", folder / "landmark-generator.safetensors", "--renderer", folder / "renderer.safetensors", "--references", "2"]


def linked(sources: list[Path], folder: Path) -> Path:
    """A folder of symbolic links to sources, which ingest is to follow."""
    folder.mkdir()
    for source in sources:
        (folder / source.name).symlink_to(source)
    return folder


def state_of(store: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(store)): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(store.rglob("*")) if path.is_file()}


def ingest_twice(footage: Path, store: Path, *options: str | Path) -> dict:
    """Ingests and verifies; then once more, which must find nothing to do and write nothing. Gives the first summary."""
    first = dubmill("ingest", footage, "--store", store, "--json", *options)
    assert first.returncode == 0, first.stderr
    verified = dubmill("corpus", "verify", store)
    assert verified.returncode == 0, verified.stdout
    before = state_of(store)
    second = dubmill("ingest", footage, "--store", store, "--json", *options)
    assert second.returncode == 0, second.stderr
    summary = json.loads(second.stdout)
    assert (summary["batches"], summary["clips"]) == ([], 0)
    assert state_of(store) == before
    return json.loads(first.stdout)


def rows(store: Path, table: str) -> list[dict]:
    return [row for path in sorted((store / table).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def assert_nothing_lost(footage: Path, store: Path) -> None:
    """Each source is either in clips or in rejects, with a reason and a sentence."""
    named = {Path(row["source"]).name for row in rows(store, "clips")} | {Path(row["source"]).name for row in rows(store, "rejects")}
    assert named == {path.name for path in footage.iterdir()}
    assert all(row["reason"] and row["detail"].endswith(".") for row in rows(store, "rejects"))


def test_hard_cases_in_short(shared: Path, tmp_path: Path) -> None:
    footage = linked([shared / "data/hard" / name for name in HARD_IN_SHORT], tmp_path / "hard")
    summary = ingest_twice(footage, tmp_path / "store")
    assert_nothing_lost(footage, tmp_path / "store")
    assert summary["sources"] == len(HARD_IN_SHORT)
    reasons = {Path(row["source"]).name[:3]: row["reason"] for row in rows(tmp_path / "store", "rejects")}
    assert reasons == {"x03": "no-face", "x12": "no-audio", "x20": "damaged"}


def test_corpus_in_short(shared: Path, tmp_path: Path) -> None:
    footage = linked([shared / "data/corpus" / name for name in CORPUS_IN_SHORT], tmp_path / "corpus")
    summary = ingest_twice(footage, tmp_path / "store", "--speakers", shared / "data/speakers.csv")
    assert (summary["clips"], summary["frames"], summary["rejects"]) == (2, 150, {})
    assert {row["speaker"] for row in rows(tmp_path / "store", "clips")} == {"grid_s1", "c29"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_all_hard_cases(shared: Path, tmp_path: Path) -> None:
    summary = ingest_twice(shared / "data/hard", tmp_path / "store")
    assert_nothing_lost(shared / "data/hard", tmp_path / "store")
    assert summary["sources"] == len(list((shared / "data/hard").iterdir()))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_whole_corpus(shared: Path, tmp_path: Path) -> None:
    summary = ingest_twice(shared / "data/corpus", tmp_path / "store", "--speakers", shared / "data/speakers.csv", "--ray", "local")
    assert summary["sources"] == sum(path.is_file() for path in (shared / "data/corpus").rglob("*"))
    assert summary["clips"] >= summary["sources"]


def assert_dub(path: Path, video: Path, speech: Path) -> None:
    """H.264 and AAC, the source's size and rate, exactly as many frames as the speech lasts."""
    with av.open(str(speech)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        speech_s = Fraction(samples, stream.rate)
    with av.open(str(video)) as container:
        source = container.streams.video[0]
        size, rate = (source.width, source.height), Fraction(source.average_rate)
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, sound.codec_context.name) == ("h264", "yuv420p", "aac")
        assert ((picture.width, picture.height), Fraction(picture.average_rate)) == (size, rate)
        frames = sum(1 for _ in container.decode(picture))
    assert abs(frames - rate * speech_s) <= Fraction(1, 2) + rate * Fraction(1152, stream.rate)  # an MP3's last block may be cut


def dub_and_check(video: Path, speech: Path, out: Path, weights: list[str | Path]) -> None:
    run = dubmill("dub", video, speech, "--out", out, *weights)
    assert run.returncode == 0, run.stderr
    assert_dub(out, video, speech)


def test_dub_of_a_real_clip(shared: Path, tmp_path: Path, weights: list[str | Path]) -> None:
    speech = shared / "data/audio/a08_en_silence_padding.wav"
    dub_and_check(shared / "data/corpus/c28_grid_bbaf2n_360x288.mpg", speech, tmp_path / "dub.mp4", weights)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_dubs_with_every_speech(shared: Path, tmp_path: Path, weights: list[str | Path]) -> None:
    for speech in sorted((shared / "data/audio").iterdir()):
        for video in ("c28_grid_bbaf2n_360x288.mpg", "c10_woman_bluebg_700_30fps.mp4"):
            dub_and_check(shared / "data/corpus" / video, speech, tmp_path / f"{speech.stem}-{video[:3]}.mp4", weights)


@pytest.mark.soak
def test_dub_of_a_real_picture(shared: Path, tmp_path: Path, weights: list[str | Path]) -> None:
    run = dubmill("dub", shared / "data/images/i09_one_face_portrait.png", shared / "data/audio/a03_en_jfk_16k.wav", "--out", tmp_path / "dub.mp4", *weights)
    assert run.returncode == 0, run.stderr
    with av.open(str(tmp_path / "dub.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 275
