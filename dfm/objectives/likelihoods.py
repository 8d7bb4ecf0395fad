"""Reconstruction losses and decoder likelihoods, one number an example; pictures lie in [-1, 1].

`sum_` and `mean_` in a name say over what: all pixels and channels of an example. The textbooks' losses (Sevkovych
2023, Example 2.1.2; Foster 2022) differ in that alone.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.shapes import typechecked

Images = Float[Array, "batch height width channels"]
Each = Float[Array, " batch"]
LEVELS = 256
BIN = 2.0 / (LEVELS - 1)  # width of a level in [-1, 1]
SMALLEST_LOG_SIGMA = -6.0  # Rybkin et al. 2021: below, the gradient of a pixel that fits drowns all others


def _sum(values: Array) -> Each:
    return values.sum(tuple(range(1, values.ndim)))


@typechecked
def sum_squared_error(predicted: Images, images: Images) -> Each:
    """sum ||x - f||^2: the textbooks' MSE loss of a picture."""
    return _sum(jnp.square(predicted - images))


@typechecked
def sum_absolute_error(predicted: Images, images: Images) -> Each:
    """sum |x - f|: L1."""
    return _sum(jnp.abs(predicted - images))


@typechecked
def root_mean_squared_error(predicted: Images, images: Images) -> Each:
    """sqrt(1/n sum (x - f)^2): RMSE. The root's gradient at 0 is finite: 1e-12 is added below it."""
    return jnp.sqrt(jnp.square(predicted - images).mean((1, 2, 3)) + 1e-12)


@typechecked
def sum_binary_cross_entropy(logits: Images, images: Images) -> Each:
    """-sum x log p + (1 - x) log(1 - p) of pictures as probabilities (x + 1) / 2, p = sigmoid(logits).

    The textbooks' BCE is the mean over positions: this over height x width.
    """
    target = 0.5 * (images + 1.0)
    return _sum(jnp.maximum(logits, 0.0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits))))


@typechecked
def gaussian_nats(predicted: Images, images: Images, log_sigma: Float[Array, ""]) -> Each:
    """-log N(x; f, sigma^2 I) in nats: ||x - f||^2 / (2 sigma^2) + D log sigma + D/2 log 2 pi.

    The lecture's C ||x - f||^2 is its first term with C = 1 / (2 c), c = sigma^2.
    """
    dimensions = math.prod(images.shape[1:])
    error = sum_squared_error(predicted, images)
    return 0.5 * error * jnp.exp(-2.0 * log_sigma) + dimensions * (log_sigma + 0.5 * math.log(2 * math.pi))


@typechecked
def laplace_nats(predicted: Images, images: Images, log_sigma: Float[Array, ""]) -> Each:
    """-log Laplace(x; f, b) in nats, b = sigma / sqrt 2: the likelihood of the absolute error."""
    dimensions = math.prod(images.shape[1:])
    log_scale = log_sigma - 0.5 * math.log(2.0)
    return sum_absolute_error(predicted, images) * jnp.exp(-log_scale) + dimensions * (log_scale + math.log(2.0))


@typechecked
def bernoulli_nats(logits: Images, images: Images, log_sigma: Float[Array, ""]) -> Each:
    """-log p(x) of binary pictures, `sum_binary_cross_entropy`; a bound on nothing where pictures are grey."""
    return sum_binary_cross_entropy(logits, images)


@typechecked
def discretised_gaussian_nats(predicted: Images, images: Images, log_sigma: Float[Array, ""]) -> Each:
    """-log of the Gaussian's mass on the bins of 256 levels, the outermost reaching to infinity (Ho et al. 2020).

    What bits/dim of 8-bit pictures means: a density on them can be as high as one likes.
    """
    scale = jnp.exp(-log_sigma)
    upper = (images - predicted + BIN / 2) * scale
    lower = (images - predicted - BIN / 2) * scale
    inside = _log_difference(upper, lower)
    low, high = images <= -1.0 + BIN / 2, images >= 1.0 - BIN / 2
    log_mass = jnp.where(low, jax.scipy.stats.norm.logcdf(upper), inside)
    return -_sum(jnp.where(high, jax.scipy.stats.norm.logcdf(-lower), log_mass))


def _log_difference(upper: Array, lower: Array) -> Array:
    """log(Phi(upper) - Phi(lower)), by the tail that is smaller: no cancellation far from the mean."""
    flip = upper + lower > 0
    upper, lower = jnp.where(flip, -lower, upper), jnp.where(flip, -upper, lower)
    above, below = jax.scipy.stats.norm.logcdf(upper), jax.scipy.stats.norm.logcdf(lower)
    return above + jnp.log1p(-jnp.exp(jnp.minimum(below - above, -1e-7)))


@typechecked
def optimal_log_sigma(predicted: Images, images: Images) -> Float[Array, ""]:
    """log of the root mean squared error of a batch: where `gaussian_nats` has its minimum (Rybkin et al. 2021)."""
    mean = jnp.square(predicted - images).mean()
    return jnp.maximum(0.5 * jnp.log(mean + 1e-20), SMALLEST_LOG_SIGMA)


def bits_per_dim(nats: Any, shape: tuple[int, ...]) -> Any:
    """nats / (D log 2) for an example of this shape."""
    return nats / (math.prod(shape) * math.log(2.0))


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "mse": sum_squared_error,
    "l1": sum_absolute_error,
    "rmse": root_mean_squared_error,
    "bce": sum_binary_cross_entropy,  # of logits
}
LIKELIHOODS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "gaussian": gaussian_nats,
    "laplace": laplace_nats,
    "bernoulli": bernoulli_nats,
    "discretised_gaussian": discretised_gaussian_nats,
}
