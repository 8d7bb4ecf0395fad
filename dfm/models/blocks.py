"""Building blocks of convolutional autoencoders, NHWC: attention, resnet block, stages, encoder and decoder.

Submodules bear the names of diffusers. Settings that come with every module:

dtype: what it computes in (None: the type of its input); statistics, softmax and parameters stay float32 or wider.
remat: `nn.remat` around resnet blocks and attention: their insides are computed again in the backward pass.
fold: nearest-neighbour upsampling and the convolution behind it as one, see `layers.upsample_convolve`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.models.attention import attend
from dfm.models.layers import Conv, Dtype, GroupNorm, Linear, upsample_convolve, upsample_nearest
from dfm.shapes import typechecked

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "relu": nn.relu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
}
BRANCH_INIT = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")  # a residual branch begins as a tenth


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
        self.conv2 = Conv(self.outputs, self.outputs, dtype=self.dtype, kernel_init=BRANCH_INIT)
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
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution; `fold` does both at once."""

    channels: int
    dtype: Dtype | None = None
    fold: bool = True

    def setup(self):
        self.conv = Conv(self.channels, self.channels, dtype=self.dtype)

    def __call__(self, x: Array) -> Array:
        if not self.fold:
            return self.conv(upsample_nearest(x))
        # the kernel keeps its own type: its sums are rounded once
        dtype = jnp.result_type(x, self.conv.kernel) if self.dtype is None else self.dtype
        return upsample_convolve(x.astype(dtype), self.conv.kernel, self.conv.bias.astype(dtype))


class Stage(nn.Module):
    """What happens at one resolution: resnet blocks, each followed by attention if wanted, then resampling if any.

    Attributes:
        layers: number of resnet blocks.
        attention: an attention after each of them.
        resample: "down", "up" or None.
        fold: see Upsample.
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
    fold: bool = True

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
            self.upsamplers = [Upsample(self.outputs, self.dtype, self.fold)]

    def __call__(self, x: Array) -> Array:
        for index, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attention:
                x = self.attentions[index](x)
        if self.resample is None:
            return x
        return (self.downsamplers if self.resample == "down" else self.upsamplers)[0](x)


def _stages(
    widths: Sequence[int], attention: Sequence[bool], layers: int, groups: int, resample: str, *rest: Any
) -> list[Stage]:
    """A stage a width; all but the last resample. `rest`: from act_fn on, see Stage."""
    inputs, last = (widths[0], *widths[:-1]), len(widths) - 1
    return [
        Stage(inputs[i], width, layers, groups, attention[i], resample if i < last else None, *rest)
        for i, width in enumerate(widths)
    ]


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


class Encoder(nn.Module):
    """Pictures to moments: a stage a resolution, the middle, norm, SiLU, convolution to 2 x latent channels."""

    inputs: int
    outputs: int
    widths: Sequence[int]
    attention: Sequence[bool]
    layers: int
    groups: int
    act_fn: str
    mid_attention: bool
    dtype: Any
    remat: bool

    def setup(self):
        self.conv_in = Conv(self.inputs, self.widths[0], dtype=self.dtype)
        self.down_blocks = _stages(
            self.widths, self.attention, self.layers, self.groups, "down", self.act_fn, self.dtype, self.remat
        )
        self.mid_block = MidBlock(self.widths[-1], self.groups, self.mid_attention, self.act_fn, self.dtype, self.remat)
        self.conv_norm_out = GroupNorm(self.widths[-1], self.groups, self.dtype)
        self.conv_out = Conv(self.widths[-1], self.outputs, dtype=self.dtype)

    def __call__(self, x: Array) -> Array:
        x = self.conv_in(x)
        for stage in self.down_blocks:
            x = stage(x)
        return self.conv_out(nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents to pictures: convolution, the middle, a stage a resolution, norm, SiLU, convolution.

    `widths` are in the encoder's order, the widest last; `layers` resnet blocks a stage.
    """

    inputs: int
    outputs: int
    widths: Sequence[int]
    attention: Sequence[bool]
    layers: int
    groups: int
    act_fn: str
    mid_attention: bool
    dtype: Any
    remat: bool
    fold: bool

    def setup(self):
        widths = tuple(reversed(self.widths))
        self.conv_in = Conv(self.inputs, widths[0], dtype=self.dtype)
        self.mid_block = MidBlock(widths[0], self.groups, self.mid_attention, self.act_fn, self.dtype, self.remat)
        self.up_blocks = _stages(
            widths, self.attention, self.layers, self.groups, "up", self.act_fn, self.dtype, self.remat, self.fold
        )
        self.conv_norm_out = GroupNorm(widths[-1], self.groups, self.dtype)
        self.conv_out = Conv(widths[-1], self.outputs, dtype=self.dtype)

    def features(self, z: Array) -> Array:
        """What the last convolution gets."""
        x = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            x = stage(x)
        return nn.silu(self.conv_norm_out(x))

    def __call__(self, z: Array) -> Array:
        return self.conv_out(self.features(z))
