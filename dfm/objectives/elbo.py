"""Evidence lower bounds: -log p(x|z) + beta KL(q(z|x) || p(z)), of a VAE with any decoder likelihood."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dfm.arrays import to_float
from dfm.data import Dataset
from dfm.errors import UserError
from dfm.models.autoencoder import PSEUDO_INPUTS, pseudo_inputs
from dfm.objectives.likelihoods import LIKELIHOODS, SMALLEST_LOG_SIGMA, optimal_log_sigma
from dfm.objectives.per_example import Losses, PerExampleWithStatistics, Rows
from dfm.objectives.protocol import Batch, Group, Metrics, Params, Statistics

LIKELIHOOD = "likelihood"  # the group of parameters of p(x|z) that the decoder's network does not hold
STEP = "step"  # statistic: steps done, for the warm-up
SIGMAS = ("fixed", "learned", "optimal")


@dataclass(frozen=True)
class Elbo(PerExampleWithStatistics):
    """-ELBO / D, D = height x width x channels, so that rates suit any size (Kingma and Welling 2014, Eq. 3).

    Attributes:
        model: a Gaussian bottleneck, or anything whose `encode` has a `kl`.
        likelihood: "gaussian" (squared error), "laplace" (absolute error), "bernoulli" (cross entropy of logits) or
            "discretised_gaussian" (the mass on each of 256 levels: what bits/dim of 8-bit pictures means).
        sigma: of p(x|z): "fixed" at `sigma_value`; one "learned" number; or "optimal", the batch's root mean squared
            error itself (Rybkin et al. 2021), without a parameter. The lecture's C is 1 / (2 sigma_value^2).
        beta: weight of the KL (Higgins et al. 2017). A regulariser beta sum(mu^2 + sigma^2 - log sigma^2 - 1) lacks the
            KL's 1/2: its beta is half of this one.
        warmup_steps: the KL's weight rises linearly from 0 over so many steps; 0: none.
    """

    model: Any
    likelihood: Literal["gaussian", "laplace", "bernoulli", "discretised_gaussian"] = "gaussian"
    sigma: Literal["fixed", "learned", "optimal"] = "fixed"
    sigma_value: float = 1.0
    beta: float = 1.0
    warmup_steps: int = 0

    def __post_init__(self):
        for name, known in (("likelihood", LIKELIHOODS), ("sigma", SIGMAS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(known)}")
        if self.sigma_value <= 0 or self.beta < 0 or self.warmup_steps < 0:
            raise ValueError("sigma_value must be above 0, beta and warmup_steps at least 0")
        if self.likelihood == "bernoulli" and (self.model.output != "sigmoid" or self.sigma != "fixed"):
            raise ValueError("the Bernoulli likelihood takes logits (model.output 'sigmoid') and has no sigma to learn")
        if self.sigma == "optimal" and self.likelihood != "gaussian":
            raise ValueError("sigma 'optimal' is the Gaussian's")
        if not self.model.has_likelihood:
            raise ValueError("an ELBO needs a model with a posterior that has a density: bottleneck 'gaussian'")

    @property
    def groups(self) -> Mapping[str, Group]:
        return {LIKELIHOOD: Group()}

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)

    def init(self, key: Array) -> Params:
        params = dict(first_variables(self.model, key)["params"])
        if self.sigma == "learned":
            params[LIKELIHOOD] = {"log_sigma": jnp.log(jnp.float32(self.sigma_value))}
        return params

    def init_statistics(self, key: Array) -> Statistics | None:
        return {STEP: jnp.zeros((), jnp.int32)} if self.warmup_steps else None

    def start_from_pictures(self, params: Params, latents: Rows, dataset: Dataset, seed: int) -> tuple[Params, Rows]:
        """Pseudo-inputs of a VampPrior begin as training pictures, drawn at random."""
        if PSEUDO_INPUTS not in params:
            return params, latents
        like = params[PSEUDO_INPUTS]
        if dataset.shape != like.shape[1:]:
            raise UserError("config: a VampPrior begins with whole pictures: no dataset.crop")
        rows = np.random.default_rng(seed).choice(len(dataset), len(like), replace=len(dataset) < len(like))
        return {**params, PSEUDO_INPUTS: pseudo_inputs(to_float(dataset.take(rows)))}, latents

    def losses(
        self, params: Params, statistics: Statistics | None, rows: Rows, batch: Batch, key: Array
    ) -> tuple[Losses, Metrics, Statistics | None]:
        distortion, rate, error = self.terms(params, batch["image"], labels_of(self.model, batch), key)
        weight: Any = self.beta
        if statistics is not None:
            weight = self.beta * jnp.minimum(1.0, statistics[STEP] / self.warmup_steps)
            statistics = {STEP: statistics[STEP] + 1}
        dimensions = self.model.height * self.model.width * self.model.channels
        metrics = {"elbo_nats": -(distortion + rate), "distortion_nats": distortion, "rate_nats": rate, "mse": error}
        return (distortion + weight * rate) / dimensions, metrics, statistics

    def terms(self, params: Params, images: Array, labels: Array | None, key: Array) -> tuple[Losses, Losses, Losses]:
        """(-log p(x|z) of one draw z ~ q, KL(q || p), mean squared error) of each example; the first two in nats.

        The KL is closed where it can be; against a VampPrior it is estimated by the same draw.
        """
        posterior = self.model.apply({"params": params}, images, labels, method="encode")
        z = posterior.sample(key)
        distortion, error = self.distortion(params, z, images, labels)
        return distortion, posterior.rate(z), error

    def distortion(self, params: Params, z: Any, images: Array, labels: Array | None) -> tuple[Losses, Losses]:
        """(-log p(x|z) in nats, mean squared error) of each example."""
        outputs = self.model.apply({"params": params}, z, labels, method="outputs")
        outputs = outputs[:, : images.shape[1], : images.shape[2]].astype(jnp.float32)
        painted = self.model.bounded(outputs)
        predicted = outputs if self.likelihood == "bernoulli" else painted
        nats = LIKELIHOODS[self.likelihood](predicted, images, self.log_sigma(params, painted, images))
        return nats, jnp.square(painted - images).mean((1, 2, 3))

    def log_sigma(self, params: Params, painted: Array, images: Array) -> Array:
        """log sigma of p(x|z), float32."""
        if self.sigma == "learned":
            return jnp.maximum(params[LIKELIHOOD]["log_sigma"].astype(jnp.float32), SMALLEST_LOG_SIGMA)
        return optimal_log_sigma(painted, images) if self.sigma == "optimal" else jnp.log(jnp.float32(self.sigma_value))


def first_variables(model: Any, key: Array) -> Any:
    """All collections of a member of the family, from one call on an empty picture."""
    return model.init(key, jnp.zeros((1, model.height, model.width, model.channels)))


def labels_of(model: Any, batch: Batch) -> Array | None:
    return batch["label"] if model.classes else None


def check_size(model: Any, shape: tuple[int, int, int]) -> None:
    """UserError where the pictures are not of the model's size."""
    wanted = (model.height, model.width, model.channels)
    if shape != wanted:
        raise UserError(f"config: the model is for {wanted} (height, width, channels), the pictures are {shape}")


def iwae_nats(objective: Elbo, params: Params, images: Array, labels: Array | None, key: Array, draws: int) -> Losses:
    """-log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), z_i ~ q: a tighter bound with every k (Burda et al. 2016, Eq. 8).

    k = 1 is the ELBO with the KL by the same draw. Draws go one after another: memory is that of one.
    """
    posterior = objective.model.apply({"params": params}, images, labels, method="encode")

    def log_weight(key: Array) -> Array:
        z = posterior.sample(key)
        return posterior.log_ratio(z) - objective.distortion(params, z, images, labels)[0]

    weights = jax.lax.map(log_weight, jax.random.split(key, draws))
    return jnp.log(float(draws)) - jax.scipy.special.logsumexp(weights, axis=0)
