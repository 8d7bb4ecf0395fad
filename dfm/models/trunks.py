"""Encoders and decoders that all members of the autoencoder family share: dense, and convolutional at f = 4.

Between them lies a latent of any shape: a vector (size,), or a grid (rows, columns, channels), which a convolutional
trunk keeps in place. An optional condition, a vector an example, joins what the layers see.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.models.activations import ACTIVATIONS
from dfm.models.layers import upsample_nearest
from dfm.shapes import typechecked

STRIDE = 4  # of the convolutional trunk
LARGEST_GROUPS = 8  # of a group norm
Condition = Float[Array, "batch features"] | None
Images = Float[Array, "batch height width channels"]


class DenseEncoder(nn.Module):
    """Picture -> widths -> `outputs` numbers. Without widths it is one linear map: the encoder of PCA.

    Attributes:
        outputs: shape of the result of one picture.
    """

    outputs: Sequence[int]
    widths: Sequence[int] = (128, 128)
    activation: str = "relu"

    @nn.compact
    @typechecked
    def __call__(self, images: Images, condition: Condition = None) -> Array:
        x = images.reshape(len(images), -1)
        for width in self.widths:
            x = ACTIVATIONS[self.activation](nn.Dense(width)(_joined(x, condition)))
        return nn.Dense(math.prod(self.outputs))(_joined(x, condition)).reshape(-1, *self.outputs)


class DenseDecoder(nn.Module):
    """Latent of any shape -> widths, the encoder's reversed -> a picture without bounds."""

    height: int
    width: int
    channels: int
    widths: Sequence[int] = (128, 128)
    activation: str = "relu"

    @nn.compact
    @typechecked
    def __call__(self, z: Float[Array, "batch *latent"], condition: Condition = None) -> Images:
        x = z.reshape(len(z), -1)
        for width in self.widths:
            x = ACTIVATIONS[self.activation](nn.Dense(width)(_joined(x, condition)))
        pixels = nn.Dense(self.height * self.width * self.channels)(_joined(x, condition))
        return pixels.reshape(-1, self.height, self.width, self.channels)


class ConvEncoder(nn.Module):
    """Two 4x4 convolutions of stride 2 with group norms; then a dense layer and one to a vector, or 1x1 to a grid.

    Attributes:
        outputs: (size,), or (rows, columns, channels) with rows and columns a quarter of the picture's.
        widths: channels of the two convolutions.
        features: of the dense layer in front of a vector.
    """

    outputs: Sequence[int]
    widths: Sequence[int] = (64, 128)
    features: int = 1024
    activation: str = "relu"

    @nn.compact
    @typechecked
    def __call__(self, images: Images, condition: Condition = None) -> Array:
        act = ACTIVATIONS[self.activation]
        x = _with_planes(to_grid(images), condition)
        for width in self.widths:
            x = act(norm(width)(nn.Conv(width, (4, 4), 2, ((1, 1), (1, 1)))(x)))
        if len(self.outputs) == 3:
            return nn.Conv(self.outputs[2], (1, 1))(x)
        x = act(nn.Dense(self.features)(_joined(x.reshape(len(x), -1), condition)))
        return nn.Dense(math.prod(self.outputs))(x).reshape(-1, *self.outputs)


class ConvDecoder(nn.Module):
    """The encoder mirrored: a vector through two dense layers, a grid through a 3x3 convolution, then twice
    nearest-neighbour upsampling and a 3x3 convolution (transposed ones are slow on CPUs and leave checkerboards).
    """

    height: int
    width: int
    channels: int
    widths: Sequence[int] = (64, 128)
    features: int = 1024
    activation: str = "relu"

    @nn.compact
    @typechecked
    def __call__(self, z: Float[Array, "batch *latent"], condition: Condition = None) -> Images:
        act = ACTIVATIONS[self.activation]
        first, last = self.widths
        if z.ndim == 4:
            x = act(norm(last)(nn.Conv(last, (3, 3))(_with_planes(z, condition))))
        else:
            x = act(nn.Dense(self.features)(_joined(z.reshape(len(z), -1), condition)))
            rows, columns = grid_size(self.height, self.width)
            x = nn.Dense(rows * columns * last)(x).reshape(-1, rows, columns, last)
            x = act(norm(last)(x))
        x = act(norm(first)(nn.Conv(first, (3, 3))(upsample_nearest(x))))
        x = nn.Conv(self.channels, (3, 3))(upsample_nearest(x))
        return x[:, : self.height, : self.width]


def grid_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a grid latent of the convolutional trunk: sides that 4 does not divide are rounded up."""
    return -(-height // STRIDE), -(-width // STRIDE)


def to_grid(images: Images) -> Array:
    """Pictures with their last row and column repeated until the stride divides the sides."""
    height, width = images.shape[1:3]
    return jnp.pad(images, ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge")


def norm(channels: int) -> nn.GroupNorm:
    """Group norm of at most eight groups: of the channels, never of the batch, so that no sample depends on others."""
    return nn.GroupNorm(math.gcd(LARGEST_GROUPS, channels), use_fast_variance=False)


def _joined(x: Array, condition: Condition) -> Array:
    return x if condition is None else jnp.concatenate([x, condition], -1)


def _with_planes(x: Array, condition: Condition) -> Array:
    """The condition as constant planes beside the channels."""
    if condition is None:
        return x
    planes = jnp.broadcast_to(condition[:, None, None, :], (*x.shape[:3], condition.shape[-1]))
    return jnp.concatenate([x, planes], -1)
