"""A small normalising flow: affine couplings (Dinh et al. 2017) on whitened latents."""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from dfm.errors import UserError
from dfm.priors.by_class import ByClass, class_log_weights
from dfm.priors.gaussian import Gaussian
from dfm.priors.networks import Params, mlp, mlp_init, train
from dfm.priors.prior import Labels, Prior, Progress, checked_latents

LOG_SCALE_LIMIT = 2.0  # of one coupling: no scale beyond e^2, whatever is asked of the net
LAYERS = 3  # of the net of a coupling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flow(Prior):
    """z = mean + L g(u), u ~ N(0, I): couplings g after the Gaussian that is fitted to the latents, where it begins.

    Coupling c holds every second number x_A, those of the parity of c, and moves the others by what a net makes of
    them: x_B -> x_B exp(s(x_A)) + t(x_A). Its inverse is as exact, and its log-determinant is sum s. The nets have two
    hidden layers and begin at s = t = 0.

    Attributes:
        mean, scale_tril: of the Gaussian N(mean, L L^T).
        nets: their arrays, each with a leading axis of couplings.
        label_bias: what the label adds to the first hidden layer of each net.
    """

    name: ClassVar[str] = "flow"
    options: ClassVar[dict[str, Any]] = {
        "couplings": 8,
        "width": 256,
        "steps": 4000,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "seed": 0,
    }
    mean: Float[Array, " d"]
    scale_tril: Float[Array, "d d"]
    nets: Params
    label_bias: Float[Array, "couplings width"]

    @property
    def dimension(self) -> int:
        return self.mean.shape[0]

    @classmethod
    def fit(cls, latents: Float[ArrayLike, "n d"], progress: Progress | None = None, **options: Any) -> Self:
        """By maximum likelihood of nine tenths of the latents, see `networks.train`."""
        values = checked_latents(latents)
        flow, bias = cls._fit(values, np.zeros(len(values), np.int32), 1, progress, **options)
        return dataclasses.replace(flow, label_bias=bias[0])

    @classmethod
    def fit_classes(
        cls,
        latents: Float[ArrayLike, "n d"],
        labels: Int[np.ndarray, " n"],
        classes: int,
        progress: Progress | None = None,
        **options: Any,
    ) -> ByClass:
        """p(z|y): one flow whose nets are told the label."""
        flow, bias = cls._fit(checked_latents(latents), labels, classes, progress, **options)
        return ByClass(class_log_weights(labels, classes), flow, {"label_bias": bias})

    @classmethod
    def _fit(
        cls,
        values: Float[np.ndarray, "n d"],
        labels: Int[np.ndarray, " n"],
        classes: int,
        progress: Progress | None,
        couplings: int = 8,
        width: int = 256,
        seed: int = 0,
        **options: Any,
    ) -> tuple[Self, Float[Array, "classes couplings width"]]:
        if couplings < 1 or width < 1:
            raise UserError("a flow needs at least one coupling and a width of at least 1")
        start = Gaussian.fit(values)
        d = values.shape[1]
        keys = jax.random.split(jax.random.key(seed), couplings)
        nets = jax.vmap(lambda key: mlp_init(key, (d, *(width,) * (LAYERS - 1), 2 * d)))(keys)
        flow = cls(start.mean, start.scale_tril, nets, jnp.zeros((couplings, width)))
        white = np.linalg.solve(np.asarray(start.scale_tril, np.float64), (values - np.asarray(start.mean)).T).T

        def loss(params: Params, u: Array, labels: Array, key: Array) -> Array:
            def of_one(u: Array, label: Array) -> Array:
                own = dataclasses.replace(flow, nets=params["nets"], label_bias=params["label_bias"][label])
                noise, log_determinant = own.to_noise(u)
                return (0.5 * jnp.square(noise).sum() - log_determinant) / d

            return jax.vmap(of_one)(u, labels)

        # the label's say begins small and not at zero: nets that end in zeros would never hear it otherwise
        bias = 0.01 * jax.random.normal(jax.random.key(seed), (classes, couplings, width))
        settings = {name: value for name, value in cls.options.items() if name not in ("couplings", "width", "seed")}
        settings |= {name: value for name, value in options.items() if name in settings}
        params: Params = {"nets": nets, "label_bias": bias if classes > 1 else 0 * bias}
        params = train(loss, params, white, labels, seed=seed, progress=progress, **settings)
        return dataclasses.replace(flow, nets=params["nets"]), params["label_bias"]

    def to_noise(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Of whitened latents: (u, log |du/dx|)."""

        def coupling(carry: tuple[Array, Array], own: tuple[Params, Array, Array]) -> tuple[tuple[Array, Array], None]:
            x, log_determinant = carry
            log_scale, shift = self._scale_and_shift(x, *own)
            return (x * jnp.exp(log_scale) + shift, log_determinant + log_scale.sum()), None

        return jax.lax.scan(coupling, (x, jnp.zeros(())), (self.nets, self.label_bias, self._held()))[0]

    def from_noise(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """The inverse of `to_noise`: the couplings backwards."""

        def coupling(x: Array, own: tuple[Params, Array, Array]) -> tuple[Array, None]:
            log_scale, shift = self._scale_and_shift(x, *own)
            return (x - shift) * jnp.exp(-log_scale), None

        return jax.lax.scan(coupling, u, (self.nets, self.label_bias, self._held()), reverse=True)[0]

    def sample_one(self, key: PRNGKeyArray, temperature: Float[ArrayLike, ""] = 1.0) -> Float[Array, " d"]:
        """The temperature is that of u."""
        x = self.from_noise(jnp.asarray(temperature) * jax.random.normal(key, (self.dimension,)))
        return self.mean + jnp.matmul(self.scale_tril, x, precision="highest")

    @jax.jit
    def log_prob(self, z: Float[ArrayLike, "n d"], labels: Labels = None) -> Float[Array, " n"]:
        white = jax.scipy.linalg.solve_triangular(self.scale_tril, (jnp.asarray(z) - self.mean).T, lower=True).T
        noise, log_determinant = jax.vmap(self.to_noise)(white)
        log_volume = jnp.log(jnp.diagonal(self.scale_tril)).sum() + 0.5 * self.dimension * jnp.log(2 * jnp.pi)
        return -0.5 * jnp.square(noise).sum(1) + log_determinant - log_volume

    def _held(self) -> Float[Array, "couplings d"]:
        """1 where a coupling holds a number, 0 where it moves it: of alternate parity."""
        couplings, d = len(self.label_bias), self.dimension
        return ((jnp.arange(d)[None] + jnp.arange(couplings)[:, None]) % 2).astype(jnp.float32)

    @staticmethod
    def _scale_and_shift(x: Array, net: Params, bias: Array, held: Array) -> tuple[Array, Array]:
        """(s, t) of one coupling, zero where it holds."""
        log_scale, shift = jnp.split(mlp(net, held * x, bias), 2)
        bounded = LOG_SCALE_LIMIT * jnp.tanh(log_scale / LOG_SCALE_LIMIT)
        return (1.0 - held) * bounded, (1.0 - held) * shift

    def arrays(self) -> dict[str, np.ndarray]:
        own = {"mean": self.mean, "scale_tril": self.scale_tril, "label_bias": self.label_bias}
        return {name: np.asarray(array) for name, array in {**own, **self.nets}.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        found = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
        own = {name: found.pop(name) for name in ("mean", "scale_tril", "label_bias") if name in found}
        if set(found) != {f"{kind}_{layer}" for kind in ("kernel", "bias") for layer in range(LAYERS)}:
            raise TypeError("not the arrays of a flow")
        return cls(**own, nets=found)
