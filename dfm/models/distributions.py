"""Distributions that encoders return."""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dfm.shapes import typechecked

LOGVAR_RANGE = (-30.0, 20.0)  # Rombach et al. 2022, as every AutoencoderKL has it: exp() stays finite in float32


class Distribution(Protocol):
    """A distribution of latents for each example of a batch; latents are an array [batch, ...] or a tree of them."""

    @property
    def mean(self) -> Any: ...

    def mode(self) -> Any:
        """The most probable latents."""

    def sample(self, key: Array) -> Any:
        """One draw for each example."""

    def kl(self) -> Float[Array, " batch"]:
        """KL(self || prior of the model) in nats, a number an example."""

    def rate(self, z: Any) -> Float[Array, " batch"]:
        """The same for a loss that has drawn z already: closed where it can be, otherwise estimated by that draw."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PointMass:
    """All probability at one place: what a deterministic encoder gives.

    Attributes:
        mean: [batch, ...].
    """

    mean: Float[Array, "batch *event"]

    def mode(self) -> Array:
        return self.mean

    def sample(self, key: Array) -> Array:
        return self.mean

    def kl(self) -> Float[Array, " batch"]:
        """Infinite: a point has no density."""
        return jnp.full(len(self.mean), jnp.inf)

    def rate(self, z: Array) -> Float[Array, " batch"]:
        return self.kl()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(logvar))) for each example of a batch.

    Attributes:
        mean, logvar: [batch, ...]; logvar is the natural logarithm of the variance.
    """

    mean: Float[Array, "batch *event"]
    logvar: Float[Array, "batch *event"]

    @classmethod
    def from_moments(cls, moments: Float[Array, "batch *event"]) -> "DiagonalGaussian":
        """The first half of the last axis is the mean, the second log sigma^2, which is clipped to [-30, 20].

        Float32 or wider, whatever the moments are in: exp and the KL need it.
        """
        moments = moments.astype(jnp.promote_types(moments.dtype, jnp.float32))
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return cls(mean, jnp.clip(logvar, *LOGVAR_RANGE))

    @property
    def var(self) -> Array:
        return jnp.exp(self.logvar)

    @property
    def std(self) -> Array:
        return jnp.exp(self.logvar / 2)

    @typechecked
    def sample(self, key: Key[Array, ""] | Array) -> Array:
        """mean + std eps, eps ~ N(0, I)."""
        return self.mean + self.std * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def mode(self) -> Array:
        return self.mean

    @typechecked
    def kl(self) -> Float[Array, " batch"]:
        """KL(self || N(0, I)) = 1/2 sum(mean^2 + sigma^2 - 1 - log sigma^2), in nats, a number an example."""
        terms = jnp.square(self.mean) + self.var - 1.0 - self.logvar
        return 0.5 * jnp.sum(terms, axis=tuple(range(1, terms.ndim)))

    def rate(self, z: Array) -> Float[Array, " batch"]:
        return self.kl()

    @typechecked
    def log_ratio(self, z: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
        """log N(z; 0, I) - log q(z), a number an example: its mean over z ~ q is -KL."""
        terms = jnp.square((z - self.mean) / self.std) + self.logvar - jnp.square(z)
        return 0.5 * jnp.sum(terms, axis=tuple(range(1, terms.ndim)))


def mixture_log_prob(
    z: Float[Array, "n d"], means: Float[Array, "k d"], logvars: Float[Array, "k d"]
) -> Float[Array, " n"]:
    """log 1/K sum_k N(z; means_k, diag exp(logvars_k)) of each z."""
    terms = jnp.square(z[:, None] - means) * jnp.exp(-logvars) + logvars + jnp.log(2 * jnp.pi)
    return jax.scipy.special.logsumexp(-0.5 * terms.sum(-1), axis=1) - jnp.log(float(len(means)))


KL_DRAWS = 64  # of a KL divergence that has no closed form


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AgainstMixture(DiagonalGaussian):
    """A posterior whose prior is 1/K sum_k N(means_k, diag exp(logvars_k)): the VampPrior's (Tomczak and Welling 2018).

    Attributes:
        components: [K, ...], the same for every example.
    """

    components: DiagonalGaussian

    def log_prior(self, z: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
        rows = (z, self.components.mean, self.components.logvar)
        return mixture_log_prob(*(leaf.reshape(len(leaf), -1) for leaf in rows))

    def log_ratio(self, z: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
        """log p(z) - log q(z), a number an example: its mean over z ~ q is -KL."""
        terms = jnp.square((z - self.mean) / self.std) + self.logvar + jnp.log(2 * jnp.pi)
        return self.log_prior(z) + 0.5 * jnp.sum(terms, axis=tuple(range(1, terms.ndim)))

    def rate(self, z: Float[Array, "batch *event"]) -> Float[Array, " batch"]:
        return -self.log_ratio(z)

    def kl(self) -> Float[Array, " batch"]:
        """Estimated without bias by 64 draws, always the same."""
        keys = jax.random.split(jax.random.key(0), KL_DRAWS)
        return jax.lax.map(lambda key: self.rate(self.sample(key)), keys).mean(0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Levels:
    """Independent Gaussians, one for each level of a hierarchy, coarsest first.

    Attributes:
        levels: each [batch, ...] of its own shape.
    """

    levels: tuple[DiagonalGaussian, ...]

    @property
    def mean(self) -> tuple[Array, ...]:
        return tuple(level.mean for level in self.levels)

    def mode(self) -> tuple[Array, ...]:
        return self.mean

    def sample(self, key: Array) -> tuple[Array, ...]:
        keys = [key, *(jax.random.fold_in(key, i) for i in range(1, len(self.levels)))]
        return tuple(level.sample(own) for level, own in zip(self.levels, keys, strict=True))

    def kl_by_level(self) -> tuple[Float[Array, " batch"], ...]:
        return tuple(level.kl() for level in self.levels)

    def kl(self) -> Float[Array, " batch"]:
        """The sum over levels, in nats."""
        return sum(self.kl_by_level()[1:], self.levels[0].kl())

    def rate(self, z: tuple[Array, ...]) -> Float[Array, " batch"]:
        return self.kl()

    def log_ratio(self, z: tuple[Array, ...]) -> Float[Array, " batch"]:
        ratios = [level.log_ratio(own) for level, own in zip(self.levels, z, strict=True)]
        return sum(ratios[1:], ratios[0])
