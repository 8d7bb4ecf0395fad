"""Latents to streams and back: the same integers, whatever holds them, and as many bytes as the tables say."""

import numpy as np
import pytest
from random_content import random_content

from dfm.codec import entropy
from dfm.codec.latents import coding, context, quantization, tables

SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (3, 500), (16, 16), (61, 75), (257, 131)]


def encoded(content, model) -> bytes:
    encoder = entropy.Encoder()
    for level in reversed(range(content.layout.grids)):
        coding.encode_grid(encoder, model, level, content.grids[level], content.grids.get(level + 1))
    return encoder.finish()


def decoded(data: bytes, content, model) -> dict:
    decoder, grids = entropy.Decoder(data, mirrored=False), {}
    for level in reversed(range(content.layout.grids)):
        shape = content.layout.grid_shapes[level]
        grids[level], _ = coding.decode_grid(decoder, model, level, shape, grids.get(level + 1))
    return grids


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_round_trip_of_all_sizes(size):
    content = random_content(*size, latent_spread=3.0)
    model = context.context(content.integers)
    data = encoded(content, model)
    for level, grid in decoded(data, content, model).items():
        np.testing.assert_array_equal(grid, content.grids[level])


def test_latents_far_from_their_prediction_take_the_escape():
    content = random_content(20, 30)
    content.grids[0][::3, ::4], content.grids[1][1, 2] = 63, -64
    model = context.context(content.integers)
    for level, grid in decoded(encoded(content, model), content, model).items():
        np.testing.assert_array_equal(grid, content.grids[level])


def test_int64_decodes_what_float64_encoded():
    """One stream, two kinds of arithmetic: every table index is the same, or the decode is noise."""
    content = random_content(40, 56, latent_spread=4.0)
    data = encoded(content, context.context(content.integers))
    for level, grid in decoded(data, content, context.context(content.integers, np.int64)).items():
        np.testing.assert_array_equal(grid, content.grids[level])


@pytest.mark.parametrize("spread", [1.0, 2047.0])
def test_indices_stay_within_the_tables(spread):
    """Weights at their limits saturate activations; they never wrap, and both kinds of arithmetic agree."""
    content = random_content(24, 32, spread=spread, latent_spread=40.0)
    content.networks.exponents.update(context=0, context_bias=0)
    integers = quantization.fixed_point(content.networks, content.layout)
    rng = np.random.default_rng(0)
    inputs = rng.integers(-64, 64, (len(integers["context_weights_1"]), 1000))
    found = [
        context.predict(context.context(integers, kind), inputs.astype(kind), 0) for kind in (np.float64, np.int64)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    nearest, rows = found[0]
    assert -64 <= nearest.min() and nearest.max() <= 64
    assert 0 <= rows.min() and rows.max() < tables.FRACTIONS * tables.SCALES


def test_code_lengths_are_those_of_the_stream():
    content = random_content(64, 96, latent_spread=2.0)
    model = context.context(content.integers)
    bits = sum(
        coding.code_lengths(model, level, grid, content.grids.get(level + 1)) for level, grid in content.grids.items()
    )
    assert len(encoded(content, model)) == pytest.approx(bits / 8, abs=1.5)
