"""The loss of model.py, value and gradient together in pieces that stay in the cache.

Written plainly, each of about a hundred values a pixel goes to memory and comes back; that, not arithmetic, is the
price of a step. Here a few thousand points at a time go forward and backward, and what is kept is the gradient for the
inputs and the networks. Each function has only that gradient: of the first order, in reverse mode.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from dfm.codec.latents import model, strips
from dfm.codec.latents.cores import Part
from dfm.codec.latents.strips import HALO
from dfm.models.fourier_kernels import cos_sin_pi

POINTS = 2048  # a piece; see scripts/bench_latent_codec.py
BLOCK_ROWS = 8  # at least, of the filters: each block also filters four rows of its neighbours
WHOLE = Part()
CONTEXT_NAMES = tuple(f"context_{kind}_{layer}" for kind in ("weights", "bias") for layer in (1, 2, 3))
RAMP_NAMES = ("linear", "hidden_weights", "hidden_bias", "output_weights", "input_scale")
FILTER_NAMES = ("filter_1", "filter_2", "filter_bias", "bias")


# Sums over points are written as products of matrices wherever they can be: XLA adds floats in the order of the loop on
# a CPU, one at a time, and a bias whose gradient is such a sum costs as much as a matrix. Hence rows of ones.


def _affine(weights: Array, bias: Array, x: Array) -> Array:
    """weights @ x + bias, as one product."""
    return jnp.concatenate([weights, bias[:, None]], 1) @ jnp.concatenate([x, jnp.ones((1, x.shape[1]))])


def _context_model(networks: dict, inputs: Array, grid_scale: Array) -> tuple[Array, Array]:
    """model.context_model."""
    hidden = inputs
    for layer in (1, 2):
        added = _affine(networks[f"context_weights_{layer}"], networks[f"context_bias_{layer}"], hidden)
        hidden = hidden + jax.nn.relu(added)
    mean, log2_scale = _affine(networks["context_weights_3"], networks["context_bias_3"], hidden)
    return mean, jnp.clip(log2_scale + grid_scale, *model.LOG2_SCALE_RANGE)


def _mix(networks: dict, features: Array) -> Array:
    """model.mix, with the quadratic form and the linear one in networks["form"], [channels * u, u + 1]."""
    ramps = _affine(
        jnp.concatenate([networks["linear"], networks["hidden_weights"]]),
        jnp.concatenate([jnp.zeros(len(networks["linear"])), networks["hidden_bias"]]),
        features,
    )
    channels, count = len(networks["linear"]), 2 * len(features)
    y = ramps[:channels] + networks["output_weights"] @ jax.nn.relu(ramps[channels:])
    u = jnp.concatenate(cos_sin_pi(jnp.diag(2 * networks["input_scale"]) @ features))
    factors = networks["form"] @ jnp.concatenate([u, jnp.ones((1, u.shape[1]))])
    add = np.kron(np.eye(channels, dtype=np.float32), np.ones((1, count), np.float32))
    return y + add @ (jnp.concatenate([u] * channels) * factors)


def _with_form(networks: dict) -> dict:
    """The networks of `_mix`: made once, not once a piece."""
    grids = len(networks["input_scale"])
    form = jnp.concatenate([model.quadratic_form(networks, grids), networks["single"].reshape(-1, 1)], 1)
    return {**subset(networks, RAMP_NAMES), "form": form}


def subset(networks: model.Networks, names: tuple[str, ...]) -> dict[str, Array]:
    return {name: networks[name] for name in names if name in networks}


def _in_pieces(one_piece: Callable, networks: dict, columns: tuple[Array, ...], points: int) -> Any:
    """Scan over pieces of the columns' last axis: (sum of first results, joined second results).

    On an accelerator all pieces at once: the gradient of a matrix is then many short sums, not a long one by one core.
    """
    count = columns[0].shape[-1]
    points = min(count, points)
    pieces = -(-count // points)
    pad = pieces * points - count
    padded = [jnp.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, pad)]) for column in columns]
    if model.together():
        cut = [column.reshape(*column.shape[:-1], pieces, points) for column in padded]
        total, each = jax.vmap(one_piece, (None, *[column.ndim - 2 for column in cut]))(networks, *cut)
        return jax.tree.map(lambda e: e.sum(0), total), _joined(each, count)

    def body(total: Any, start: Array) -> tuple[Any, Any]:
        cut = [jax.lax.dynamic_slice_in_dim(column, start, points, -1) for column in padded]
        summed, each = one_piece(networks, *cut)
        return jax.tree.map(jnp.add, total, summed), each

    shape = jax.eval_shape(one_piece, networks, *[column[..., :points] for column in padded])[0]
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
    total, each = jax.lax.scan(body, zero, points * jnp.arange(pieces))
    return total, _joined(each, count)


def _joined(each: Any, count: int) -> Any:
    return jax.tree.map(lambda e: jnp.moveaxis(e, 0, -2).reshape(*e.shape[1:-1], -1)[..., :count], each)


def _piece_bits(networks: dict, inputs: Array, grid_scale: Array, y: Array, weight: Array) -> Array:
    return (weight * model.laplace_bits(y, *_context_model(networks, inputs, grid_scale))).sum()


@jax.custom_vjp
def context_bits(networks: dict, inputs: Array, grid_scale: Array, y: Array, weight: Array) -> Float[Array, ""]:
    """Bits of the latents y under the context model, `weight` times each; see model.rate."""
    # the padding of the last piece weighs nothing
    return _in_pieces(lambda *piece: (_piece_bits(*piece), ()), networks, (inputs, grid_scale, y, weight), POINTS)[0]


def _context_forward(networks: dict, inputs: Array, grid_scale: Array, y: Array, weight: Array) -> tuple[Array, Any]:
    def one_piece(*piece: Any) -> Any:
        value, gradients = jax.value_and_grad(_piece_bits, (0, 1, 2, 3))(*piece)
        return (value, gradients[0]), gradients[1:]

    (value, for_networks), others = _in_pieces(one_piece, networks, (inputs, grid_scale, y, weight), POINTS)
    return value, (for_networks, *others)


def _scaled(gradients: Any, cotangent: Array) -> Any:
    return jax.tree.map(lambda gradient: cotangent * gradient, gradients)


context_bits.defvjp(_context_forward, lambda gradients, cotangent: (*_scaled(gradients, cotangent), None))


def piecewise(function: Callable[[dict, Array], Array]) -> Callable[[dict, Array], Array]:
    """`function(networks, features)`, point by point, in pieces.

    The backward pass computes a piece anew rather than keep what it needs of it."""

    def forward(networks: dict, features: Array) -> tuple[Array, Any]:
        _, y = _in_pieces(lambda networks, f: ((), function(networks, f)), networks, (features,), POINTS)
        return y, (networks, features)

    def one_backward(networks: dict, features: Array, cotangent: Array) -> Any:
        return jax.vjp(function, networks, features)[1](cotangent)

    def backward(saved: Any, cotangent: Array) -> Any:
        return _in_pieces(one_backward, saved[0], (saved[1], cotangent), POINTS)

    whole = jax.custom_vjp(lambda networks, features: forward(networks, features)[0])
    whole.defvjp(forward, backward)
    return whole


_mix_pieces = piecewise(_mix)


def mix(networks: model.Networks, features: Array) -> Float[Array, "channels points"]:
    """model.mix in pieces."""
    return _mix_pieces(_with_form(dict(networks)), features)


class _Blocks(NamedTuple):
    """Pieces of whole rows: colours within HALO rows more than the block's, and targets, padded to whole blocks.

    `first` is the number of the first target's row in the picture, `rows` that of the picture's rows, `own` that of
    the targets' before padding.
    """

    padded: Array
    targets: Array
    first: Array | int
    rows: Array | int
    own: int
    block: int

    @property
    def starts(self) -> Array:
        return self.block * jnp.arange(self.targets.shape[1] // self.block)

    def piece(self, start: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(self.padded, start, self.block + 2 * HALO, 1)

    def error(self, networks: dict, piece: Array, start: Array) -> Array:
        """Sum of squared differences in the block's rows; the clamp passes gradients."""
        wanted = jax.lax.dynamic_slice_in_dim(self.targets, start, self.block, 1)
        last = jnp.minimum(self.own, self.rows - self.first)
        inside = (start + jnp.arange(self.block) < last)[:, None]
        painted = _filtered(networks, piece, self.first + start - HALO, self.rows)
        clamped = painted + jax.lax.stop_gradient(jnp.clip(painted, 0, 1) - painted)
        return (inside * (clamped - wanted) ** 2).sum()


