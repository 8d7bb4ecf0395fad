"""The integers of the decoder against the float model that they stand for, and at their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_content import random_content, random_networks

from dfm.codec.latents import context, model, painting, payload, quantization, refinement, shapes, tables
from dfm.codec.latents.fixed_point import WEIGHT_LIMIT
from dfm.codec.latents.shapes import Layout


@pytest.fixture(scope="module")
def networks():
    """Of seven grids, every array away from zero and from being symmetric: no two layers or indices can be swapped."""
    layout = Layout(128, 128, 3, 7)
    return layout, random_networks(layout, spread=4.0)


def test_context_model(networks):
    """Means to half a sixteenth, log2-scales to half an eighth, and what rounding to 8 fractional bits adds."""
    layout, quantized = networks
    integers = quantization.fixed_point(quantized, layout)
    floats = refinement.dequantized(quantized, layout)
    inputs = np.random.default_rng(0).integers(-6, 7, (shapes.CONTEXT_INPUTS, 2000))
    for grid in (0, 3, 6):
        scales = np.full(inputs.shape[1], floats["grid_scale"][grid])
        mean, log2_scale = map(np.asarray, model.context_model(floats, inputs.astype(np.float32), scales))
        nearest, rows = context.predict(context.context(integers), inputs.astype(np.float64), grid)
        fractions, indices = np.divmod(rows, tables.SCALES)
        found_mean = nearest + (fractions - 8) / 16
        found_scale = tables.LOG2_SMALLEST + indices / tables.SCALE_STEPS
        assert np.abs(mean).max() < 60  # where means saturate there is nothing to compare
        assert np.abs(found_mean - mean).max() < 1 / 32 + 0.04
        assert np.abs(found_scale - log2_scale).max() < 1 / 16 + 0.04
        assert len(set(indices)) > 20 and len(set(fractions)) == 16


@pytest.mark.parametrize("first", [0, 2], ids=["picture", "preview"])
@pytest.mark.parametrize("channels", [1, 3])
def test_synthesis(channels, first):
    """Pixels differ by a level where the float model lies at the border of two, and hardly ever by more.

    A preview is the synthesis on the grids of level 2 and coarser at their own resolution, finer ones zero."""
    content = random_content(45 << first, 70 << first, channels, spread=3.0, latent_spread=1.5)
    floats = jax.tree.map(jnp.asarray, refinement.dequantized(content.networks, content.layout))
    grids = [jnp.asarray(content.grids[level], jnp.float32) for level in range(first, content.layout.grids)]
    coarse = model.upsample(grids, floats["upsampling"][first:])
    features = jnp.concatenate([jnp.zeros((first, *coarse.shape[1:])), coarse])
    mixed = model.mix(floats, features.reshape(len(features), -1)).reshape(channels, *coarse.shape[1:])
    expected = np.asarray(model.filtered(floats, mixed)) * 255
    inside = (expected > 1) & (expected < 254)
    assert inside.mean() > 0.2
    found = payload.paint(content, first)
    assert found.shape == (45, 70, channels)
    difference = np.moveaxis(found, -1, 0) - np.clip(expected, 0, 255)
    assert np.abs(difference)[inside].mean() < 0.35  # rounding to whole levels alone makes 0.25
    assert np.percentile(np.abs(difference), 99) < 1.0


def at_their_limits(layout: Layout, seed: int) -> dict[str, np.ndarray]:
    """Every parameter at one end of its range or the other."""
    signs = np.random.default_rng(seed)
    return {
        name: signs.choice([-WEIGHT_LIMIT, WEIGHT_LIMIT], shape) for name, shape in shapes.array_shapes(layout).items()
    }


def exact(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A product of Python's integers, which never wrap."""
    return matrix.astype(object) @ columns.astype(object)


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_extreme_contexts_are_those_of_unlimited_integers(kind):
    layout = Layout(128, 128, 3, 7)
    integers = at_their_limits(layout, 1)
    rng = np.random.default_rng(2)
    inputs = rng.choice([-shapes.LATENT_LIMIT, 0, shapes.LATENT_LIMIT - 1], (shapes.CONTEXT_INPUTS, 300))
    hidden, limit = inputs.astype(object) * 256, context.ACTIVATION_LIMIT
    for number in (1, 2, 3):
        bias = integers[f"context_bias_{number}"].astype(object)[:, None] * 256
        sums = (exact(integers[f"context_weights_{number}"], hidden) + bias + 2048) >> 12
        hidden = np.clip(hidden + np.maximum(sums, 0), -limit, limit) if number < 3 else np.clip(sums, -limit, limit)
    sixteenths = np.clip((hidden[0] + 8) >> 4, -1024, 1023)
    scale = np.clip((hidden[1] + (int(integers["grid_scale"][2]) >> 4) + 5 * 256 + 16) >> 5, 0, tables.SCALES - 1)
    nearest, rows = context.predict(context.context(integers, kind), inputs.astype(kind), 2)
    np.testing.assert_array_equal(nearest, (sixteenths + 8) >> 4)
    np.testing.assert_array_equal(rows, ((sixteenths + 8) & 15) * tables.SCALES + scale)


def test_extreme_taps_are_those_of_unlimited_integers():
    """Features are int32: four taps at their limit on features at theirs must fit."""
    limit = painting.FEATURE_LIMIT
    stack = np.random.default_rng(3).choice([-limit, limit], (2, 5, 40)).astype(np.int32)
    for signs in ([1, 1, 1, 1], [1, -1, 1, -1]):
        taps = painting.TAP_LIMIT * np.array(signs)
        for axis in (1, 2):
            expected = painting.double(stack.astype(object), taps.astype(object), axis)
            np.testing.assert_array_equal(painting.double(stack, taps.astype(np.int32), axis), expected)
            assert {-limit, limit} <= set(expected.ravel())


def test_extreme_colours_are_those_of_unlimited_integers():
    """All sums of the synthesis, in Python's integers."""
    layout = Layout(128, 128, 3, 7)
    integers = at_their_limits(layout, 4)
    features = np.random.default_rng(5).choice([-(2**15), 0, 2**15], (7, 200))
    found = {}
    for kind in (np.float64, np.int64, object):
        matrices = painting.mixing(integers, 7, 0, kind)
        found[kind] = painting.mix(matrices, features, 0, painting.sine_table().astype(kind))
    for kind in (np.float64, np.int64):
        np.testing.assert_array_equal(found[kind], found[object].astype(np.int64))
