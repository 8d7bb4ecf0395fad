"""The two-stage VAE (Dai and Wipf 2019): a second VAE, of the latents of the first model."""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from dfm.errors import UserError
from dfm.priors.by_class import ByClass, class_log_weights
from dfm.priors.networks import Params, mlp, mlp_init, train
from dfm.priors.prior import Labels, Prior, Progress, checked_latents, location_and_scale

HIDDEN_LAYERS = 3  # on either side
DRAWS = 64  # of the bound that `log_prob` is
LOG_SIGMA_RANGE = (-4.0, 2.0)  # of latents of unit scale: the density may not grow without end around each latent
PARTS = ("encoder", "decoder")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoStage(Prior):
    """z = mean + scale (f(u) + sigma e), u ~ N(0, I) of the latents' own length, e ~ N(0, I), sigma learned.

    f and the encoder are dense nets of three hidden layers. Fitted to encodings (modes), where Dai and Wipf draw from
    the first posterior: a model with a learned sigma, for which the second stage is meant, has posteriors that are
    narrow where they are used.

    Attributes:
        mean, scale: the latents' mean, and the root of their mean variance.
        encoder, decoder: arrays of the nets. log_sigma: see above.
        encoder_label_bias, decoder_label_bias: what the label adds to the first hidden layers.
    """

    name: ClassVar[str] = "two_stage"
    options: ClassVar[dict[str, Any]] = {
        "width": 512,
        "steps": 4000,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "seed": 0,
    }
    is_bound: ClassVar[bool] = True
    mean: Float[Array, " d"]
    scale: Float[Array, ""]
    log_sigma: Float[Array, ""]
    encoder: Params
    decoder: Params
    encoder_label_bias: Float[Array, " width"]
    decoder_label_bias: Float[Array, " width"]

    @property
    def dimension(self) -> int:
        return self.mean.shape[0]

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], progress: Progress | None = None, **options: Any) -> Self:
        """By the ELBO of nine tenths of the latents, see `networks.train`."""
        values = checked_latents(latents)
        prior, bias = cls._fit(values, np.zeros(len(values), np.int32), 1, progress, **options)
        return dataclasses.replace(prior, **{name: values[0] for name, values in bias.items()})

    @classmethod
    def fit_classes(
        cls,
        latents: Float[ArrayLike, "n d"],
        labels: Int[np.ndarray, " n"],
        classes: int,
        progress: Progress | None = None,
        **options: Any,
    ) -> ByClass:
        """p(z|y): one VAE whose nets are told the label."""
        prior, bias = cls._fit(checked_latents(latents), labels, classes, progress, **options)
        return ByClass(class_log_weights(labels, classes), prior, bias)

    @classmethod
    def _fit(
        cls,
        values: Float[np.ndarray, "n d"],
        labels: Int[np.ndarray, " n"],
        classes: int,
        progress: Progress | None,
        width: int = 512,
        seed: int = 0,
        **options: Any,
    ) -> tuple[Self, Params]:
        if width < 1:
            raise UserError("the nets of a two-stage prior need a width of at least 1")
        mean, scale = location_and_scale(values)
        d, hidden = values.shape[1], (width,) * HIDDEN_LAYERS
        keys = jax.random.split(jax.random.key(seed), 4)
        params: Params = {
            "encoder": mlp_init(keys[0], (d, *hidden, 2 * d)),
            "decoder": mlp_init(keys[1], (d, *hidden, d)),
            "log_sigma": jnp.zeros(()),
        }
        for part, key in zip(PARTS, keys[2:], strict=True):
            params[f"{part}_label_bias"] = (0.01 if classes > 1 else 0.0) * jax.random.normal(key, (classes, width))
        location: Params = {"mean": jnp.asarray(mean, jnp.float32), "scale": jnp.float32(scale)}

        def loss(params: Params, x: Array, labels: Array, key: Array) -> Array:
            def of_one(x: Array, label: Array, key: Array) -> Array:
                bias = {f"{part}_label_bias": params[f"{part}_label_bias"][label] for part in PARTS}
                return -cls(**{**location, **params, **bias}).elbo(x, key) / d

            return jax.vmap(of_one)(x, labels, jax.random.split(key, len(x)))

        settings = {name: value for name, value in cls.options.items() if name not in ("width", "seed")}
        settings |= {name: value for name, value in options.items() if name in settings}
        params = train(loss, params, (values - mean) / scale, labels, seed=seed, progress=progress, **settings)
        bias = {f"{part}_label_bias": params[f"{part}_label_bias"] for part in PARTS}
        return cls(**{**location, **params, **{name: values[0] for name, values in bias.items()}}), bias

    @property
    def _log_sigma(self) -> Array:
        return jnp.clip(self.log_sigma, *LOG_SIGMA_RANGE)

    def _posterior(self, x: Float[Array, " d"]) -> tuple[Array, Array]:
        """(mean, log standard deviation) of q(u|x)."""
        mean, log_std = jnp.split(mlp(self.encoder, x, self.encoder_label_bias), 2)
        return mean, jnp.clip(log_std, -10.0, 5.0)

    def _log_likelihood(self, x: Array, u: Array) -> Array:
        error = (x - mlp(self.decoder, u, self.decoder_label_bias)) * jnp.exp(-self._log_sigma)
        return -0.5 * jnp.square(error).sum() - self.dimension * (self._log_sigma + 0.5 * jnp.log(2 * jnp.pi))

    def elbo(self, x: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, ""]:
        """Of a latent of unit scale, with one draw for the distortion and the KL in closed form; in nats."""
        mean, log_std = self._posterior(x)
        u = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        kl = 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1.0 - 2 * log_std).sum()
        return self._log_likelihood(x, u) - kl

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        """The temperature is that of u and of e."""
        u, noise = temperature * jax.random.normal(key, (2, self.dimension))
        painted = mlp(self.decoder, u, self.decoder_label_bias) + jnp.exp(self._log_sigma) * noise
        return self.mean + self.scale * painted

    @jax.jit
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        """A lower bound: log 1/k sum_i p(z|u_i) p(u_i) / q(u_i|z) of 64 fixed draws (Burda et al. 2016)."""
        x = (jnp.asarray(z) - self.mean) / self.scale
        draws = jax.random.normal(jax.random.key(0), (DRAWS, self.dimension))

        def log_weight(noise: Array) -> Array:
            def of_one(x: Array) -> Array:
                mean, log_std = self._posterior(x)
                u = mean + jnp.exp(log_std) * noise
                log_ratio = (0.5 * jnp.square(noise) + log_std - 0.5 * jnp.square(u)).sum()
                return self._log_likelihood(x, u) + log_ratio

            return jax.vmap(of_one)(x)

        weights = jax.lax.map(log_weight, draws)
        bound = jax.scipy.special.logsumexp(weights, axis=0) - jnp.log(float(DRAWS))
        return bound - self.dimension * jnp.log(self.scale)

    def arrays(self) -> dict[str, np.ndarray]:
        nets = {f"{part}/{name}": array for part in PARTS for name, array in getattr(self, part).items()}
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in PARTS}
        return {name: np.asarray(array) for name, array in {**own, **nets}.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        found: Params = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
        nets: Params = {}
        for part in PARTS:
            wanted = [f"{part}/{kind}_{layer}" for layer in range(HIDDEN_LAYERS + 1) for kind in ("kernel", "bias")]
            nets[part] = {name.partition("/")[2]: found.pop(name) for name in wanted}
        return cls(**found, **nets)
