from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from schemas.errors import CheckpointError
from schemas.settings import RendererTraining
from tasks.corpus.store import CorpusStore
from tasks.training import renderer_validation
from tasks.training.footage import Footage, read_lessons
from tasks.training.pictures import FacePictures
from tasks.training.previews import STRIP_PX
from tasks.training.rendered_stretch import longest_stretch
from tasks.training.renderer_validation import RendererValidation
from tasks.training.sample_sheet import CAPTION_PX
from tasks.training.samples import RendererSamples
from tasks.training.validation import VALIDATION_SEED
from tests.tasks.evaluation.foreign_networks import write_alexnet, write_inception
from tests.training_corpus import SNAPSHOT, make_training_corpus

CPU = torch.device("cpu")


class Copyist(torch.nn.Module):
    """Stands in for a renderer: gives the true face back, darkened and blurred as asked, and the mean of the references as the warp."""

    def __init__(self, darker: float = 0.0, blur_px: int = 1) -> None:
        super().__init__()
        self.darker = darker
        self.blur_px = blur_px
        self.batch_sizes: list[int] = []

    def forward(
        self, face: torch.Tensor, sketches: torch.Tensor, faces: torch.Tensor, reference_sketches: torch.Tensor, mel: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert not self.training
        assert sketches.shape[1:] == (5, *face.shape[1:])
        assert faces.shape == reference_sketches.shape
        assert mel.shape == (len(face), 1, 80, 16)
        self.batch_sizes.append(len(face))
        blurred = torch.nn.functional.avg_pool2d(face, self.blur_px, 1, self.blur_px // 2, count_include_pad=False)
        return (blurred - self.darker).clamp(0, 1), faces.mean(1).expand(len(face), -1, -1, -1)


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusStore:
    return make_training_corpus(tmp_path_factory.mktemp("corpus"), {"train": [9], "val": [28, 60]})


@pytest.fixture(scope="module")
def footage(long_corpus: CorpusStore) -> Footage:
    return read_lessons(long_corpus, long_corpus.snapshot(SNAPSHOT)).validation


@pytest.fixture
def settings(long_corpus: CorpusStore) -> RendererTraining:
    return RendererTraining(store=long_corpus.uri, out="unused", snapshot=SNAPSHOT, preset="small", device="cpu", validation_samples=20)


@pytest.fixture
def no_faces_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """FaceMesh finds no drawn faces; so it need not look for them either."""
    monkeypatch.setattr("tasks.evaluation.face_measures.find_mouths", lambda pictures: np.full((len(pictures), 40, 2), np.nan))


class Textured:
    """The same pictures with stripes all over: the drawn mouths have nothing inside."""

    def __init__(self, pictures: FacePictures) -> None:
        self._pictures = pictures

    def read(self, clip: int, row: int) -> np.ndarray:
        picture = self._pictures.read(clip, row).copy()
        picture[:, ::4] //= 2
        return picture


def validation(footage: Footage, store: CorpusStore, settings: RendererTraining) -> RendererValidation:
    return RendererValidation(footage, FacePictures(store, footage), settings, CPU)


@pytest.mark.usefixtures("no_faces_found")
def test_the_metrics_are_those_of_the_fixed_samples(footage: Footage, long_corpus: CorpusStore, settings: RendererTraining) -> None:
    darker, copyist = validation(footage, long_corpus, settings), Copyist(darker=0.1)
    metrics = darker.measure(copyist)
    batch = RendererSamples(footage, 3, 128, FacePictures(long_corpus, footage)).batch(VALIDATION_SEED, 0, 20).unit_pictures()
    generated, warped = Copyist(darker=0.1).eval()(*batch)
    expected = [peak_signal_noise_ratio(r.numpy(), g.numpy(), data_range=1) for g, r in zip(generated, batch.face, strict=True)]
    assert metrics["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert metrics["l1"] == pytest.approx((generated - batch.face).abs().mean().item(), rel=1e-4)
    assert metrics["warp_l1"] == pytest.approx((warped - batch.face).abs().mean().item(), rel=1e-4)
    assert 0 < metrics["ssim"] < 1
    assert max(copyist.batch_sizes) <= renderer_validation.SAMPLES_AT_ONCE
    assert sum(copyist.batch_sizes) == 20
    assert metrics == darker.measure(Copyist(darker=0.1))
    assert next(iter(metrics)) == "psnr"


@pytest.mark.usefixtures("no_faces_found")
def test_a_copy_is_perfect_and_a_blurred_one_is_not_sharp(footage: Footage, long_corpus: CorpusStore, settings: RendererTraining) -> None:
    striped = RendererValidation(footage, Textured(FacePictures(long_corpus, footage)), settings, CPU)
    copy, blurred = (striped.measure(Copyist(blur_px=blur)) for blur in (1, 5))
    assert (copy["psnr"], copy["l1"], copy["mouth_sharpness"]) == pytest.approx((100, 0, 1), abs=1e-6)
    assert blurred["psnr"] < 40
    assert blurred["mouth_sharpness"] < 0.6


@pytest.mark.usefixtures("no_faces_found")
def test_what_cannot_be_measured_is_said(footage: Footage, long_corpus: CorpusStore, settings: RendererTraining) -> None:
    looked = validation(footage, long_corpus, settings)
    metrics = looked.measure(Copyist())
    assert looked.absent == {
        "lpips": "The setting lpips_weights names no weights to measure it with.",
        "fid": "The setting fid_weights names no weights to measure it with.",
        "csim": "The setting identity_weights names no weights to measure it with.",
        "mouth_sharpness": "In the real pictures no mouth is open wide enough to show anything inside.",
        "mouth_lmd_px": "FaceMesh finds no face in the real pictures.",
    }
    assert not metrics.keys() & looked.absent.keys()


def test_without_mediapipe_the_mouths_distance_is_absent(
    footage: Footage, long_corpus: CorpusStore, settings: RendererTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mediapipe", None)
    looked = validation(footage, long_corpus, settings)
    assert "mouth_lmd_px" not in looked.measure(Copyist())
    assert looked.absent["mouth_lmd_px"] == "mediapipe, whose FaceMesh finds the mouths, is not installed."


@pytest.mark.usefixtures("no_faces_found")
def test_with_weights_lpips_and_fid_are_measured(footage: Footage, long_corpus: CorpusStore, settings: RendererTraining, tmp_path: Path) -> None:
    weights = {"lpips_weights": str(write_alexnet(tmp_path / "alexnet.pth")), "fid_weights": str(write_inception(tmp_path / "inception.pth"))}
    looked = validation(footage, long_corpus, settings.replaced(validation_samples=4, **weights))
    copy, blurred = (looked.measure(Copyist(blur_px=blur)) for blur in (1, 9))
    assert (copy["lpips"], copy["fid"]) == pytest.approx((0, 0), abs=1e-6)
    assert blurred["lpips"] > 1e-4
    assert blurred["fid"] > 1e-3
    with pytest.raises(CheckpointError, match="is not there"):
        _ = validation(footage, long_corpus, settings.replaced(lpips_weights=str(tmp_path / "none.pth"))).absent


@pytest.mark.usefixtures("no_faces_found")
def test_a_network_whose_weights_are_no_numbers_is_measured_as_such(
    footage: Footage, long_corpus: CorpusStore, settings: RendererTraining, tmp_path: Path
) -> None:
    inception = str(write_inception(tmp_path / "inception.pth"))
    metrics = validation(footage, long_corpus, settings.replaced(validation_samples=4, fid_weights=inception)).measure(Copyist(darker=float("nan")))
    assert np.isnan([metrics["psnr"], metrics["fid"]]).all()


@pytest.mark.usefixtures("no_faces_found")
def test_without_the_packages_their_metrics_are_absent(
    footage: Footage, long_corpus: CorpusStore, settings: RendererTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("lpips", "pytorch_fid"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    looked = validation(footage, long_corpus, settings.replaced(lpips_weights=str(tmp_path / "a.pth"), fid_weights=str(tmp_path / "b.pth")))
    assert [looked.absent[name].startswith("A package that it is measured with is not installed") for name in ("lpips", "fid")] == [True, True]


def test_the_picture_shows_what_went_in_and_what_came_out(footage: Footage, long_corpus: CorpusStore, settings: RendererTraining) -> None:
    sheet = validation(footage, long_corpus, settings).picture(Copyist(darker=0.2))
    assert sheet.shape == (CAPTION_PX + 4 * 128, 6 * 128, 3)
    rows = sheet[CAPTION_PX:].reshape(4, 128, 6, 128, 3).swapaxes(1, 2).astype(int)
    for _reference, _warped, generated, real, generated_mouth, real_mouth in rows:
        assert np.abs(real - generated - 51)[real > 52].max() <= 1
        assert real_mouth[64, 64].tolist() != real[5, 5].tolist()
        assert (real_mouth - generated_mouth).mean() > 20
    inside = [(cv2.inRange(row[3].astype(np.uint8), (35, 25, 145), (45, 35, 155)) > 0).sum() for row in rows]  # the drawn mouth's colour
    assert inside == sorted(inside)
    assert inside[0] < inside[-1]


def test_the_preview_shows_a_stretch_beside_the_real_one(footage: Footage, long_corpus: CorpusStore, settings: RendererTraining) -> None:
    preview = validation(footage, long_corpus, settings).preview(Copyist(darker=0.2))
    assert preview is not None
    assert (preview.clip_id, preview.first_frame) == (footage.clip_ids[1], 10)
    assert preview.frames.shape == (40, STRIP_PX + 308, 2 * 256, 3)  # two thirds of 60 frames, in the box's proportions of 100 to 120
    pictures = FacePictures(long_corpus, footage)
    for number in (0, 39):
        real = cv2.resize(pictures.read(1, int(footage.first_frame[1]) + 10 + number), (256, 308), interpolation=cv2.INTER_CUBIC)
        assert np.array_equal(preview.frames[number, STRIP_PX:, :256], real)
        assert preview.frames[number, STRIP_PX:, 256:].mean() < real.mean() - 30


@pytest.mark.parametrize(("device", "wanted"), [("cpu", 5), ("cuda", 20)])
def test_references_of_a_preview_are_no_frames_of_it(footage: Footage, device: str, wanted: int) -> None:
    stretch = longest_stretch(footage, torch.device(device))
    assert stretch is not None
    assert not set(stretch.references.tolist()) & set(stretch.frames)
    assert len(set(stretch.references.tolist())) == len(stretch.references) == wanted  # of the 20 frames that are left


def test_a_split_of_short_clips_has_no_preview(tmp_path: Path, settings: RendererTraining) -> None:
    store = make_training_corpus(tmp_path, {"train": [9], "val": [25, 12]})
    footage = read_lessons(store, store.snapshot(SNAPSHOT)).validation
    assert longest_stretch(footage, CPU) is None
    assert validation(footage, store, settings).preview(Copyist()) is None
