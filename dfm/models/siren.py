"""SIREN: a multilayer perceptron with sine activations (Sitzmann et al. 2020), the net of the COIN codec."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.shapes import typechecked

COORDINATES = 2


def uniform_within(bound: float):
    """Initialiser drawing from U(-bound, bound)."""

    def initialise(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class Siren(nn.Module):
    """Sine network, h_0 = x, h_i = sin(w0 (W_i h_{i-1} + b_i)) for i = 1 ... depth, y = W h_depth + b.

    Weights start as U(-1/n, 1/n) in the first layer and U(-sqrt(6/n)/w0, sqrt(6/n)/w0) in all others, n the fan-in
    (Sitzmann et al. 2020, section 3.2 and supplement 1.5): the arguments of the sines then have unit variance at any
    depth. Biases start with the bound of their layer's weights, as in COIN's code.

    Attributes:
        width: units of every hidden layer.
        depth: number of sine layers ("layers" in COIN); one linear layer follows.
        channels: outputs, one a colour channel, unbounded; [0, 1] spans black to white.
        w0: the frequency factor inside every sine, 30 in both papers.
    """

    width: int
    depth: int
    channels: int = 3
    w0: float = 30.0

    @nn.compact
    @typechecked
    def __call__(self, x: Float[Array, "*batch coordinate"]) -> Float[Array, "*batch channel"]:
        for index in range(self.depth):
            fan_in = x.shape[-1]
            bound = 1 / fan_in if index == 0 else math.sqrt(6 / fan_in) / self.w0
            x = jnp.sin(self.w0 * self._linear(self.width, bound, f"layer_{index}")(x))
        return self._linear(self.channels, math.sqrt(6 / x.shape[-1]) / self.w0, "last_layer")(x)

    def _linear(self, features: int, bound: float, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=uniform_within(bound), bias_init=uniform_within(bound), name=name)


def parameter_count(width: int, depth: int, channels: int = 3) -> int:
    """Weights and biases of `Siren(width, depth, channels)` on two coordinates."""
    return (COORDINATES + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * channels
