"""Frechet distance between Gaussians, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, Eq. 6).

The root's trace is the sum of the square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2): two symmetric
eigendecompositions in float64, no matrix root, no complex numbers and nothing added to a diagonal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dfm.metrics.blas import single_threaded
from dfm.metrics.moments import Moments
from dfm.shapes import typechecked

EXTRAPOLATION_POINTS = 15


@dataclass(frozen=True)
class Frechet:
    value: float
    mean_term: float  # |m1 - m2|^2
    covariance_term: float  # the rest
    most_negative_eigenvalue: float  # of both decompositions, over the largest magnitude; beyond -1e-6 doubt the input


class FrechetReference:
    """One side of the distance with the square root of its covariance kept: each further distance costs half."""

    def __init__(self, moments: Moments):
        self.moments = moments
        self.covariance = moments.covariance
        with single_threaded():
            values, vectors = np.linalg.eigh(self.covariance)
        self.negative = _relative_minimum(values)
        # C^(1/2) = V sqrt(D) V^T; the left factor sqrt(D) V^T has the same product with C2 up to a rotation
        self.factor = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T

    def distance(self, other: Moments) -> Frechet:
        """Squared 2-Wasserstein distance of the two Gaussians, the number that is called FID."""
        covariance = other.covariance
        with single_threaded():
            product = self.factor @ covariance @ self.factor.T
            values = np.linalg.eigvalsh((product + product.T) / 2)
        root_trace = float(np.sqrt(np.maximum(values, 0)).sum())
        mean_term = float(np.square(self.moments.mean - other.mean).sum())
        covariance_term = float(np.trace(self.covariance) + np.trace(covariance)) - 2 * root_trace
        negative = min(self.negative, _relative_minimum(values))
        return Frechet(mean_term + covariance_term, mean_term, covariance_term, negative)


def frechet_distance(a: Moments, b: Moments) -> Frechet:
    return FrechetReference(a).distance(b)


def _relative_minimum(values: np.ndarray) -> float:
    """The lowest eigenvalue where it is negative, over the largest magnitude: -1 where all are negative."""
    largest = max(abs(values[0]), abs(values[-1]))
    return float(min(values[0], 0) / largest) if largest > 0 else 0.0


@typechecked
def extrapolated_distance(
    reference: FrechetReference, features: Float[np.ndarray, "sample feature"], seed: int
) -> tuple[float, Sequence[int], Sequence[float]]:
    """FID at infinitely many samples: the intercept of a line in 1 / N (Chong and Forsyth 2020).

    Fifteen sizes evenly spaced from a tenth of the samples to all of them, each a random subset without repetition.

    Returns:
        The intercept, the sizes and their distances.
    """
    generator = np.random.default_rng(seed)
    total = len(features)
    sizes = np.unique(np.linspace(max(2, total // 10), total, EXTRAPOLATION_POINTS).round().astype(int))
    subsets = [features[generator.permutation(total)[:size]] for size in sizes]
    distances = [reference.distance(Moments.of(subset)).value for subset in subsets]
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept), sizes.tolist(), distances
