"""Latents to a range-coded stream and back, wave by wave: latents with equal x + 2 y are predicted together.

Encoder and decoder walk the same way through the same code; only where a symbol comes from differs.
"""

from collections.abc import Callable

import numpy as np

from dfm.codec import entropy
from dfm.codec.latents import context, shapes, tables
from dfm.codec.latents.context import Context, Prediction, Surroundings
from dfm.errors import UserError
from dfm.shapes import Float, Int

Grid = Int[np.ndarray, "rows columns"]
Symbols = Int[np.ndarray, "n"]
# (place in the flat grid, latents of symbol 0, table rows) -> latents
Exchange = Callable[[slice, Symbols, Symbols], Symbols]


def encode_grid(encoder: entropy.Encoder, model: Context, number: int, grid: Grid, coarse: Grid | None) -> None:
    """Appends grid `number`, given the next coarser one (None for the coarsest)."""
    flat = grid.ravel()

    def put(place: slice, first: Symbols, rows: Symbols) -> Symbols:
        latents = flat[place]
        symbols = _symbols(latents, first)
        encoder.put_each(symbols, tables.coder_rows().take(rows, 0))
        escaped = latents[symbols == tables.ESCAPE]
        if escaped.size:
            encoder.put_each(escaped + shapes.LATENT_LIMIT, _uniform(len(escaped)))
        return latents

    _walk(Surroundings(grid.shape, coarse, model.dtype), Prediction(model, number), put)


def decode_grid(
    decoder: entropy.Decoder, model: Context, number: int, shape: tuple[int, int], coarse: Grid | None
) -> tuple[Grid, float]:
    """The next grid of the stream, and its bits by the tables; UserError for latents out of range."""
    table = tables.coder_rows()
    coded: list[tuple[Symbols, Symbols]] = []

    def get(place: slice, first: Symbols, rows: Symbols) -> Symbols:
        symbols = decoder.get_each(table.take(rows, 0))
        coded.append((rows, symbols))
        latents = symbols + first
        escaped = symbols == tables.ESCAPE
        count = int(np.count_nonzero(escaped))
        if count:
            latents[escaped] = decoder.get_each(_uniform(count)) - shapes.LATENT_LIMIT
        return latents

    surroundings = Surroundings(shape, coarse, model.dtype)
    _walk(surroundings, Prediction(model, number), get)
    grid = surroundings.grid()
    # a damaged stream may leave the range, by REACH at most
    if grid.min() < -shapes.LATENT_LIMIT or grid.max() >= shapes.LATENT_LIMIT:
        raise UserError("the coded latents are damaged")
    rows, symbols = (np.concatenate(each) for each in zip(*coded, strict=True))
    return grid, float(tables.bits()[rows, symbols].sum())


def code_lengths(model: Context, number: int, grid: Grid, coarse: Grid | None) -> float:
    """Bits that `encode_grid` takes, from the tables."""
    rows, columns = grid.shape
    padded = np.pad(grid, ((shapes.REACH_UP, 0), (shapes.REACH_LEFT, shapes.REACH_RIGHT)))
    above = context.parents(coarse, rows, columns)
    total, band = 0.0, max(1, 2**14 // columns)
    for first in range(0, rows, band):
        last = min(first + band, rows)
        near = [
            padded[shapes.REACH_UP + dy + first :, shapes.REACH_LEFT + dx :][: last - first, :columns]
            for dx, dy in shapes.NEIGHBOURS
        ]
        inputs = np.concatenate([np.stack(near), above[:, first:last]]).reshape(shapes.CONTEXT_INPUTS, -1)
        nearest, row = context.predict(model, inputs, number)
        total += tables.bits()[row, _symbols(grid[first:last].ravel(), nearest - tables.REACH)].sum()
    return float(total)


def _walk(surroundings: Surroundings, predict: Prediction, exchange: Exchange) -> None:
    for wave in surroundings.waves():
        first, rows = predict(surroundings.inputs(wave))
        surroundings.put(wave, exchange(surroundings.place(wave), first, rows))


def _symbols(latents: Symbols, first: Symbols) -> Symbols:
    symbols = latents - first
    return np.where((symbols >= 0) & (symbols < tables.ESCAPE), symbols, tables.ESCAPE)


def _uniform(count: int) -> Float[np.ndarray, "count values"]:
    values = 2 * shapes.LATENT_LIMIT
    return np.full((count, values), entropy.TOTAL // values - 1.0)
