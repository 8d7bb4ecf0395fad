"""Kullback-Leibler divergence of two Gaussians from their means and covariances, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class GaussianMoments(NamedTuple):
    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "n d"]) -> "GaussianMoments":
        """Those of samples; the covariance is the unbiased one."""
        vectors = vectors.astype(np.float64)
        return cls(vectors.mean(0), np.atleast_2d(np.cov(vectors, rowvar=False)))


def gaussian_kl(p: GaussianMoments, q: GaussianMoments) -> float | None:
    """KL(p || q) = (tr(Sq^-1 Sp) + (mq - mp)^T Sq^-1 (mq - mp) - d + log det Sq - log det Sp) / 2, in nats.

    None where a covariance is singular.
    """
    (mean_p, cov_p), (mean_q, cov_q) = ((np.asarray(m, np.float64), np.asarray(c, np.float64)) for m, c in (p, q))
    try:
        # a Cholesky factor exists where every eigenvalue is positive: the determinant alone would not tell
        factor_p, factor_q = np.linalg.cholesky(cov_p), np.linalg.cholesky(cov_q)
    except np.linalg.LinAlgError:
        return None
    log_p, log_q = (2 * np.log(np.diagonal(factor)).sum() for factor in (factor_p, factor_q))
    difference = mean_q - mean_p
    trace = np.trace(np.linalg.solve(cov_q, cov_p))
    distance = difference @ np.linalg.solve(cov_q, difference)
    return float(0.5 * (trace + distance - len(mean_p) + log_q - log_p))