def _blocks(y: Array, target: Array, first: Array | int, rows: Array | int) -> _Blocks:
    _, own, columns = target.shape
    block = max(1, min(own, max(BLOCK_ROWS, POINTS // columns)))
    if model.together():
        block = max(2 * HALO, block)  # a block's halo then ends in the next block
    padding = ((0, 0), (0, -own % block), (0, 0))
    return _Blocks(jnp.pad(y, padding), jnp.pad(target, padding), first, rows, own, block)


@jax.custom_vjp
def squared_error(networks: dict, y: Array, target: Array, first: Array | int, rows: Array | int) -> Float[Array, ""]:
    """Sum of squared differences of the filtered, clamped picture from `target`; the clamp passes gradients.

    Args:
        networks: those of FILTER_NAMES.
        y: colours before the filters, HALO rows more on either side than `target`; outside the picture, edge rows.
        target: rows `first`, `first` + 1, ... of a picture of `rows` rows; what is beyond counts nothing.
    """
    blocks = _blocks(y, target, first, rows)
    return jax.lax.map(lambda start: blocks.error(networks, blocks.piece(start), start), blocks.starts).sum()


def _error_forward(networks: dict, y: Array, target: Array, first: Array | int, rows: Array | int) -> tuple[Array, Any]:
    blocks = _blocks(y, target, first, rows)
    if model.together():
        value, for_networks, gradient = _error_at_once(networks, blocks)
        return value, (for_networks, gradient[:, : y.shape[1]])

    def body(carry: Any, start: Array) -> tuple[Any, None]:
        total, gradient = carry
        piece = blocks.piece(start)
        value, (for_networks, for_piece) = jax.value_and_grad(blocks.error, (0, 1))(networks, piece, start)
        old = jax.lax.dynamic_slice_in_dim(gradient, start, piece.shape[1], 1)
        gradient = jax.lax.dynamic_update_slice_in_dim(gradient, old + for_piece, start, 1)
        return (jax.tree.map(jnp.add, total, (value, for_networks)), gradient), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, networks))
    ((value, for_networks), gradient), _ = jax.lax.scan(body, (zero, jnp.zeros_like(blocks.padded)), blocks.starts)
    return value, (for_networks, gradient[:, : y.shape[1]])


def _error_at_once(networks: dict, blocks: _Blocks) -> tuple[Array, Any, Array]:
    """The error and its gradients for networks and padded colours, all blocks side by side."""
    pieces = jax.vmap(blocks.piece)(blocks.starts)
    each = jax.vmap(jax.value_and_grad(blocks.error, (0, 1)), (None, 0, 0))(networks, pieces, blocks.starts)
    value, (for_networks, for_piece) = each
    # [channels, blocks, rows, columns]: the first rows of each, and the others at the head of the next one
    for_piece = jnp.moveaxis(for_piece, 0, 1)
    head, tail = for_piece[:, :, : blocks.block], for_piece[:, :, blocks.block :]
    height = 2 * HALO + head.shape[1] * blocks.block
    tail = jnp.pad(tail, ((0, 0), (1, 0), (0, blocks.block - 2 * HALO), (0, 0)))
    head = jnp.pad(head, ((0, 0), (0, 1), (0, 0), (0, 0)))
    gradient = (head + tail).reshape(len(head), -1, head.shape[-1])[:, :height]
    value, for_networks = jax.tree.map(lambda e: e.sum(0), (value, for_networks))
    return value, for_networks, gradient


def _filtered(networks: dict, piece: Array, first_row: Array | int, rows: Array | int) -> Array:
    """model.filtered of the rows of `piece` but two at either end; `first_row` is its first row's number."""
    first = piece[:, 1:-1] + _convolve_inner(networks["filter_1"], piece)
    # outside the picture the second filter repeats the first one's edge rows, not filters of repeated rows
    number = (first_row + 1 + jnp.arange(first.shape[1]))[:, None]
    below, above = (jnp.concatenate(two, 1) for two in ((first[:, 1:], first[:, -1:]), (first[:, :1], first[:, :-1])))
    first = jnp.where(number < 0, below, jnp.where(number >= rows, above, first))
    second = _convolve_inner(networks["filter_2"], jax.nn.relu(first + networks["filter_bias"][:, None, None]))
    return first[:, 1:-1] + second + networks["bias"][:, None, None]


def _convolve_inner(kernel: Array, y: Array) -> Array:
    """model.convolve of all rows but the first and last, which are only looked at."""
    channels, rows, columns = y.shape
    padded = jnp.pad(y, ((0, 0), (0, 0), (1, 1)), mode="edge")
    patches = jnp.stack([padded[:, i : i + rows - 2, j : j + columns] for i in range(3) for j in range(3)], 1)
    product = kernel.reshape(channels, -1) @ patches.reshape(channels * 9, -1)
    return product.reshape(channels, rows - 2, columns)


squared_error.defvjp(_error_forward, lambda gradients, cotangent: (*_scaled(gradients, cotangent), None, None, None))


def latent_bits(networks: model.Networks, grids: list[Array], part: Part = WHOLE) -> Float[Array, ""]:
    """Bits of this part of the latents."""
    if part.parts > 1:
        columns = strips.context_columns(networks, grids, strips.strip_of(part, len(grids[0])), part)
    else:
        y = jnp.concatenate([grid.ravel() for grid in grids])
        columns = (model.context_inputs(grids), model.grid_scales(networks, grids), y, jnp.ones(y.shape, bool))
    return context_bits(subset(networks, CONTEXT_NAMES), *columns)


def mean_squared_error(
    networks: model.Networks, grids: list[Array], target: Float[Array, "channels height width"], part: Part = WHOLE
) -> Float[Array, ""]:
    """This part's share of the painted picture's mean squared error."""
    channels, rows, width = target.shape
    filters = subset(networks, FILTER_NAMES)
    if part.parts > 1:
        strip = strips.strip_of(part, rows)
        features = strips.features(grids, networks["upsampling"], strip)
        mixed = mix(networks, features.reshape(len(grids), -1)).reshape(channels, -1, width)
        target = jnp.pad(target, ((0, 0), (0, strip.missing), (0, 0)))
        target = jax.lax.dynamic_slice_in_dim(target, strip.first, strip.height, 1)
        return squared_error(filters, mixed, target, strip.first, rows) / (channels * rows * width)
    features = model.upsample(grids, networks.get("upsampling"))
    mixed = mix(networks, features.reshape(len(grids), -1)).reshape(target.shape)
    mixed = jnp.pad(mixed, ((0, 0), (HALO, HALO), (0, 0)), mode="edge")
    return squared_error(filters, mixed, target, 0, rows) / target.size


def loss(
    networks: model.Networks,
    grids: list[Array],
    target: Float[Array, "channels height width"],
    rate_weight: ArrayLike,
    part: Part = WHOLE,
) -> tuple[Array, dict[str, Array]]:
    """Mean squared error + rate_weight * bits per pixel, and both parts; of this part of the picture."""
    error = mean_squared_error(networks, grids, target, part)
    bits_per_pixel = latent_bits(networks, grids, part) / (target.shape[1] * target.shape[2])
    return error + rate_weight * bits_per_pixel, {"squared_error": error, "bits_per_pixel": bits_per_pixel}
