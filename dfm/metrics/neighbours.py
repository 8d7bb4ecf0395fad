"""Metrics from nearest neighbours in feature space: precision and recall, density and coverage, memorisation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dfm.shapes import typechecked

Features = Float[np.ndarray, "sample feature"]
References = Float[np.ndarray, "reference feature"]
BLOCK_VALUES = 2**25  # squared distances at a time, 256 MiB


def _squared_distances(x: Features, y: References) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, squared distances [rows, len(y)]), block by block; a block may be written to."""
    y = y.astype(np.float64)
    squares_y = np.square(y).sum(1)
    block = max(1, BLOCK_VALUES // len(y))
    for start in range(0, len(x), block):
        rows = x[start : start + block].astype(np.float64)
        squares = rows @ y.T
        squares *= -2  # in place: sums of whole blocks would take three times the memory
        squares += squares_y
        squares += np.square(rows).sum(1)[:, None]
        yield start, np.maximum(squares, 0, out=squares)


def squared_radii(x: Features, k: int) -> Float[np.ndarray, " sample"]:
    """Squared distance of each vector to its k-th nearest other one."""
    radii = np.empty(len(x))
    for start, squares in _squared_distances(x, x):
        squares[np.arange(len(squares)), np.arange(start, start + len(squares))] = -1  # the vector itself comes first
        squares.partition(k, axis=1)
        radii[start : start + len(squares)] = squares[:, k]
    return radii


def _inside(x: Features, centres: References, radii: np.ndarray) -> Bool[np.ndarray, " sample"]:
    """Whether each x lies in the ball of at least one centre."""
    return np.concatenate([(squares <= radii).any(axis=1) for _, squares in _squared_distances(x, centres)])


@dataclass(frozen=True)
class PrecisionRecall:
    precision: float  # share of samples inside the union of the references' balls: are they real?
    recall: float  # share of references inside the union of the samples' balls: is everything there?


@typechecked
def precision_recall(samples: Features, references: References, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019): balls reach to the k-th neighbour of their own set."""
    _check_size(samples, references, k)
    precision = _inside(samples, references, squared_radii(references, k)).mean()
    recall = _inside(references, samples, squared_radii(samples, k)).mean()
    return PrecisionRecall(float(precision), float(recall))


@dataclass(frozen=True)
class DensityCoverage:
    density: float  # references' balls around a sample, over k; above 1 where samples crowd
    coverage: float  # share of references whose ball holds a sample


@typechecked
def density_coverage(samples: Features, references: References, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, Eq. 3 and 4): balls of the references only, so outliers harm less."""
    _check_size(samples, references, k)
    radii = squared_radii(references, k)
    balls, covered = 0, np.zeros(len(references), bool)
    for _, squares in _squared_distances(samples, references):
        inside = squares <= radii
        balls += int(inside.sum())
        covered |= inside.any(axis=0)
    return DensityCoverage(balls / (k * len(samples)), float(covered.mean()))


@typechecked
def nearest(
    x: Features, references: References, count: int
) -> tuple[Int[np.ndarray, "sample count"], Float[np.ndarray, "sample count"]]:
    """Indices and distances of the `count` nearest references of each x, nearest first."""
    indices, distances = [], []
    for _, squares in _squared_distances(x, references):
        some = np.argpartition(squares, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(squares, some, axis=1).argsort(axis=1, kind="stable")
        best = np.take_along_axis(some, order, axis=1)
        indices.append(best)
        distances.append(np.sqrt(np.take_along_axis(squares, best, axis=1)))
    return np.concatenate(indices), np.concatenate(distances)


def _check_size(samples: np.ndarray, references: np.ndarray, k: int) -> None:
    if min(len(samples), len(references)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} pictures on each side")
