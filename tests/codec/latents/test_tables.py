"""Tables of Laplace distributions and of sines, made from integers."""

import numpy as np

from dfm.codec import entropy
from dfm.codec.latents import painting, tables

TABLES_HASH = "4b69be2184fd739dbc097ab62b66306f23a46ab807c09c8d4ee46e050601e5ae"


def test_every_row_sums_to_the_coders_total():
    table = tables.frequencies()
    assert table.shape == (tables.FRACTIONS, tables.SCALES, tables.SYMBOLS)
    assert table.min() >= 1 and (table.sum(-1) == entropy.TOTAL).all()


def test_frequencies_are_the_laplace_distributions():
    """Against float64, but for the one count that every symbol has at least."""
    scale = 2.0 ** ((np.arange(tables.SCALES)[:, None] - 40) / 8)
    centre = (np.arange(tables.FRACTIONS)[:, None, None] - 8) / 16
    edges = np.arange(-tables.REACH, tables.REACH + 2) - 0.5 - centre
    cumulative = np.where(edges < 0, np.exp(edges / scale) / 2, 1 - np.exp(-edges / scale) / 2)
    expected = np.diff(cumulative) * entropy.TOTAL
    assert np.abs(tables.frequencies()[..., : tables.ESCAPE] - expected).max() <= tables.SYMBOLS + 1


def test_tables_never_change():
    """Files of this format are read with these tables for ever."""
    assert tables.tables_hash() == TABLES_HASH


def test_sines_are_rounded_to_nearest():
    size = 2**painting.TURN_BITS
    exact = 2**painting.SINE_BITS * np.sin(2 * np.pi * np.arange(size) / size)
    assert np.abs(painting.sine_table() - exact).max() <= 0.5 + 1e-9
