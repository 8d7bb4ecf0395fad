"""AutoencoderKL on pictures that do not fit: exact results, strip by strip, layer by layer through the host's memory.

A convolution of a strip of rows needs its neighbours' nearest row (a halo), and a group norm the moments of the whole
picture: those of each strip are merged (Chan et al. 1979) as the strip is computed, so that nothing is read twice and
no strip is normalised by itself. There are no seams: the result is the untiled one up to rounding.

The device holds one strip of one layer at a time, and in the middle, at the latents' resolution, all of it. The host
holds two or three layers: at full resolution 2 KiB a pixel and more, of the published widths in float32.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from dfm.models.attention import attend
from dfm.models.autoencoder_kl import DOWN_BLOCKS, UP_BLOCKS, AutoencoderKL, check_images, check_latents
from dfm.models.blocks import ACTIVATIONS, PADDING_MODES
from dfm.models.distributions import DiagonalGaussian
from dfm.models.layers import convolve, group_norm, pad_borders, upsample_convolve, upsample_convolve_reflected
from dfm.shapes import typechecked

Params = Mapping[str, Any]
Moments = tuple[Array, Array]  # mean and variance, [batch, groups]
STRIP_BYTES = 2**27  # of one strip of a layer's output


@dataclass
class Layer:
    """A layer's output in the host's memory, and its groups' moments where a norm follows."""

    values: Float[np.ndarray, "batch height width channels"]
    moments: Moments


@dataclass(frozen=True)
class Step:
    """How rows of the input map to rows of the output: `up` / `down` of them, and rows of halo on either side.

    `outside`: what stands above and below the picture: "zeros", its mirror image ("reflect"), or its border ("edge").
    """

    down: int = 1
    up: int = 1
    before: int = 1
    after: int = 1
    outside: str = "zeros"


DOWN = Step(down=2, before=0)
SAME = {mode: Step(outside=mode) for mode in PADDING_MODES}
UP = {"zeros": Step(up=2), "reflect": Step(up=2, outside="edge")}  # see `layers.upsample_convolve_reflected`


@typechecked
def tiled_encode(
    model: AutoencoderKL,
    params: Params,
    images: Shaped[np.ndarray | Array, "batch height width channels"],
    strip_bytes: int = STRIP_BYTES,
) -> DiagonalGaussian:
    """`model.encode` strip by strip; the posterior is small and lies on the device.

    Args:
        strip_bytes: about how large a strip of a layer's output may be.
    """
    check_images(model, images)
    run, encoder = _Runner(model, strip_bytes), params["encoder"]
    x = run.convolution(run.start(images), encoder["conv_in"])
    attends = [DOWN_BLOCKS[name] for name in model.down_block_types] or [False] * len(model.block_out_channels)
    for index, attention in enumerate(attends):
        x = run.stage(x, encoder[f"down_blocks_{index}"], attention)
    x = run.convolution(run.middle(x, encoder["mid_block"]), encoder["conv_out"], encoder["conv_norm_out"])
    moments = _pointwise(jnp.asarray(x.values), params.get("quant_conv"))
    return DiagonalGaussian.from_moments(moments)


@typechecked
def tiled_decode(
    model: AutoencoderKL,
    params: Params,
    latents: Shaped[np.ndarray | Array, "batch h w latents"],
    strip_bytes: int = STRIP_BYTES,
) -> Float[np.ndarray, "batch height width channels"]:
    """`model.decode` strip by strip; the pictures lie in the host's memory."""
    check_latents(model, latents)
    run, decoder = _Runner(model, strip_bytes), params["decoder"]
    z = _pointwise(jnp.asarray(latents), params.get("post_quant_conv"))
    x = run.middle(run.convolution(run.start(z), decoder["conv_in"]), decoder["mid_block"])
    attends = [UP_BLOCKS[name] for name in model.up_block_types] or [False] * len(model.block_out_channels)
    for index, attention in enumerate(attends):
        x = run.stage(x, decoder[f"up_blocks_{index}"], attention)
    return run.convolution(x, decoder["conv_out"], decoder["conv_norm_out"]).values.astype(np.float32)


