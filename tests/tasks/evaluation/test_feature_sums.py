"""FID from sums is FID from features, and pytorch-fid's own figure; in however many parts they are summed."""

import numpy as np
import pytest

from tasks.evaluation.feature_sums import FeatureSums, frechet_distance_of_sums
from tasks.evaluation.fid import frechet_distance
from tasks.evaluation.torchvision_ops import prepare_torchvision


def features(count: int, seed: int, dims: int = 24) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((dims, dims))
    return random.standard_normal((count, dims)) @ mixing + random.standard_normal(dims)


def summed(parts: list[np.ndarray]) -> FeatureSums:
    whole = FeatureSums()
    for part in parts:
        alone = FeatureSums()
        alone.add(part)
        whole = whole.plus(alone)
    return whole


@pytest.mark.parametrize("count", [200, 9])
def test_sums_tell_what_features_tell_also_of_few_pictures(count: int) -> None:
    one, other = features(count, 1), features(count, 2)
    assert frechet_distance_of_sums(summed([one]), summed([other])) == pytest.approx(frechet_distance(one, other), rel=1e-6)


def test_parts_in_any_order_tell_the_same() -> None:
    one, other = features(90, 1), features(90, 2)
    whole = frechet_distance_of_sums(summed([one]), summed([other]))
    assert frechet_distance_of_sums(summed([one[40:], one[:40]]), summed([other[:7], other[7:]])) == pytest.approx(whole, rel=1e-9)


def test_sums_tell_what_pytorch_fid_tells() -> None:
    prepare_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    one, other = features(300, 3), features(300, 4)
    theirs = calculate_frechet_distance(one.mean(0), np.cov(one, rowvar=False), other.mean(0), np.cov(other, rowvar=False))
    assert frechet_distance_of_sums(summed([one]), summed([other])) == pytest.approx(theirs, rel=1e-6)


def test_the_same_pictures_are_no_distance_apart_and_one_has_no_spread() -> None:
    assert frechet_distance_of_sums(summed([features(50, 1)]), summed([features(50, 1)])) == pytest.approx(0, abs=1e-6)
    assert frechet_distance_of_sums(summed([features(1, 1)]), summed([features(50, 1)])) is None
    assert frechet_distance_of_sums(FeatureSums(), FeatureSums()) is None


def test_a_feature_that_is_no_number_makes_none() -> None:
    broken = features(50, 1)
    broken[3, 3] = np.inf
    assert np.isnan(frechet_distance_of_sums(summed([broken]), summed([features(50, 1)])))
