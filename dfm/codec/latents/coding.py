"""Latents to a range-coded stream and back, wave by wave: latents with equal x + 2 y are predicted together.

Encoder and decoder walk the same way through the same code; only where a symbol comes from differs.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from dfm.codec import entropy
from dfm.codec.latents import context, shapes, tables
from dfm.codec.latents.context import Context, Surroundings

Grid = Int[np.ndarray, "rows columns"]
Symbols = Int[np.ndarray, "n"]
Exchange = Callable[[Symbols, Symbols, Symbols, Symbols], Symbols]  # (x, y, nearest, table rows) -> latents


def encode_grid(encoder: entropy.Encoder, model: Context, number: int, grid: Grid, coarse: Grid | None) -> None:
    """Appends grid `number`, given the next coarser one (None for the coarsest)."""

    def put(x: Symbols, y: Symbols, nearest: Symbols, rows: Symbols) -> Symbols:
        latents = grid[y, x]
        symbols = _symbols(latents, nearest)
        encoder.put_each(symbols, tables.coder_rows()[rows])
        escaped = latents[symbols == tables.ESCAPE]
        if escaped.size:
            encoder.put_each(escaped + shapes.LATENT_LIMIT, _uniform(len(escaped)))
        return latents

    _walk(Surroundings(grid.shape, coarse, np.float64), model, number, put)


def decode_grid(
    decoder: entropy.Decoder, model: Context, number: int, shape: tuple[int, int], coarse: Grid | None
) -> tuple[Grid, float]:
    """The next grid of the stream, and its bits by the tables."""
    bits = 0.0

    def get(x: Symbols, y: Symbols, nearest: Symbols, rows: Symbols) -> Symbols:
        nonlocal bits
        symbols = decoder.get_each(tables.coder_rows()[rows])
        bits += tables.bits()[rows, symbols].sum()
        latents = symbols + (nearest - tables.REACH)
        escaped = symbols == tables.ESCAPE
        count = int(np.count_nonzero(escaped))
        if count:
            latents[escaped] = decoder.get_each(_uniform(count)) - shapes.LATENT_LIMIT
        # a damaged stream may leave the range; what is used stays within it
        return np.clip(latents, -shapes.LATENT_LIMIT, shapes.LATENT_LIMIT - 1)

    surroundings = Surroundings(shape, coarse, model.weights[0].dtype.type)
    _walk(surroundings, model, number, get)
    return surroundings.grid(), float(bits)


def code_lengths(model: Context, number: int, grid: Grid, coarse: Grid | None) -> float:
    """Bits that `encode_grid` takes, from the tables."""
    rows, columns = grid.shape
    surroundings = Surroundings(grid.shape, coarse, np.float64)
    y, x = (place.ravel() for place in np.mgrid[:rows, :columns])
    surroundings.values[surroundings.positions(x, y)] = grid.ravel()
    total, points = 0.0, 2**14
    for first in range(0, len(x), points):
        part = slice(first, first + points)
        nearest, row = context.predict(model, surroundings.inputs(x[part], y[part]), number)
        total += tables.bits()[row, _symbols(grid.ravel()[part], nearest)].sum()
    return float(total)


def _walk(surroundings: Surroundings, model: Context, number: int, exchange: Exchange) -> None:
    rows, columns = surroundings.rows, surroundings.columns
    for wave in range(columns + shapes.WAVE_SLOPE * (rows - 1)):
        first = max(0, -(-(wave - columns + 1) // shapes.WAVE_SLOPE))
        y = np.arange(first, min(rows - 1, wave // shapes.WAVE_SLOPE) + 1)
        if not len(y):
            continue
        x = wave - shapes.WAVE_SLOPE * y
        nearest, table_rows = context.predict(model, surroundings.inputs(x, y), number)
        surroundings.values[surroundings.positions(x, y)] = exchange(x, y, nearest, table_rows)


def _symbols(latents: Symbols, nearest: Symbols) -> Symbols:
    rest = latents - nearest
    return np.where(np.abs(rest) <= tables.REACH, rest + tables.REACH, tables.ESCAPE)


def _uniform(count: int) -> Float[np.ndarray, "count values"]:
    values = 2 * shapes.LATENT_LIMIT
    return np.full((count, values), entropy.TOTAL // values - 1.0)
