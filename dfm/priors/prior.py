"""What every density on latents has: fit, sample, log_prob; and the checks that all fits share.

A prior is a frozen dataclass of arrays and a pytree, so that it can be an argument of a jitted function. Its `name` is
the one that it has in `dfm.priors.PRIORS`.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, UInt32

from dfm.errors import UserError

# Variance added in every direction, as a fraction of the mean variance: constant columns and fewer latents than
# dimensions leave a covariance singular. It widens a direction without spread to a thousandth of the usual spread.
RIDGE = 1e-6
CHUNK = 4096
CLASS_DRAW = 2**31  # folded into a sample's key where its class is drawn
Progress = Callable[[int, int], None]  # rounds of a fit that are done, and how many there are at most
Labels = Int[ArrayLike, " n"] | None


class Prior(abc.ABC):
    """A density on latents z in R^d; p(z|y) where there are `classes`, or p(z), their mixture, without labels.

    Attributes:
        options: of `fit`, with their defaults, whose types --option of dfm.fit_prior takes.
        is_bound: `log_prob` is a lower bound.
    """

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    is_bound: ClassVar[bool] = False

    @property
    def classes(self) -> int:
        """Number of labels 0, 1, ... that it is conditioned on; 0: labels have no effect (see by_class.py)."""
        return 0

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """d, the length of a latent."""

    @classmethod
    @abc.abstractmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], **options: Any) -> Self:
        """The density of this family that suits the latents, by maximum likelihood.

        Args:
            options: those of the family, and `progress`, which a fit that takes seconds calls.

        Raises:
            UserError: no latents, latents that are not finite or all equal, or too few of them.
        """

    @abc.abstractmethod
    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""]) -> Float[Array, " d"]:
        """One latent; temperature as in `sample`."""

    @abc.abstractmethod
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        """Natural logarithm of the density at each z, at temperature 1."""

    def moments(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]] | None:
        """Mean and covariance at temperature 1, in float64, where they are known in closed form."""
        return None

    def sample(
        self, key: PRNGKeyArray, n: int, start: int = 0, temperature: float | Array = 1.0, labels: Labels = None
    ) -> Float[Array, "n d"]:
        """Samples start, ..., start + n - 1 of the endless list that belongs to this key.

        Sample i depends on (key, i) alone, and its label where there are some, so a list can be drawn in pieces of any
        size, on any number of devices.

        Args:
            temperature: factor of the standard deviation around the mean (of the chosen component, in a mixture).
            labels: classes of these samples; None: drawn as often as the latents had them.
        """
        return self.sample_at(key, np.arange(n, dtype=np.uint32) + np.uint32(start), temperature, labels)

    @jax.jit
    def sample_at(
        self,
        key: PRNGKeyArray,
        indices: UInt32[ArrayLike, " n"],
        temperature: float | Array = 1.0,
        labels: Labels = None,
    ) -> Float[Array, "n d"]:
        """The samples with these numbers of the list that `sample` draws from."""
        return jax.vmap(lambda own: self.sample_one(own, temperature))(keys_at(key, indices))

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields by name, as they are stored."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The prior of these fields; TypeError where they are not those of this family."""
        return cls(**{name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()})


def keys_at(key: PRNGKeyArray, indices: UInt32[ArrayLike, " n"]) -> Array:
    """The key of each sample of a list: it depends on the list's key and the sample's number alone."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.asarray(indices))


def draw_class(key: PRNGKeyArray, log_weights: Float[Array, " classes"]) -> Int[Array, ""]:
    """The class of the sample of this key: a draw that is none of its latent's."""
    return jax.random.categorical(jax.random.fold_in(key, CLASS_DRAW), log_weights)


def checked_latents(latents: Float[ArrayLike, "n d"]) -> Float[np.ndarray, "n d"]:
    """The latents as float64; UserError where no density can be fitted to them."""
    values = np.asarray(latents, np.float64)
    if values.ndim != 2 or values.size == 0:
        raise UserError(f"a prior is fitted to latents [pictures, latent size], not to {list(values.shape)}")
    bad = int(np.sum(~np.isfinite(values).all(1)))
    if bad:
        raise UserError(f"{bad} of {len(values)} latents are not finite: the training diverged")
    return values


def location_and_scale(latents: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], float]:
    """Mean, and root of the mean variance over dimensions; UserError where the latents are all equal."""
    mean = latents.mean(0)
    scale = float(np.sqrt(np.mean(np.square(latents - mean))))
    # rounding of the mean leaves a trace of variance in latents that are equal
    if scale <= 1e-12 * float(np.abs(latents).max()):
        raise UserError(f"all {len(latents)} latents are equal: nothing to fit a density to")
    return mean, scale


def gaussian_log_prob(z: Array, mean: Array, scale_tril: Array) -> Float[Array, " n"]:
    """log N(z; mean, L L^T) = -|L^-1 (z - mean)|^2 / 2 - sum log L_jj - d log(2 pi) / 2."""
    white = jax.scipy.linalg.solve_triangular(scale_tril, (z - mean).T, lower=True)
    log_volume = jnp.log(jnp.diagonal(scale_tril)).sum()
    return -0.5 * jnp.square(white).sum(0) - log_volume - 0.5 * z.shape[1] * jnp.log(2 * jnp.pi)


def mean_log_likelihood(prior: Prior, latents: Float[ArrayLike, "n d"], labels: Labels = None) -> float:
    """Mean of log_prob over the latents, in nats a picture, computed in pieces; the labels are for one with classes."""
    latents = np.asarray(latents, np.float32)
    told = (latents,) if labels is None or not prior.classes else (latents, np.asarray(labels, np.int32))
    pieces = [prior.log_prob(*(array[i : i + CHUNK] for array in told)) for i in range(0, len(latents), CHUNK)]
    return float(np.mean(np.concatenate([np.asarray(piece, np.float64) for piece in pieces])))