class _Runner:
    """The blocks of dfm.models.blocks, over strips."""

    def __init__(self, model: AutoencoderKL, strip_bytes: int):
        self.groups, self.act, self.strip_bytes = model.norm_num_groups, model.act_fn.lower(), strip_bytes
        self.padding = model.padding_mode
        self.dtype = None if model.dtype is None else jnp.dtype(model.dtype)

    def start(self, x: Any) -> Layer:
        nothing = jnp.zeros((len(x), self.groups))
        values = np.asarray(x)
        return Layer(values if self.dtype is None else values.astype(self.dtype), (nothing, nothing))

    def stage(self, x: Layer, params: Params, attention: bool) -> Layer:
        for index in range(sum(name.startswith("resnets_") for name in params)):
            x = self.resnet(x, params[f"resnets_{index}"])
            if attention:
                x = self.attention(x, params[f"attentions_{index}"])
        if "downsamplers_0" in params:
            return self._strips(_down, DOWN, [x], params["downsamplers_0"]["conv"])
        if "upsamplers_0" in params:
            return self._strips(_up(self.padding), UP[self.padding], [x], params["upsamplers_0"]["conv"])
        return x

    def middle(self, x: Layer, params: Params) -> Layer:
        x = self.resnet(x, params["resnets_0"])
        if "attentions_0" in params:
            x = self.attention(x, params["attentions_0"])
        return self.resnet(x, params["resnets_1"])

    def resnet(self, x: Layer, params: Params) -> Layer:
        same, how = SAME[self.padding], (self.act, self.padding)
        hidden = self._strips(_normed_convolution(*how), same, [x], (params["norm1"], params["conv1"]))
        rest = (params["norm2"], params["conv2"], params.get("conv_shortcut"))
        return self._strips(_residual_convolution(*how), same, [hidden, x], rest)

    def convolution(self, x: Layer, conv: Params, norm: Params | None = None) -> Layer:
        if norm is None:
            return self._strips(_convolution(self.padding), SAME[self.padding], [x], conv)
        return self._strips(_normed_convolution("silu", self.padding), SAME[self.padding], [x], (norm, conv))

    def attention(self, x: Layer, params: Params) -> Layer:
        return Layer(*_collect([_attention(params, jnp.asarray(x.values), x.moments, self.groups)]))

    def _strips(self, function: Callable, step: Step, inputs: list[Layer], params: Any) -> Layer:
        """`function(params, strips, moments, valid)` over all strips; strips have equal shapes: one compilation."""
        height, width = inputs[0].values.shape[1:3]
        out_height = height * step.up // step.down
        outputs = jax.tree.leaves(params)[-1].shape[-1]
        row_bytes = 4 * len(inputs[0].values) * max(1, width * step.up // step.down) * outputs
        rows = min(out_height, max(1, self.strip_bytes // row_bytes))
        rows += -rows % step.up
        taken = rows * step.down // step.up  # rows of the input for one strip, without halo
        pieces = []
        for first in range(0, out_height, rows):
            start = first * step.down // step.up - step.before
            strips = [_rows(layer.values, start, taken + step.before + step.after, step.outside) for layer in inputs]
            moments = inputs[0].moments
            count = min(rows, out_height - first)
            place = (start, height) if step.outside == "zeros" else (0, len(strips[0][0]))  # nothing left to blank out
            piece = _strip(function, self.groups, params, strips, moments, *place, count)
            pieces.append((np.asarray(piece[0])[:, :count], *piece[1:]))
        return Layer(*_collect(pieces))


def _strip_and_moments(
    function: Callable,
    groups: int,
    params: Any,
    strips: list[Array],
    moments: Moments,
    start: Any,
    height: Any,
    count: Any,
) -> tuple[Array, Array, Array, Array]:
    """(output rows, and of the first `count` of them the number of values, mean and squared deviations a group)."""
    index = start + jnp.arange(strips[0].shape[1])
    inside = ((index >= 0) & (index < height))[None, :, None, None]
    y = function(params, strips, moments, inside)
    if y.shape[-1] % groups:  # the last layer of all
        nothing = jnp.zeros((y.shape[0], groups))
        return y, nothing, nothing, nothing
    valid = (jnp.arange(y.shape[1]) < count)[None, :, None, None, None]
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32)).reshape(*y.shape[:3], groups, -1)
    size = count * y.shape[2] * wide.shape[-1]
    mean = jnp.where(valid, wide, 0).mean(2).sum((1, 3)) * y.shape[2] / size
    squares = jnp.where(valid, jnp.square(wide - mean[:, None, None, :, None]), 0).sum(2).sum((1, 3))
    return y, jnp.full_like(mean, size), mean, squares


_strip = jax.jit(_strip_and_moments, static_argnums=(0, 1))


@functools.cache
def _convolution(padding: str) -> Callable:
    def function(conv: Params, strips: list[Array], moments: Moments, inside: Array) -> Array:
        return _convolve(jnp.where(inside, strips[0], 0), conv, padding)

    return function


@functools.cache  # the same object for the same activation: no compilation twice
def _normed_convolution(act: str, padding: str) -> Callable:
    def function(params: Any, strips: list[Array], moments: Moments, inside: Array) -> Array:
        norm, conv = params
        x = ACTIVATIONS[act](group_norm(strips[0], norm["scale"], norm["bias"], moments))
        return _convolve(jnp.where(inside, x, 0), conv, padding)  # zeros outside are zeros behind the activation

    return function


@functools.cache
def _residual_convolution(act: str, padding: str) -> Callable:
    def function(params: Any, strips: list[Array], moments: Moments, inside: Array) -> Array:
        norm, conv, shortcut = params
        y = _normed_convolution(act, padding)((norm, conv), strips[:1], moments, inside)
        return _pointwise(strips[1][:, 1:-1], shortcut) + y

    return function


def _down(conv: Params, strips: list[Array], moments: Moments, inside: Array) -> Array:
    x = jnp.where(inside, strips[0], 0)
    return convolve(x, conv["kernel"].astype(x.dtype), conv["bias"].astype(x.dtype), 2, ((0, 0), (0, 1)))


@functools.cache
def _up(padding: str) -> Callable:
    def function(conv: Params, strips: list[Array], moments: Moments, inside: Array) -> Array:
        x = jnp.where(inside, strips[0], 0)
        kernel, bias = conv["kernel"], conv["bias"].astype(x.dtype)
        if padding == "reflect":
            return upsample_convolve_reflected(x, kernel, bias, rows=False)[:, 2:-2]
        return upsample_convolve(x, kernel, bias)[:, 2:-2]

    return function


def _convolve(x: Array, conv: Params, padding: str) -> Array:
    """3x3, over all columns and the rows that have both neighbours."""
    columns = (1, 1)
    if padding == "reflect":
        x, columns = pad_borders(x, "reflect", rows=False), (0, 0)
    return convolve(x, conv["kernel"].astype(x.dtype), conv["bias"].astype(x.dtype), padding=((0, 0), columns))


def _pointwise(x: Array, conv: Params | None) -> Array:
    """1x1; None: x itself."""
    return x if conv is None else convolve(x, conv["kernel"].astype(x.dtype), conv["bias"].astype(x.dtype))


@functools.partial(jax.jit, static_argnums=3)
def _attention(params: Params, x: Array, moments: Moments, groups: int) -> tuple[Array, Array, Array, Array]:
    """The attention block on the whole layer; its moments as `_strip` gives them."""
    normed = group_norm(x, params["group_norm"]["scale"], params["group_norm"]["bias"], moments)
    tokens = normed.reshape(x.shape[0], -1, x.shape[-1])
    linear = lambda name, t: t @ params[name]["kernel"].astype(t.dtype) + params[name]["bias"].astype(t.dtype)  # noqa: E731
    y = linear("to_out_0", attend(*(linear(name, tokens) for name in ("to_q", "to_k", "to_v"))))
    same = lambda _, strips, moments, inside: strips[0] + y.reshape(x.shape)  # noqa: E731
    return _strip_and_moments(same, groups, params, [x], moments, 0, x.shape[1], x.shape[1])


def _rows(values: np.ndarray, start: int, count: int, outside: str) -> np.ndarray:
    """Rows start, ..., start + count - 1; what those outside are, `Step` says."""
    height = values.shape[1]
    first, stop = max(start, 0), min(start + count, height)
    if (first, stop) == (start, start + count):
        return values[:, first:stop]
    if outside != "zeros":
        index = np.arange(start, start + count)
        if outside == "reflect":
            index = np.where(index < 0, -index, np.where(index >= height, 2 * height - 2 - index, index))
        return values[:, np.clip(index, 0, height - 1)]  # rows that no output needs may be any
    rows = np.zeros((len(values), count, *values.shape[2:]), values.dtype)
    rows[:, first - start : stop - start] = values[:, first:stop]
    return rows


def _collect(pieces: list[tuple[Any, Any, Any, Any]]) -> tuple[np.ndarray, Moments]:
    """All rows, and mean and variance of the union of the strips, in float64."""
    count, mean, squares = (np.asarray(value, np.float64) for value in pieces[0][1:])
    for _, *others in pieces[1:]:
        other_count, other_mean, other_squares = (np.asarray(value, np.float64) for value in others)
        total, apart = np.maximum(count + other_count, 1), other_mean - mean
        mean = mean + apart * other_count / total
        squares = squares + other_squares + apart**2 * count * other_count / total
        count = count + other_count
    values = [np.asarray(piece[0]) for piece in pieces]
    wide = np.promote_types(np.asarray(pieces[0][2]).dtype, np.float32)
    whole = np.concatenate(values, axis=1) if len(values) > 1 else values[0]
    return whole, (jnp.asarray(mean.astype(wide)), jnp.asarray((squares / np.maximum(count, 1)).astype(wide)))
