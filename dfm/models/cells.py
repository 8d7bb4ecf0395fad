"""Pictures out of cells: a small Fourier net a cell, each painted in a window of its own, blended without steps.

Cells lie side by side on a grid. A cell paints a window of twice its side around its centre, so that each point lies in
the windows of four cells; tent weights of these four, which sum to one, blend what they paint. Beyond the outermost
centres the nearest cells are alone. A cell's net sees where in its window a point is, on half a period of the basis
(dfm/models/dfm.py says why not more). A tent has a corner, so the picture is continuous but its slope is not: at
the lines through cells' centres it bends, which is invisible at the size of the training and shows where a cell is
painted at many times that.

A window's pixels are painted as one small picture a cell, [slot, slot], and put together by a matrix for each axis, of
which a row holds the two weights of a pixel: A picture B^T is gathering and blending in one, for any resolution.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dfm.models.fourier import Basis, coefficient_count, layer_sizes, split_coefficients
from dfm.models.fourier_batch import fourier_layer_batch
from dfm.models.fourier_kernels import pictures_at_once
from dfm.models.literal_fourier import basis_functions
from dfm.shapes import typechecked

BASIS: Basis = "cas"
FIRST_SCALE, HIDDEN_SCALE, LAST_SCALE = 0.45, 0.1, 0.45  # deviations of the outputs of layers at the start


@dataclasses.dataclass(frozen=True)
class Axis:
    """Rows or columns of a picture, and the cells that paint them.

    Attributes:
        positions: of each slot of each cell's window relative to the cell's centre, in cells: within [-1, 1] but for
            slots that are in no pixel.
        weights: of the slots of all cells in each pixel; rows sum to one.
    """

    positions: Float[np.ndarray, "cells slots"]
    weights: Float[np.ndarray, "pixels cells slots"]


@functools.cache
def axis(pixels: int, cells: int, extent: float) -> Axis:
    """Pixels that divide the first `extent` of these cells' length evenly, 0 < extent <= cells."""
    side = pixels / extent  # of a cell in pixels
    slots = math.ceil(2 * side)
    first = np.floor((np.arange(cells) - 0.5) * side - 0.5).astype(int) + 1  # pixel of each cell's first slot
    positions = (first[:, None] + np.arange(slots) + 0.5) / side - (np.arange(cells) + 0.5)[:, None]
    numbers = np.arange(pixels)
    between = np.clip((numbers + 0.5) / side - 0.5, 0, cells - 1)  # the centres on either side of a pixel, as a number
    lower = np.minimum(np.floor(between).astype(int), max(0, cells - 2))
    weights = np.zeros((pixels, cells, slots))
    for cell, weight in ((lower, 1.0 - (between - lower)), (np.minimum(lower + 1, cells - 1), between - lower)):
        # a weight of zero, or of rounding, may belong to a window that ends just before the pixel
        inside = weight > 1e-9
        weights[numbers[inside], cell[inside], (numbers - first[cell])[inside]] += weight[inside]
    return Axis(positions.astype(np.float32), weights.astype(np.float32))


def cell_coefficient_count(widths: Sequence[int], channels: int) -> int:
    """Numbers that a cell's net takes."""
    return coefficient_count(widths, channels, BASIS)


def coefficient_scales(widths: Sequence[int], channels: int) -> Float[np.ndarray, " count"]:
    """The deviation of each coefficient at the start: scale of its layer's output / sqrt(2^m), m inputs."""
    sizes = layer_sizes(widths, channels)
    scales = [FIRST_SCALE, *[HIDDEN_SCALE] * (len(sizes) - 2), LAST_SCALE]
    return np.concatenate(
        [np.full(2**m * n, scale / 2 ** (m / 2), np.float32) for (m, n), scale in zip(sizes, scales, strict=True)]
    )


@typechecked
def paint_cells(
    vectors: Float[Array, "batch rows columns count"],
    widths: Sequence[int],
    channels: int,
    height: int,
    width: int,
    extent: tuple[float, float],
) -> Float[Array, "batch height width channels"]:
    """Pictures of `height` x `width` pixels, before any bound on their values.

    Args:
        vectors: coefficients of each cell's net, in the order of `split_coefficients`.
        widths: hidden widths of a cell's net.
        extent: rows and columns of cells that the picture covers, such as (3.5, 3.5) of 4 x 4.
    """
    _, rows, columns, _ = vectors.shape
    down, across = axis(height, rows, extent[0]), axis(width, columns, extent[1])
    paint = lambda part: _paint(part, widths, channels, down, across)  # noqa: E731
    batch, points = len(vectors), down.positions.size * across.positions.size
    size = pictures_at_once(batch, points)
    if size == batch:
        return paint(vectors)
    # on a CPU: a few pictures at a time, whose values stay in the cache and are computed again on the way back
    parts = jnp.moveaxis(vectors.reshape(size, batch // size, *vectors.shape[1:]), 1, 0)
    painted = jax.lax.map(jax.checkpoint(paint), parts)
    return jnp.moveaxis(painted, 0, 1).reshape(batch, *painted.shape[2:])


def _paint(vectors: Array, widths: Sequence[int], channels: int, down: Axis, across: Axis) -> Array:
    batch, rows, columns, count = vectors.shape
    cells, slots = rows * columns, (down.positions.shape[1], across.positions.shape[1])
    first, *others = split_coefficients(vectors.reshape(batch, cells, count), widths, channels, BASIS)
    # the first layer's basis does not depend on the picture: one matrix product
    y = jnp.einsum("bcfn,cfp->bcnp", first[BASIS], _first_basis(down, across), precision="highest")
    y = y.reshape(batch * cells, *y.shape[2:])
    for layer in others:
        y = fourier_layer_batch(y, {BASIS: layer[BASIS].reshape(batch * cells, *layer[BASIS].shape[2:])})
    windows = y.reshape(batch, rows, columns, channels, *slots)
    # highest: on a GPU the default is TF32, which shows in smooth pictures
    strips = jnp.einsum("brcnij,yri->bcnjy", windows, down.weights, precision="highest")
    return jnp.einsum("bcnjy,xcj->byxn", strips, across.weights, precision="highest")


def _first_basis(down: Axis, across: Axis) -> Float[np.ndarray, "cells 4 points"]:
    """cas(2 pi k.u) of all slots of all cells; u runs from 1/8 to 5/8 over a window."""
    shape = (*down.positions.shape, *across.positions.shape)  # row, slot, column, slot
    x1 = np.broadcast_to(across.positions, shape)
    x2 = np.broadcast_to(down.positions[:, :, None, None], shape)
    points = 0.375 + 0.25 * np.stack([x1, x2], -1).transpose(0, 2, 1, 3, 4)
    cells, points_of_one = shape[0] * shape[2], shape[1] * shape[3]
    with jax.ensure_compile_time_eval():
        features = np.asarray(basis_functions(jnp.asarray(points.reshape(-1, 2), jnp.float32), BASIS))
    return features.reshape(cells, points_of_one, -1).transpose(0, 2, 1)
