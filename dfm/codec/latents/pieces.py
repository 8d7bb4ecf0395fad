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

from dfm.codec.latents import model
from dfm.models.fourier_kernels import cos_sin_pi

POINTS = 2048  # a piece; see scripts/bench_latent_codec.py
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
def context_bits(networks: dict, inputs: Array, grid_scale: Array, y: Array) -> Float[Array, ""]:
    """Bits of the latents y under the context model; see model.rate."""
    # the padding of the last piece weighs nothing
    columns = (inputs, grid_scale, y, jnp.ones_like(y))
    return _in_pieces(lambda *piece: (_piece_bits(*piece), ()), networks, columns, POINTS)[0]


def _context_forward(networks: dict, inputs: Array, grid_scale: Array, y: Array) -> tuple[Array, Any]:
    def one_piece(*piece: Any) -> Any:
        value, gradients = jax.value_and_grad(_piece_bits, (0, 1, 2, 3))(*piece)
        return (value, gradients[0]), gradients[1:]

    columns = (inputs, grid_scale, y, jnp.ones_like(y))
    (value, for_networks), others = _in_pieces(one_piece, networks, columns, POINTS)
    return value, (for_networks, *others)


def _scaled(gradients: Any, cotangent: Array) -> Any:
    return jax.tree.map(lambda gradient: cotangent * gradient, gradients)


context_bits.defvjp(_context_forward, lambda gradients, cotangent: _scaled(gradients, cotangent))


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


HALO = 2  # rows that two 3x3 filters look at beyond their own


class _Blocks(NamedTuple):
    """Pieces of whole rows: colours within HALO rows more than the block's, and targets, padded to whole blocks."""

    padded: Array
    targets: Array
    rows: int
    block: int

    @property
    def starts(self) -> Array:
        return self.block * jnp.arange(self.targets.shape[1] // self.block)

    def piece(self, start: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(self.padded, start, self.block + 2 * HALO, 1)

    def error(self, networks: dict, piece: Array, start: Array) -> Array:
        """Sum of squared differences in the block's rows; the clamp passes gradients."""
        wanted = jax.lax.dynamic_slice_in_dim(self.targets, start, self.block, 1)
        inside = (start + jnp.arange(self.block) < self.rows)[:, None]
        painted = _filtered(networks, piece, start - HALO, self.rows)
        clamped = painted + jax.lax.stop_gradient(jnp.clip(painted, 0, 1) - painted)
        return (inside * (clamped - wanted) ** 2).sum()


def _blocks(y: Array, target: Array) -> _Blocks:
    _, rows, columns = y.shape
    block = max(1, min(rows, POINTS // columns))
    if model.together():
        block = max(2 * HALO, block)  # a block's halo then ends in the next block
    missing = -rows % block
    padded = jnp.pad(y, ((0, 0), (HALO, HALO + missing), (0, 0)), mode="edge")
    return _Blocks(padded, jnp.pad(target, ((0, 0), (0, missing), (0, 0))), rows, block)


@jax.custom_vjp
def squared_error(networks: dict, y: Array, target: Array) -> Float[Array, ""]:
    """Sum of squared differences of the filtered, clamped picture from `target`; the clamp passes gradients."""
    blocks = _blocks(y, target)
    return jax.lax.map(lambda start: blocks.error(networks, blocks.piece(start), start), blocks.starts).sum()


def _error_forward(networks: dict, y: Array, target: Array) -> tuple[Array, Any]:
    blocks = _blocks(y, target)
    if model.together():
        return _error_at_once(networks, blocks)

    def body(carry: Any, start: Array) -> tuple[Any, None]:
        total, gradient = carry
        piece = blocks.piece(start)
        value, (for_networks, for_piece) = jax.value_and_grad(blocks.error, (0, 1))(networks, piece, start)
        old = jax.lax.dynamic_slice_in_dim(gradient, start, piece.shape[1], 1)
        gradient = jax.lax.dynamic_update_slice_in_dim(gradient, old + for_piece, start, 1)
        return (jax.tree.map(jnp.add, total, (value, for_networks)), gradient), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, networks))
    ((value, for_networks), gradient), _ = jax.lax.scan(body, (zero, jnp.zeros_like(blocks.padded)), blocks.starts)
    return value, (for_networks, _inner(gradient, blocks.rows))


def _inner(gradient: Array, rows: int) -> Array:
    """Of the rows of the picture; rows of the padding are copies of the edge."""
    inner = gradient[:, HALO : HALO + rows]
    inner = inner.at[:, 0].add(gradient[:, :HALO].sum(1))
    return inner.at[:, -1].add(gradient[:, HALO + rows :].sum(1))


def _error_at_once(networks: dict, blocks: _Blocks) -> tuple[Array, Any]:
    """`_error_forward` with all blocks side by side."""
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
    return value, (for_networks, _inner(gradient, blocks.rows))


def _filtered(networks: dict, piece: Array, first_row: Array, rows: int) -> Array:
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


squared_error.defvjp(_error_forward, lambda gradients, cotangent: (*_scaled(gradients, cotangent), None))


def loss(
    networks: model.Networks, grids: list[Array], target: Float[Array, "channels height width"], rate_weight: ArrayLike
) -> tuple[Array, dict[str, Array]]:
    """Mean squared error + rate_weight * bits per pixel, and both parts."""
    y = jnp.concatenate([grid.ravel() for grid in grids])
    bits = context_bits(
        subset(networks, CONTEXT_NAMES), model.context_inputs(grids), model.grid_scales(networks, grids), y
    )
    features = model.upsample(grids, networks.get("upsampling")).reshape(len(grids), -1)
    mixed = mix(networks, features).reshape(target.shape)
    error = squared_error(subset(networks, FILTER_NAMES), mixed, target) / target.size
    bits_per_pixel = bits / (target.shape[1] * target.shape[2])
    return error + rate_weight * bits_per_pixel, {"squared_error": error, "bits_per_pixel": bits_per_pixel}
