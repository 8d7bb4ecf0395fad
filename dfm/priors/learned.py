"""Priors that are learned and not fitted: with their VAE (VampPrior), or as a model of their own (over codes)."""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, UInt32

from dfm.errors import UserError
from dfm.models.code_transformer import CodeTransformer
from dfm.models.distributions import mixture_log_prob
from dfm.priors import CODES, VAMP
from dfm.priors.prior import Labels, Prior, draw_class, keys_at
from dfm.shapes import typechecked


class LearnedPrior(Prior):
    """One that `fit` cannot make."""

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], **options: Any) -> Self:
        raise TypeError(f"the prior {cls.name} is learned, not fitted")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Vamp(LearnedPrior):
    """1/K sum_k N(means_k, diag exp(logvars_k)): posteriors of a VAE's K pseudo-inputs (Tomczak and Welling 2018)."""

    name: ClassVar[str] = VAMP
    means: Float[Array, "k d"]
    logvars: Float[Array, "k d"]

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        component_key, noise_key = jax.random.split(key)
        component = jax.random.randint(component_key, (), 0, len(self.means))
        noise = jax.random.normal(noise_key, (self.dimension,))
        return self.means[component] + temperature * jnp.exp(0.5 * self.logvars[component]) * noise

    def moments(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
        """By the laws of total mean and covariance."""
        means, variances = np.asarray(self.means, np.float64), np.exp(np.asarray(self.logvars, np.float64))
        centred = means - means.mean(0)
        return means.mean(0), np.diag(variances.mean(0)) + centred.T @ centred / len(means)

    @jax.jit
    @typechecked
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        return mixture_log_prob(jnp.asarray(z), self.means, self.logvars)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OverCodes(LearnedPrior):
    """Latents of a VQ-VAE whose codes a transformer draws: the vectors of the book, position by position.

    Attributes:
        transformer, variables: of the run that learned it. book: of the VQ-VAE.
        class_log_weights: log p(y) where the transformer is told the class; otherwise of length 0.
    """

    name: ClassVar[str] = CODES.rstrip(":")
    transformer: CodeTransformer = dataclasses.field(metadata={"static": True})
    variables: Any
    book: Float[Array, "codes size"]
    class_log_weights: Float[Array, " classes"]

    @property
    def dimension(self) -> int:
        return self.transformer.positions * self.book.shape[1]

    @property
    def classes(self) -> int:
        return self.transformer.classes

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        return self._of_keys(key[None], temperature, None)[0]

    @jax.jit
    def sample_at(
        self,
        key: PRNGKeyArray,
        indices: UInt32[ArrayLike, " n"],
        temperature: float | Array = 1.0,
        labels: Labels = None,
    ) -> Float[Array, "n d"]:
        """As for every prior, the whole batch at once: position after position.

        Raises:
            UserError: labels, of a transformer that is told none.
        """
        return self._of_keys(keys_at(key, indices), temperature, labels)

    def _of_keys(self, keys: Array, temperature: ArrayLike, labels: Labels) -> Float[Array, "n d"]:
        if labels is not None and not self.classes:
            raise UserError("this prior over codes was trained without classes: it has none to choose from")
        if labels is None and self.classes:
            labels = jax.vmap(lambda own: draw_class(own, self.class_log_weights))(keys)
        noise = jax.vmap(lambda own: jax.random.normal(own, (self.transformer.positions,)))(keys)
        codes: Any = self.transformer.apply(
            self.variables, noise, labels, jnp.asarray(temperature, jnp.float32), method="draw"
        )
        return self.book[codes].reshape(len(noise), -1)

    @jax.jit
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        """Of the nearest codes: the logarithm of a probability, and of no density. p(k|y), or p(k) without labels."""
        vectors = jnp.asarray(z).reshape(-1, self.transformer.positions, self.book.shape[1])
        distances = jnp.square(self.book).sum(-1) - 2.0 * jnp.matmul(vectors, self.book.T, precision="highest")
        codes = jnp.argmin(distances, -1).astype(jnp.int32)

        def of(labels: Any) -> Array:
            each: Any = self.transformer.apply(self.variables, codes, labels, method="log_prob")
            return each.sum(1)

        if not self.classes or labels is not None:
            return of(None if not self.classes else jnp.asarray(labels))
        by_class = jax.lax.map(lambda label: of(jnp.full(len(codes), label)), jnp.arange(self.classes))
        return jax.scipy.special.logsumexp(self.class_log_weights[:, None] + by_class, axis=0)
