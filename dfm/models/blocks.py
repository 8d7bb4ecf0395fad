"""Building blocks of convolutional autoencoders, NHWC: convolution, group norm, attention, resnet block, resampling.

Submodules bear the names of diffusers. Two settings come with every module:

dtype: what it computes in (None: the type of its input); statistics, softmax and parameters stay float32 or wider.
remat: `nn.remat` around resnet blocks and attention: their insides are computed again in the backward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.models.attention import attend
from dfm.shapes import typechecked

Dtype = Any
EPSILON = 1e-6  # of every group norm

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "relu": nn.relu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
}
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


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    """U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): the start of the reference's convolutions, biases too."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Conv(nn.Module):
    """Square convolution with bias; `padding` None: the size stays at stride 1."""

    inputs: int
    outputs: int
    kernel_size: int = 3
    stride: int = 1
    padding: Padding | None = None
    dtype: Dtype | None = None

    def setup(self):
        size, init = self.kernel_size, _uniform(self.kernel_size**2 * self.inputs)
        self.kernel = self.param("kernel", init, (size, size, self.inputs, self.outputs))
        self.bias = self.param("bias", init, (self.outputs,))

    def __call__(self, x: Array) -> Array:
        x, kernel, bias = nn.dtypes.promote_dtype(x, self.kernel, self.bias, dtype=self.dtype)
        before, after = (self.kernel_size - 1) // 2, self.kernel_size // 2
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
        self.kernel = self.param("kernel", _uniform(self.inputs), (self.inputs, self.outputs))
        self.bias = self.param("bias", _uniform(self.inputs), (self.outputs,))

    def __call__(self, x: Array) -> Array:
        x, kernel, bias = nn.dtypes.promote_dtype(x, self.kernel, self.bias, dtype=self.dtype)
        return x @ kernel + bias


class Attention(nn.Module):
    """x + to_out(attention of one head over all positions of group_norm(x))."""

    channels: int
    groups: int
    dtype: Dtype | None = None

    def setup(self):
        linear = lambda: Linear(self.channels, self.channels, self.dtype)  # noqa: E731
        self.group_norm = GroupNorm(self.channels, self.groups, self.dtype)
        self.to_q, self.to_k, self.to_v = linear(), linear(), linear()
        self.to_out = [linear()]

    @typechecked
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        tokens = self.group_norm(x).reshape(x.shape[0], -1, self.channels)
        attended = attend(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + self.to_out[0](attended).reshape(x.shape)


class ResnetBlock(nn.Module):
    """shortcut(x) + conv2(act(norm2(conv1(act(norm1(x)))))); the shortcut is a 1x1 convolution where widths differ."""

    inputs: int
    outputs: int
    groups: int
    act_fn: str = "silu"
    dtype: Dtype | None = None

    def setup(self):
        self.norm1 = GroupNorm(self.inputs, self.groups, self.dtype)
        self.conv1 = Conv(self.inputs, self.outputs, dtype=self.dtype)
        self.norm2 = GroupNorm(self.outputs, self.groups, self.dtype)
        self.conv2 = Conv(self.outputs, self.outputs, dtype=self.dtype)
        if self.inputs != self.outputs:
            self.conv_shortcut = Conv(self.inputs, self.outputs, kernel_size=1, dtype=self.dtype)

    @typechecked
    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch height width outputs"]:
        act = ACTIVATIONS[self.act_fn]
        y = self.conv1(act(self.norm1(x)))
        y = self.conv2(act(self.norm2(y)))
        return (self.conv_shortcut(x) if self.inputs != self.outputs else x) + y


class Downsample(nn.Module):
    """3x3 convolution of stride 2; one row below and one column to the right are zeros, whatever the size."""

    channels: int
    dtype: Dtype | None = None

    def setup(self):
        # not "SAME": for odd sizes that pads above and to the left as well
        self.conv = Conv(self.channels, self.channels, 3, 2, ((0, 1), (0, 1)), self.dtype)

    def __call__(self, x: Array) -> Array:
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution."""

    channels: int
    dtype: Dtype | None = None

    def setup(self):
        self.conv = Conv(self.channels, self.channels, dtype=self.dtype)

    def __call__(self, x: Array) -> Array:
        return self.conv(upsample_nearest(x))


class Stage(nn.Module):
    """What happens at one resolution: resnet blocks, each followed by attention if wanted, then resampling if any.

    Attributes:
        layers: number of resnet blocks.
        attention: an attention after each of them.
        resample: "down", "up" or None.
    """

    inputs: int
    outputs: int
    layers: int
    groups: int
    attention: bool = False
    resample: str | None = None
    act_fn: str = "silu"
    dtype: Dtype | None = None
    remat: bool = False

    def setup(self):
        wrap = nn.remat if self.remat else lambda module: module
        widths = [self.inputs] + [self.outputs] * self.layers
        self.resnets = [
            wrap(ResnetBlock)(widths[i], self.outputs, self.groups, self.act_fn, self.dtype) for i in range(self.layers)
        ]
        if self.attention:
            self.attentions = [wrap(Attention)(self.outputs, self.groups, self.dtype) for _ in range(self.layers)]
        if self.resample == "down":
            self.downsamplers = [Downsample(self.outputs, self.dtype)]
        elif self.resample == "up":
            self.upsamplers = [Upsample(self.outputs, self.dtype)]

    def __call__(self, x: Array) -> Array:
        for index, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attention:
                x = self.attentions[index](x)
        if self.resample is None:
            return x
        return (self.downsamplers if self.resample == "down" else self.upsamplers)[0](x)


class MidBlock(nn.Module):
    """Resnet block, attention if wanted, resnet block."""

    channels: int
    groups: int
    attention: bool = True
    act_fn: str = "silu"
    dtype: Dtype | None = None
    remat: bool = False

    def setup(self):
        wrap = nn.remat if self.remat else lambda module: module
        width = self.channels
        self.resnets = [wrap(ResnetBlock)(width, width, self.groups, self.act_fn, self.dtype) for _ in range(2)]
        if self.attention:
            self.attentions = [wrap(Attention)(width, self.groups, self.dtype)]

    def __call__(self, x: Array) -> Array:
        x = self.resnets[0](x)
        if self.attention:
            x = self.attentions[0](x)
        return self.resnets[1](x)
