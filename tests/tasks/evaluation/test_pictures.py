import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tasks.evaluation.pictures import details, mouth_insides, psnr, sharpness_ratio, ssim


def noisy_pairs(count: int = 3, height: int = 40, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    real = torch.nn.functional.interpolate(torch.rand(count, 3, 6, 6, generator=random), (height, width), mode="bilinear")
    noise = torch.randn(real.shape, generator=random) * torch.tensor([0.01, 0.1, 0.3])[:count, None, None, None]
    return (real + noise).clamp(0, 1), real


def test_psnr_is_that_of_scikit_image_picture_by_picture() -> None:
    generated, real = noisy_pairs()
    expected = [peak_signal_noise_ratio(r.numpy(), g.numpy(), data_range=1) for g, r in zip(generated, real, strict=True)]
    assert psnr(generated, real).tolist() == pytest.approx(expected, abs=1e-4)
    assert expected[0] > expected[1] > expected[2]


def test_equal_pictures_have_a_finite_psnr_and_an_ssim_of_one() -> None:
    _, real = noisy_pairs()
    assert psnr(real, real).tolist() == [100, 100, 100]
    assert ssim(real, real).tolist() == pytest.approx([1, 1, 1], abs=1e-6)


def test_ssim_is_that_of_scikit_image_picture_by_picture() -> None:
    generated, real = noisy_pairs()
    expected = [
        structural_similarity(r.numpy(), g.numpy(), channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for g, r in zip(generated, real, strict=True)
    ]
    assert ssim(generated, real).tolist() == pytest.approx(expected, abs=1e-5)


def content_with_open_mouth(opening: float) -> np.ndarray:
    """(1, 2, 57): lips on an ellipse, the inner ones as far apart as `opening`, a share of the picture."""
    angles = np.linspace(np.pi, 3 * np.pi, 20, endpoint=False)
    content = np.zeros((2, 57))
    content[:, 37:] = np.stack([0.5 + 0.12 * np.cos(angles), 0.7 + opening / 2 * np.sin(angles)])
    return content[None]


def test_the_mouths_inside_lies_within_the_inner_lips() -> None:
    inside = mouth_insides(content_with_open_mouth(0.1), 128)[0]
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max()) == pytest.approx((0.65 * 128 + 1, 0.75 * 128 - 2), abs=1.5)
    assert (columns.min(), columns.max()) == pytest.approx((0.38 * 128 + 1, 0.62 * 128 - 2), abs=2.5)
    assert np.array_equal(mouth_insides(content_with_open_mouth(0.1), 256)[0].shape, (256, 256))


def pictures_with_teeth(blur_px: float) -> np.ndarray:
    picture = np.full((128, 128, 3), 60, dtype=np.uint8)
    picture[84:92, ::6] = 220
    return (cv2.GaussianBlur(picture, (0, 0), blur_px) if blur_px else picture)[None]


def test_blur_within_the_mouth_lowers_its_detail_and_blur_elsewhere_does_not() -> None:
    inside = mouth_insides(content_with_open_mouth(0.1), 128)
    sharp, blurred = pictures_with_teeth(0), pictures_with_teeth(2)
    elsewhere = np.where(inside[..., None], sharp, cv2.GaussianBlur(sharp[0], (0, 0), 9)[None])
    assert sharpness_ratio(details(blurred, inside), details(sharp, inside)) < 0.1
    assert sharpness_ratio(details(sharp, inside), details(sharp, inside)) == 1
    within = np.stack([cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool) for mask in inside])
    assert np.array_equal(details(elsewhere, within), details(sharp, within))


def test_a_closed_mouth_has_no_inside_and_changes_no_ratio() -> None:
    closed = np.concatenate([mouth_insides(content_with_open_mouth(0.1), 128), mouth_insides(content_with_open_mouth(0.01), 128)])
    sharp = np.concatenate([pictures_with_teeth(0)] * 2)
    blurred = np.concatenate([pictures_with_teeth(1)] * 2)
    both = details(blurred, closed), details(sharp, closed)
    assert np.isnan(both[0]).tolist() == [False, True]
    assert sharpness_ratio(*both) == sharpness_ratio(both[0][:1], both[1][:1])
    assert sharpness_ratio(both[0][1:], both[1][1:]) is None
