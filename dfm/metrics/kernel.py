"""Kernel distances between two sets of features: KID, and a Gaussian MMD as in CMMD; float64."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from dfm.shapes import typechecked

Features = Float[np.ndarray, "sample feature"]
References = Float[np.ndarray, "reference feature"]
SUBSETS, SUBSET_SIZE = 100, 1000
BLOCK_VALUES = 2**24  # of a kernel matrix at a time, 128 MiB; the kernels hold a few of these


def cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 (Binkowski et al. 2018)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(bandwidth: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
        return np.exp(-np.maximum(squares, 0) / (2 * bandwidth**2))

    return kernel


@typechecked
def squared_mmd(x: Features, y: References, kernel: Callable = cubic_kernel) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3); may be negative."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return _mean_without_diagonal(x, kernel) + _mean_without_diagonal(y, kernel) - 2 * _mean(x, y, kernel)


def _mean(x: np.ndarray, y: np.ndarray, kernel: Callable) -> float:
    block = _rows_at_once(y)
    return sum(float(kernel(x[i : i + block], y).sum()) for i in range(0, len(x), block)) / (len(x) * len(y))


def _mean_without_diagonal(x: np.ndarray, kernel: Callable) -> float:
    total, block = 0.0, _rows_at_once(x)
    for start in range(0, len(x), block):
        rows = kernel(x[start : start + block], x)
        total += float(rows.sum() - np.trace(rows, offset=start))
    return total / (len(x) * (len(x) - 1))


def _rows_at_once(y: np.ndarray) -> int:
    return max(1, BLOCK_VALUES // len(y))


@typechecked
def kernel_inception_distance(
    x: Features, y: References, seed: int, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> tuple[float, float]:
    """KID: mean and standard deviation of the squared MMD over random subsets without repetition inside one."""
    size = min(subset_size, len(x), len(y))
    generator = np.random.default_rng(seed)
    values = [
        squared_mmd(x[generator.choice(len(x), size, replace=False)], y[generator.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


@typechecked
def median_distance(x: Features, seed: int, pairs: int = 10_000) -> float:
    """Median distance of random pairs: the usual bandwidth where nothing is known."""
    first, second = np.random.default_rng(seed).integers(len(x), size=(2, pairs))
    different = first != second
    return float(np.median(np.linalg.norm(np.float64(x[first[different]]) - x[second[different]], axis=1)))
