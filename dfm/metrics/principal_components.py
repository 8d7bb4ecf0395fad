"""Principal components of vectors, from their moments: the best linear code, and the directions of largest spread."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dfm.metrics.blas import single_threaded
from dfm.metrics.moments import Moments
from dfm.shapes import typechecked

Vectors = Float[np.ndarray, "n d"]
CHUNK = 4096  # vectors in float64 at a time


@dataclass(frozen=True)
class PrincipalComponents:
    """Attributes:
    mean: of the vectors.
    directions: unit vectors as rows, that of the largest variance first; each one's largest entry is positive.
    variances: of the vectors along each.
    """

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "k d"]
    variances: Float[np.ndarray, " k"]

    def scores(self, vectors: Vectors) -> Float[np.ndarray, "n k"]:
        """Coordinates along the directions, from the mean."""
        return (vectors - self.mean) @ self.directions.T

    def restored(self, vectors: Vectors) -> Vectors:
        """The nearest points of the affine space that the directions span: the linear code's reconstructions."""
        return self.mean + self.scores(vectors) @ self.directions


def principal_components(vectors: Moments | Vectors, count: int | None = None) -> PrincipalComponents:
    """The first `count` components (None: all) by the eigenvectors of the covariance, in float64.

    Args:
        vectors: themselves, or their moments where they are gathered piece by piece.
    """
    moments = vectors if isinstance(vectors, Moments) else moments_of(vectors)
    covariance = moments.scatter / max(1, moments.count - 1)
    size = len(covariance)
    kept = size if count is None else min(count, size)
    with single_threaded(unless_above=size**3):
        # a few of many cost a third of all
        variances, columns = scipy.linalg.eigh(covariance, subset_by_index=(size - kept, size - 1))
    directions = columns.T[::-1]
    largest = np.abs(directions).argmax(axis=1)
    # the sign of an eigenvector is arbitrary
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    return PrincipalComponents(moments.mean, directions, np.maximum(variances[::-1], 0))


@typechecked
def moments_of(vectors: Vectors) -> Moments:
    """Moments of vectors in memory or mapped into it, a piece at a time."""
    total = Moments.nothing(vectors.shape[1])
    for start in range(0, len(vectors), CHUNK):
        total = total.merge(Moments.of(np.asarray(vectors[start : start + CHUNK])))
    return total
