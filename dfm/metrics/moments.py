"""Count, mean and covariance of feature vectors, gathered batch by batch and merged without loss, in float64."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dfm.shapes import typechecked


@dataclass(frozen=True)
class Moments:
    """First two moments of `count` vectors; `scatter` is the sum of (x - mean)(x - mean)^T."""

    count: int
    mean: Float[np.ndarray, " feature"]
    scatter: Float[np.ndarray, "feature feature"]

    @property
    def covariance(self) -> Float[np.ndarray, "feature feature"]:
        """The unbiased one, scatter / (count - 1), as in every FID."""
        return self.scatter / (self.count - 1)

    @staticmethod
    def nothing(features: int) -> "Moments":
        return Moments(0, np.zeros(features), np.zeros((features, features)))

    @staticmethod
    @typechecked
    def of(x: Float[np.ndarray, "batch feature"]) -> "Moments":
        x = x.astype(np.float64)
        mean = x.mean(axis=0)
        centred = x - mean
        return Moments(len(x), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub and LeVeque 1979): exact but for rounding, in any order."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.outer(difference, difference) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @staticmethod
    def from_covariance(count: int, mean: np.ndarray, covariance: np.ndarray) -> "Moments":
        return Moments(count, np.asarray(mean, np.float64), np.asarray(covariance, np.float64) * (count - 1))
