"""Inception's features of many pictures as sums: what FID needs of them, of one size however many there are, and added up in any order."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

ROUNDING = 1e-10
"""Share of the largest eigenvalue under which one is the rounding of a sum: a covariance of few pictures has many that are 0."""


def _none() -> FloatArray:
    return np.zeros(0)


@dataclass
class FeatureSums:
    """Count, sum (D,) and sum of products (D, D) of features; empty at the beginning."""

    count: int = 0
    total: FloatArray = field(default_factory=_none)
    products: FloatArray = field(default_factory=_none)

    def add(self, features: FloatArray) -> None:
        """Counts features (n, D) in."""
        if not self.count:
            self.total, self.products = np.zeros(features.shape[1]), np.zeros((features.shape[1],) * 2)
        self.count += len(features)
        self.total += features.sum(axis=0)
        self.products += features.T @ features

    def plus(self, other: Self) -> "FeatureSums":
        """The sums over what both have counted in."""
        if not (self.count and other.count):
            return other if other.count else self
        return FeatureSums(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> FloatArray:
        """(D,)"""
        return self.total / self.count

    @property
    def covariance(self) -> FloatArray:
        """(D, D), of a sample; of two pictures or more."""
        return (self.products - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance_of_sums(one: FeatureSums, other: FeatureSums) -> float | None:
    """`fid.frechet_distance` from sums: the same but for rounding; None where one has fewer than two pictures, NaN where a feature is no number."""
    if min(one.count, other.count) < 2:
        return None
    if not (np.isfinite(one.products).all() and np.isfinite(other.products).all()):
        return float("nan")
    roots = [_root(sums.covariance) for sums in (one, other)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    apart = one.mean - other.mean
    return float(max(0.0, apart @ apart + sum(np.square(root).sum() for root in roots) - 2 * shared))


def _root(covariance: FloatArray) -> FloatArray:
    """R (rank, D) with R'R the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > ROUNDING * max(values[-1], 0.0)
    return np.sqrt(values[kept])[:, None] * vectors[:, kept].T
