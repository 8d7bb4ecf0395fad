"""The standard normal density and the Gaussian with full covariance."""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from dfm.priors.prior import RIDGE, Labels, Prior, checked_latents, gaussian_log_prob, location_and_scale
from dfm.shapes import typechecked


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normal(Prior):
    """N(0, I); its fit takes nothing from the latents but their length."""

    name: ClassVar[str] = "normal"
    size: int = dataclasses.field(metadata={"static": True})

    @property
    def dimension(self) -> int:
        return int(self.size)

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], **options: Any) -> Self:
        return cls(checked_latents(latents).shape[1])

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        return cls(int(arrays["size"]))

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        return jnp.asarray(temperature) * jax.random.normal(key, (self.dimension,))

    def moments(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
        return np.zeros(self.dimension), np.eye(self.dimension)

    @jax.jit
    @typechecked
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        z = jnp.asarray(z)
        return -0.5 * (jnp.square(z).sum(1) + self.dimension * jnp.log(2 * jnp.pi))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian(Prior):
    """N(mean, L L^T) with L = scale_tril, lower triangular."""

    name: ClassVar[str] = "gaussian"
    mean: Float[Array, " d"]
    scale_tril: Float[Array, "d d"]

    @property
    def dimension(self) -> int:
        return self.mean.shape[0]

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], **options: Any) -> Self:
        """Mean and population covariance of the latents, the latter with the ridge of `prior.RIDGE`."""
        values = checked_latents(latents)
        mean, scale = location_and_scale(values)
        standard = (values - mean) / scale
        covariance = standard.T @ standard / len(values) + RIDGE * np.eye(values.shape[1])
        scale_tril = scale * np.linalg.cholesky(covariance)
        return cls(jnp.asarray(mean, jnp.float32), jnp.asarray(scale_tril, jnp.float32))

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        noise = jax.random.normal(key, (self.dimension,))
        # highest: on a GPU the default is TF32
        return self.mean + temperature * jnp.matmul(self.scale_tril, noise, precision="highest")

    def moments(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
        scale_tril = np.asarray(self.scale_tril, np.float64)
        return np.asarray(self.mean, np.float64), scale_tril @ scale_tril.T

    @jax.jit
    @typechecked
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        return gaussian_log_prob(jnp.asarray(z), self.mean, self.scale_tril)
