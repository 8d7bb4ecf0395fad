"""Layers of convolutional networks, NHWC, as functions, and as Flax modules where they have parameters.

Modules take `dtype`: what they compute in (None: the type of input and parameters). Statistics and parameters stay
float32 or wider.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.shapes import typechecked

Dtype = Any
EPSILON = 1e-6  # of every group norm
# outputs have the inputs' variance: through the four layers around the latents, which no norm rescales, the reference's
# start (a third of that variance in each, and biases as large) lets the latents drown in constants
KERNEL_INIT = nn.initializers.lecun_uniform()

Padding = tuple[tuple[int, int], tuple[int, int]]


@typechecked
def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    bias: Float[Array, " outputs"] | None = None,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "batch new_height new_width outputs"]:
    """Cross-correlation, y[t] = sum_k x[S t + k - P] kernel[k] + bias, zeros outside.

    The output has floor((L + P_before + P_after - K) / S) + 1 rows or columns.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == ((0, 0), (0, 0)):
        y = jnp.einsum("bhwi,io->bhwo", x, kernel[0, 0])
    else:
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return y if bias is None else y + bias


@typechecked
def group_moments(
    x: Float[Array, "batch height width channels"], groups: int
) -> tuple[Float[Array, "batch groups"], Float[Array, "batch groups"]]:
    """(mean, variance) over (channels of a group x all positions), float32 or wider; neighbouring channels group.

    Two passes: E[x^2] - E[x]^2 cancels in float32. Rows are summed first, which rounds less than one long sum.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = _group_mean(jnp.mean(x, axis=2), groups)
    deviation = x - _to_channels(mean, x.shape[-1])
    return mean, _group_mean(jnp.mean(jnp.square(deviation), axis=2), groups)


def _group_mean(rows: Float[Array, "batch height channels"], groups: int) -> Float[Array, "batch groups"]:
    return jnp.mean(jnp.mean(rows, axis=1).reshape(rows.shape[0], groups, -1), axis=-1)


def _to_channels(values: Float[Array, "batch groups"], channels: int) -> Float[Array, "batch 1 1 channels"]:
    return jnp.repeat(values, channels // values.shape[1], axis=1)[:, None, None, :]


@typechecked
def group_norm(
    x: Float[Array, "batch height width channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    moments: tuple[Float[Array, "batch groups"], Float[Array, "batch groups"]],
) -> Float[Array, "batch height width channels"]:
    """(x - mean) / sqrt(variance + 1e-6) * scale + bias in float32 or wider; the result has x's type."""
    mean, variance = (_to_channels(values, x.shape[-1]) for values in moments)
    wide = x.astype(mean.dtype)
    return ((wide - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias).astype(x.dtype)


@typechecked
def upsample_nearest(x: Float[Array, "batch height width channels"], factor: int = 2) -> Array:
    """out[t] = x[floor(t / factor)] along height and width."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return x.reshape(b, h * factor, w * factor, c)


@typechecked
def upsample_convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "3 3 inputs outputs"],
    bias: Float[Array, " outputs"],
) -> Float[Array, "batch new_height new_width outputs"]:
    """3x3 convolution of `upsample_nearest(x)`, with 4/9 of the multiplications.

    Where two taps fall on the same x, they are added beforehand: each of the four phases of the output (row and column
    even or odd) is a 2x2 convolution of x. Only rounding differs.
    """
    b, h, w, _ = x.shape
    phases = [
        [
            convolve(x, _fold(_fold(kernel, 0, i), 1, j).astype(x.dtype), padding=((1 - i, i), (1 - j, j)))
            for j in range(2)
        ]
        for i in range(2)
    ]
    y = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return y.reshape(b, 2 * h, 2 * w, -1) + bias


def _fold(kernel: Array, axis: int, phase: int) -> Array:
    """Three taps of an axis on two: even outputs see (x[t - 1], x[t], x[t]), odd ones (x[t], x[t], x[t + 1])."""
    first, middle, last = (jax.lax.index_in_dim(kernel, tap, axis) for tap in range(3))
    return jnp.concatenate([first, middle + last] if phase == 0 else [first + middle, last], axis)


def pad_borders(x: Array, mode: str, rows: bool = True) -> Array:
    """One row and column more on each side, or columns alone; modes of numpy.pad: "reflect", "edge"."""
    return jnp.pad(x, ((0, 0), (1, 1) if rows else (0, 0), (1, 1), (0, 0)), mode=mode)


def upsample_convolve_reflected(x: Array, kernel: Array, bias: Array, rows: bool = True) -> Array:
    """`upsample_convolve` with the upsampled picture mirrored at its borders; `rows` False: columns alone."""
    # mirrored without its border, an upsampled row is the one beside it: the same value of x once more
    y = upsample_convolve(pad_borders(x, "edge", rows), kernel, bias)
    return y[:, 2:-2, 2:-2] if rows else y[:, :, 2:-2]


class Conv(nn.Module):
    """Square convolution with bias.

    Attributes:
        padding: None: what keeps the size at stride 1.
        padding_mode: what stands outside of the picture: "zeros", or "reflect" for kernels of 3 x 3 whose size stays.
    """

    inputs: int
    outputs: int
    kernel_size: int = 3
    stride: int = 1
    padding: Padding | None = None
    dtype: Dtype | None = None
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    padding_mode: str = "zeros"

    def setup(self):
        size = self.kernel_size
        self.kernel = self.param("kernel", self.kernel_init, (size, size, self.inputs, self.outputs))
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,))

    def __call__(self, x: Array) -> Array:
        x, kernel, bias = nn.dtypes.promote_dtype(x, self.kernel, self.bias, dtype=self.dtype)
        before, after = (self.kernel_size - 1) // 2, self.kernel_size // 2
        if self.padding_mode == "reflect" and self.padding is None and self.kernel_size == 3:
            return convolve(pad_borders(x, "reflect"), kernel, bias, self.stride)
        padding = self.padding or ((before, after), (before, after))
        return convolve(x, kernel, bias, self.stride, padding)


class GroupNorm(nn.Module):
    """Group norm with an affine map a channel (Wu and He 2018)."""

    channels: int
    groups: int
    dtype: Dtype | None = None

    def setup(self):
        self.scale = self.param("scale", nn.initializers.ones, (self.channels,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.channels,))

    def __call__(self, x: Array) -> Array:
        if self.dtype is not None:
            x = x.astype(self.dtype)
        return group_norm(x, self.scale, self.bias, group_moments(x, self.groups))


class Linear(nn.Module):
    """x @ kernel + bias over the last axis."""

    inputs: int
    outputs: int
    dtype: Dtype | None = None

    def setup(self):
        self.kernel = self.param("kernel", KERNEL_INIT, (self.inputs, self.outputs))
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,))

    def __call__(self, x: Array) -> Array:
        x, kernel, bias = nn.dtypes.promote_dtype(x, self.kernel, self.bias, dtype=self.dtype)
        return x @ kernel + bias
