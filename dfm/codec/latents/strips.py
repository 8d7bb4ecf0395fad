"""What one of several cores needs of upsample and context_inputs in model.py: its rows of the finest grid.

Three quarters of the latents and of the upsampling belong to the finest grid. Every core takes a strip of its rows, and
of the coarser latents a share; the coarser grids' own upsampling is done by all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dfm.codec.latents import model, shapes
from dfm.codec.latents.cores import Part

HALO = 2  # rows that two 3x3 filters look at beyond their own
REACH = 2  # rows that the upsampling filter looks at beyond its own


class Strip(NamedTuple):
    """`height` rows from row `first` on, both even; the last strip may reach beyond the picture's `rows`."""

    first: Array | int
    height: int
    rows: int
    parts: int

    @property
    def missing(self) -> int:
        """Rows of all strips together beyond the picture."""
        return self.height * self.parts - self.rows


def strip_of(part: Part, rows: int) -> Strip:
    height = 2 * -(-rows // (2 * part.parts))
    return Strip(part.number * height, height, rows, part.parts)


def features(grids: Sequence[Array], taps: Array, strip: Strip) -> Float[Array, "grids rows width"]:
    """model.upsample's rows of the strip and HALO more on either side; edge rows are repeated outside the picture."""
    width = grids[0].shape[1]
    coarse = model.upsample(grids[1:], taps[1:])
    above = HALO // 2 + REACH
    padded = jnp.pad(coarse, ((0, 0), (above, above + strip.missing // 2 + 1), (0, 0)), mode="edge")
    own = jax.lax.dynamic_slice_in_dim(padded, strip.first // 2, strip.height // 2 + 2 * above, 1)
    own = model.interleaved_phases(own, taps[0], 1)
    number = (strip.first - HALO + jnp.arange(own.shape[1]))[:, None]
    last = jax.lax.dynamic_slice_in_dim(own, strip.rows - 1 - strip.first + HALO, 1, 1)
    own = jnp.where(number < 0, own[:, HALO : HALO + 1], jnp.where(number >= strip.rows, last, own))
    finest = jnp.pad(grids[0], ((HALO, HALO + strip.missing), (0, 0)), mode="edge")
    finest = jax.lax.dynamic_slice_in_dim(finest, strip.first, strip.height + 2 * HALO, 0)
    return jnp.concatenate([finest[None], model.double(own, taps[0], 2)[:, :, :width]])


def context_columns(
    networks: model.Networks, grids: Sequence[Array], strip: Strip, part: Part
) -> tuple[Float[Array, "inputs n"], Float[Array, "n"], Float[Array, "n"], Bool[Array, "n"]]:
    """Inputs of the context model, grid scales and values of this part's latents, and which of them count."""
    width = grids[0].shape[1]
    up, sides = shapes.REACH_UP, (shapes.REACH_LEFT, shapes.REACH_RIGHT)
    padded = jnp.pad(grids[0], ((up, strip.missing), sides))
    own = jax.lax.dynamic_slice_in_dim(padded, strip.first, up + strip.height, 0)
    parents = jnp.pad(grids[1], ((1, 1 + strip.missing // 2 + 1), (1, 1)))
    parents = jax.lax.dynamic_slice_in_dim(parents, strip.first // 2, strip.height // 2 + 2, 0)
    inputs = model.neighbours(own, strip.height, width) + model.parents(parents, strip.height, width)
    y = own[up:, sides[0] : sides[0] + width].ravel()
    weight = jnp.repeat(strip.first + jnp.arange(strip.height) < strip.rows, width)
    scale = jnp.broadcast_to(networks["grid_scale"][0], y.shape)
    finest = (jnp.stack(inputs).reshape(shapes.CONTEXT_INPUTS, -1), scale, y, weight)

    rest = jnp.concatenate([grid.ravel() for grid in grids[1:]])
    scales = model.grid_scales({"grid_scale": networks["grid_scale"][1:]}, grids[1:])
    columns = (model.context_inputs(grids[1:]), scales, rest, jnp.ones(rest.shape, bool))
    share = -(-rest.size // part.parts)
    fill = share * part.parts - rest.size
    cut = [jnp.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, fill)]) for column in columns]
    cut = [jax.lax.dynamic_slice_in_dim(column, part.number * share, share, -1) for column in cut]
    return tuple(jnp.concatenate(pair, -1) for pair in zip(finest, cut, strict=True))  # type: ignore[return-value]
