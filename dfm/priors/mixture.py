"""A mixture of Gaussians with full covariances: the future work of Asadi 2022, fitted by scikit-learn's EM."""

import dataclasses
import warnings
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from dfm.errors import UserError
from dfm.priors.prior import RIDGE, Labels, Prior, Progress, checked_latents, gaussian_log_prob, location_and_scale
from dfm.shapes import typechecked

COMPONENTS = 10
ROUNDS, ROUNDS_AT_ONCE = 100, 5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture(Prior):
    """sum_k weight_k N(means_k, L_k L_k^T) with L_k = scale_trils[k], lower triangular."""

    name: ClassVar[str] = "gmm"
    options: ClassVar[dict[str, Any]] = {"components": COMPONENTS, "seed": 0}
    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    scale_trils: Float[Array, "k d d"]

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    @classmethod
    def fit(
        cls,
        latents: Float[ArrayLike, "n d"],
        components: int = COMPONENTS,
        seed: int = 0,
        progress: Progress | None = None,
        **options: Any,
    ) -> Self:
        """EM from a k-means start, at most 100 rounds; only here is scikit-learn needed.

        The latents are centred and divided by their root mean variance first, so that the ridge means the same at
        every scale of the latents.
        """
        values = checked_latents(latents)
        if not 1 <= components <= len(values):
            raise UserError(f"{components} components for {len(values)} latents: take 1 to {len(values)}")
        mean, scale = location_and_scale(values)
        fitted = _expectation_maximisation((values - mean) / scale, components, seed, progress)
        scale_trils = scale * np.linalg.cholesky(fitted.covariances_)
        # log 0 would make a NaN of the gradient; a component without weight is never drawn at e^-80 either
        log_weights = np.log(np.maximum(fitted.weights_, np.exp(-80.0)))
        arrays = (log_weights, mean + scale * fitted.means_, scale_trils)
        return cls(*(jnp.asarray(array, jnp.float32) for array in arrays))

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, self.log_weights)
        noise = jax.random.normal(noise_key, (self.dimension,))
        return self.means[component] + temperature * jnp.matmul(self.scale_trils[component], noise, precision="highest")

    def moments(self) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
        """sum_k w_k m_k, and the mean of the components' covariances plus the covariance of their means."""
        weights = np.exp(np.asarray(self.log_weights, np.float64))
        means, scale_trils = np.asarray(self.means, np.float64), np.asarray(self.scale_trils, np.float64)
        mean = weights @ means
        within = sum(weight * scale @ scale.T for weight, scale in zip(weights, scale_trils, strict=True))
        centred = means - mean
        return mean, within + (weights[:, None] * centred).T @ centred

    @jax.jit
    @typechecked
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        by_component = jax.vmap(gaussian_log_prob, (None, 0, 0))(jnp.asarray(z), self.means, self.scale_trils)
        return jax.scipy.special.logsumexp(self.log_weights[:, None] + by_component, axis=0)


def _expectation_maximisation(
    standard: Float[np.ndarray, "n d"], components: int, seed: int, progress: Progress | None
) -> Any:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise UserError("the prior gmm needs the package scikit-learn: pip install scikit-learn") from None
    # a warm start goes on where the last fit has ended, so that rounds in pieces are the rounds of one fit
    mixture = GaussianMixture(
        components, covariance_type="full", reg_covar=RIDGE, random_state=seed, max_iter=ROUNDS_AT_ONCE, warm_start=True
    )
    with warnings.catch_warnings():
        # after 100 rounds the likelihood moves in its third digit; equal latents make fewer clusters than asked for
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            for done in range(ROUNDS_AT_ONCE, ROUNDS + 1, ROUNDS_AT_ONCE):
                mixture.fit(standard)
                if progress is not None:
                    progress(done, ROUNDS)
                if mixture.converged_:
                    break
            return mixture
        except ValueError as error:
            raise UserError(f"no mixture of {components} components fits: {error}; take fewer components") from None
