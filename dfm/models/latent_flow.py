"""A flow from noise to the latents of another model: a transformer that says with which velocity a point moves.

Flow matching (Lipman et al. 2023; Liu et al. 2023): x_t = (1 - t) noise + t latents, and v(x_t, t) is trained to be
latents - noise (dfm/objectives/flow_matching.py). Sampling follows dx/dt = v(x, t) from t = 0 to 1 in a few steps. The
transformer is that of Peebles and Xie 2023 (DiT, adaLN-zero), a token a place of the grid. Satisfies
dfm/models/protocol.py with noise for latents, and latents, normalised, for pictures.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.errors import UserError
from dfm.models.latent_scaling import patch, unpatch
from dfm.registry import check_value
from dfm.shapes import typechecked

SAMPLERS = ("euler", "heun")
LARGEST_PERIOD = 10_000.0  # of the sines that tell the time
TIME_FEATURES = 128
Labels = Int[Array, " batch"] | None


class LatentFlow(nn.Module):
    """See above; parameter group "flow".

    Attributes:
        latent_grid: (rows, columns, channels) of the latents; (): those of the data that it is built for.
        patch_size: side of the square of places that are one token.
        features, depth, heads: of the transformer.
        classes: labels that it is conditioned on; 0: none. Beside them it knows "no label", by which `guidance` works.
        sampler, sampling_steps: "euler", one velocity a step, or "heun", two.
        guidance: w in v(x) + w (v(x | label) - v(x)) (Ho and Salimans 2022); 1: none.
    """

    latent_grid: Sequence[int] = ()
    patch_size: int = 1
    features: int = 256
    depth: int = 6
    heads: int = 4
    classes: int = 0
    sampler: str = "heun"
    sampling_steps: int = 20
    guidance: float = 1.0

    def __post_init__(self):
        check_value("sampler", self.sampler, SAMPLERS)
        for name in ("patch_size", "features", "depth", "heads", "sampling_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.features % self.heads:
            raise ValueError(f"features {self.features} do not divide into {self.heads} heads")
        if self.guidance != 1 and not self.classes:
            raise ValueError("guidance needs classes")
        if self.latent_grid and (self.height % self.patch_size or self.width % self.patch_size):
            raise ValueError(f"patch_size {self.patch_size} does not divide the grid {tuple(self.latent_grid)}")
        super().__post_init__()

    def setup(self):
        self.flow = Transformer(self.features, self.depth, self.heads, self.classes, self.patch_size)

    @property
    def height(self) -> int:
        return self.latent_grid[0]

    @property
    def width(self) -> int:
        return self.latent_grid[1]

    @property
    def channels(self) -> int:
        return self.latent_grid[2]

    @property
    def stride(self) -> int:
        return 1

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return tuple(self.latent_grid)

    @property
    def encodes(self) -> bool:
        return False

    @property
    def has_likelihood(self) -> bool:
        return False

    def __call__(self, images: Array, labels: Labels = None) -> Array:
        """All parameters in one call, for `init`."""
        return self.velocity(images, jnp.zeros(len(images)), labels)

    @typechecked
    def velocity(
        self, x: Float[Array, "batch rows columns channels"], times: Float[Array, " batch"], labels: Labels = None
    ) -> Float[Array, "batch rows columns channels"]:
        """v(x, t | label); a label of `classes`, or None for all: without a label."""
        if self.classes and labels is None:
            labels = jnp.full(len(x), self.classes)
        return self.flow(x, times, labels if self.classes else None)

    def encode(self, images: Array, labels: Labels = None):
        raise UserError("a flow of latents has no encoder")

    def decode(
        self,
        z: Float[Array, "batch rows columns channels"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch rows columns channels"]:
        """Normalised latents of noise, N(0, I)."""
        if (height or self.height, width or self.width) != (self.height, self.width):
            raise UserError(f"this flow makes latents of {self.height}x{self.width}, not {height}x{width}")
        model, variables = self.unbind()  # a loop of jax is no place for a bound module

        def velocity(x: Array, t: Array) -> Array:
            def at(labels: Labels) -> Any:
                return model.apply(variables, x, jnp.full(len(x), t), labels, method="velocity")

            if self.guidance == 1 or labels is None:
                return at(labels)
            free = at(None)
            return free + self.guidance * (at(labels) - free)

        return integrate(velocity, z, self.sampling_steps, self.sampler)


def integrate(velocity: Callable[[Array, Array], Array], x: Array, steps: int, sampler: str) -> Array:
    """x(1) of dx/dt = velocity(x, t) from x(0), in equal steps by Euler's or Heun's rule."""
    size = 1.0 / steps

    def step(x: Array, number: Array) -> tuple[Array, None]:
        t = number * size
        first = velocity(x, t)
        moved = x + size * first
        if sampler == "euler":
            return moved, None
        return x + 0.5 * size * (first + velocity(moved, t + size)), None

    return jax.lax.scan(step, x, jnp.arange(steps, dtype=jnp.float32))[0]


class Transformer(nn.Module):
    """Tokens of a grid, their places learned; time and label modulate each block."""

    features: int
    depth: int
    heads: int
    classes: int
    patch_size: int

    @nn.compact
    def __call__(self, x: Array, times: Array, labels: Array | None) -> Array:
        patches = patch(x, (self.patch_size, self.patch_size))
        batch, rows, columns, size = patches.shape
        tokens = nn.Dense(self.features, name="embedding")(patches.reshape(batch, rows * columns, size))
        tokens += self.param("places", nn.initializers.normal(0.02), (rows * columns, self.features))
        condition = nn.Dense(self.features)(nn.silu(nn.Dense(self.features)(_waves(times))))
        if labels is not None:
            condition += nn.Embed(self.classes + 1, self.features, embedding_init=nn.initializers.normal(0.02))(labels)
        condition = nn.silu(condition)
        for _ in range(self.depth):
            tokens = Block(self.features, self.heads)(tokens, condition)
        shift, scale = _modulation(2, self.features)(condition)
        out = nn.Dense(size, kernel_init=nn.initializers.zeros, name="velocity")(_modulated(tokens, shift, scale))
        return jnp.asarray(unpatch(out.reshape(batch, rows, columns, size), (self.patch_size, self.patch_size)))


class Block(nn.Module):
    """Attention and a dense net over residuals, both modulated; at the start the identity (adaLN-zero)."""

    features: int
    heads: int

    @nn.compact
    def __call__(self, tokens: Array, condition: Array) -> Array:
        shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(6, self.features)(condition)
        x = _modulated(tokens, shift1, scale1)
        shape = (*x.shape[:2], self.heads, self.features // self.heads)
        queries, keys, values = (part.reshape(shape) for part in jnp.split(nn.Dense(3 * self.features)(x), 3, -1))
        attended = jax.nn.dot_product_attention(queries, keys, values).reshape(x.shape)
        tokens += gate1 * nn.Dense(self.features)(attended)
        x = nn.Dense(4 * self.features)(_modulated(tokens, shift2, scale2))
        return tokens + gate2 * nn.Dense(self.features)(nn.gelu(x))


def _modulated(tokens: Array, shift: Array, scale: Array) -> Array:
    norm = nn.LayerNorm(use_bias=False, use_scale=False, use_fast_variance=False)
    return norm(tokens) * (1.0 + scale) + shift


def _modulation(count: int, features: int):
    """condition [batch, features] -> `count` arrays [batch, 1, features], zeros at the start."""
    dense = nn.Dense(count * features, kernel_init=nn.initializers.zeros)
    return lambda condition: jnp.split(dense(condition)[:, None], count, -1)


def _waves(times: Float[Array, " batch"]) -> Float[Array, "batch features"]:
    """Sines and cosines of 1,000 t, from one radian down to a period of 2 pi LARGEST_PERIOD (Vaswani et al. 2017)."""
    rates = LARGEST_PERIOD ** -jnp.linspace(0.0, 1.0, TIME_FEATURES // 2)
    angles = 1_000.0 * times[:, None] * rates
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
