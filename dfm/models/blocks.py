"""Building blocks of convolutional autoencoders, NHWC: attention, resnet block, stages, encoder and decoder.

Submodules bear the names of diffusers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.models.attention import attend
from dfm.models.layers import (
    Conv,
    Dtype,
    GroupNorm,
    Linear,
    upsample_convolve,
    upsample_convolve_reflected,
    upsample_nearest,
)
from dfm.shapes import typechecked

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "relu": nn.relu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
}
PADDING_MODES = ("zeros", "reflect")
BRANCH_INIT = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")  # a residual branch begins as a tenth


@dataclass(frozen=True)
class Style:
    """What all blocks of a net have in common.

    Attributes:
        groups: of every group norm; divides all widths.
        act_fn: of the resnet blocks.
        dtype: what is computed in (None: the type of the input); statistics, softmax and parameters stay float32 or
            wider.
        remat: `nn.remat` around resnet blocks and attention: their insides are computed again in the backward pass.
        fold: nearest-neighbour upsampling and the convolution behind it as one, see `layers.upsample_convolve`.
        padding_mode: what 3x3 convolutions see outside of the picture, zeros or its mirror image; the strided ones,
            which see a row below and a column to the right, always see zeros.
    """

    groups: int
    act_fn: str = "silu"
    dtype: Dtype | None = None
    remat: bool = False
    fold: bool = True
    padding_mode: str = "zeros"

    def conv(self, inputs: int, outputs: int, **how: Any) -> Conv:
        """A 3x3 convolution."""
        return Conv(inputs, outputs, dtype=self.dtype, padding_mode=self.padding_mode, **how)

    def norm(self, channels: int) -> GroupNorm:
        return GroupNorm(channels, self.groups, self.dtype)

    def wrap(self, module: Any) -> Any:
        """A class of modules, recomputed in the backward pass where that is wanted."""
        return nn.remat(module) if self.remat else module


class Attention(nn.Module):
    """x + to_out(attention of one head over all positions of group_norm(x))."""

    channels: int
    style: Style

    def setup(self):
        linear = lambda: Linear(self.channels, self.channels, self.style.dtype)  # noqa: E731
        self.group_norm = self.style.norm(self.channels)
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
    style: Style

    def setup(self):
        self.norm1 = self.style.norm(self.inputs)
        self.conv1 = self.style.conv(self.inputs, self.outputs)
        self.norm2 = self.style.norm(self.outputs)
        self.conv2 = self.style.conv(self.outputs, self.outputs, kernel_init=BRANCH_INIT)
        if self.inputs != self.outputs:
            self.conv_shortcut = Conv(self.inputs, self.outputs, kernel_size=1, dtype=self.style.dtype)

    @typechecked
    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch height width outputs"]:
        act = ACTIVATIONS[self.style.act_fn]
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
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution; with `style.fold` both at once."""

    channels: int
    style: Style

    def setup(self):
        self.conv = self.style.conv(self.channels, self.channels)

    def __call__(self, x: Array) -> Array:
        if not self.style.fold:
            return self.conv(upsample_nearest(x))
        # the kernel keeps its own type: its sums are rounded once
        dtype = jnp.result_type(x, self.conv.kernel) if self.style.dtype is None else self.style.dtype
        function = upsample_convolve_reflected if self.style.padding_mode == "reflect" else upsample_convolve
        return function(x.astype(dtype), self.conv.kernel, self.conv.bias.astype(dtype))


class Stage(nn.Module):
    """What happens at one resolution: resnet blocks, each followed by attention if wanted, then resampling if any.

    Attributes:
        layers: number of resnet blocks.
        style: of all blocks.
        attention: an attention after each of them.
        resample: "down", "up" or None.
    """

    inputs: int
    outputs: int
    layers: int
    style: Style
    attention: bool = False
    resample: str | None = None

    def setup(self):
        style, widths = self.style, [self.inputs] + [self.outputs] * self.layers
        self.resnets = [style.wrap(ResnetBlock)(width, self.outputs, style) for width in widths[:-1]]
        if self.attention:
            self.attentions = [style.wrap(Attention)(self.outputs, style) for _ in range(self.layers)]
        if self.resample == "down":
            self.downsamplers = [Downsample(self.outputs, style.dtype)]
        elif self.resample == "up":
            self.upsamplers = [Upsample(self.outputs, style)]

    def __call__(self, x: Array) -> Array:
        for index, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attention:
                x = self.attentions[index](x)
        if self.resample is None:
            return x
        return (self.downsamplers if self.resample == "down" else self.upsamplers)[0](x)


def _stages(widths: Sequence[int], attention: Sequence[bool], layers: int, style: Style, resample: str) -> list[Stage]:
    """A stage a width; all but the last resample."""
    inputs, last = (widths[0], *widths[:-1]), len(widths) - 1
    return [
        Stage(inputs[i], width, layers, style, attention[i], resample if i < last else None)
        for i, width in enumerate(widths)
    ]


class MidBlock(nn.Module):
    """Resnet block, attention if wanted, resnet block."""

    channels: int
    style: Style
    attention: bool = True

    def setup(self):
        style, width = self.style, self.channels
        self.resnets = [style.wrap(ResnetBlock)(width, width, style) for _ in range(2)]
        if self.attention:
            self.attentions = [style.wrap(Attention)(width, style)]

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
    style: Style
    mid_attention: bool = True

    def setup(self):
        style, width = self.style, self.widths[-1]
        self.conv_in = style.conv(self.inputs, self.widths[0])
        self.down_blocks = _stages(self.widths, self.attention, self.layers, style, "down")
        self.mid_block = MidBlock(width, style, self.mid_attention)
        self.conv_norm_out = style.norm(width)
        self.conv_out = style.conv(width, self.outputs)

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
    style: Style
    mid_attention: bool = True

    def setup(self):
        style, widths = self.style, tuple(reversed(self.widths))
        self.conv_in = style.conv(self.inputs, widths[0])
        self.mid_block = MidBlock(widths[0], style, self.mid_attention)
        self.up_blocks = _stages(widths, self.attention, self.layers, style, "up")
        self.conv_norm_out = style.norm(widths[-1])
        self.conv_out = style.conv(widths[-1], self.outputs)

    def features(self, z: Array) -> Array:
        """What the last convolution gets."""
        x = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            x = stage(x)
        return nn.silu(self.conv_norm_out(x))

    def __call__(self, z: Array) -> Array:
        return self.conv_out(self.features(z))
