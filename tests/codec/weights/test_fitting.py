"""The training loop: batches whose pictures do not meet, parts of a training, divergence, padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.codec.retreats import MAX_RETREATS
from dfm.codec.weights import fitting, painting
from dfm.codec.weights.fitting import Schedule
from dfm.codec.weights.recipes import DEFAULT
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.models.literal_fourier import literal_net
from dfm.picture_files import downscale

pytestmark = pytest.mark.usefixtures("quick_compilation")
WIDTHS = (2, 2)
STEPS = 60


def fit(recipe, image, total=300, stop=None, seed=0, widths=WIDTHS):
    """State of a fit from its start, and the mean squared error of its output on all pixels."""
    pixels, key = fitting.stack_pictures([image]), jax.random.key(seed)
    state = fitting.start(recipe, widths, pixels, "cos_sin", key)
    state = fitting.train(recipe, state, pixels, key, Schedule(0, stop or total, total))
    return state, error_of(state.layers, image, recipe.input_scale)


def error_of(layers, image, input_scale):
    height, width, channels = image.shape
    rows, columns = (np.indices((height, width)) + 0.5).reshape(2, -1)
    x = np.stack([columns / width, rows / height], -1).astype(np.float32) * input_scale
    painted = jax.jit(literal_net)([{name: c[0] for name, c in layer.items()} for layer in layers], jnp.asarray(x))
    return float(jnp.mean((painted - (image.reshape(-1, channels) / 127.5 - 1)) ** 2))


def test_four_devices_fit_as_one_does(photo, other_photograph):
    """The batch lies on all virtual devices; its nets are those of one device."""
    if len(jax.devices()) != 4:
        pytest.skip("the default backend has not four devices; tests/conftest.py gives four to the CPU alone")
    flower = np.ascontiguousarray(downscale(other_photograph, 18)[:12, :16])
    pixels = fitting.stack_pictures([photo, flower, photo[::-1], flower[::-1]])
    key, schedule = jax.random.key(0), Schedule(0, STEPS, STEPS)
    state = fitting.start(DEFAULT, WIDTHS, pixels, "cos_sin", key)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {4}
    one_device = jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), jax.devices()[0]), state)
    sharded = fitting.train(DEFAULT, state, pixels, key, schedule)
    single = fitting.train(DEFAULT, one_device, pixels, key, schedule)
    for found, expected in zip(jax.tree.leaves(sharded.layers), jax.tree.leaves(single.layers), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_pictures_of_a_batch_do_not_meet(photo):
    """A picture's net is the same whatever lies beside it (equal starts by equal places)."""
    pixels = [fitting.stack_pictures([photo, other]) for other in (photo[::-1], np.full_like(photo, 9))]
    key, found = jax.random.key(3), []
    for each in pixels:
        state = fitting.start(DEFAULT, WIDTHS, each, "cos_sin", key)
        found.append(fitting.train(DEFAULT, state, each, key, Schedule(0, 20, STEPS)))
    for one, other in zip(*(jax.tree.leaves(state.layers) for state in found), strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-6)


def test_training_in_parts_is_training(photo):
    pixels, key = fitting.stack_pictures([photo]), jax.random.key(1)
    start = fitting.start(DEFAULT, WIDTHS, pixels, "cos_sin", key)
    copy = jax.tree.map(jnp.copy, start)
    whole = fitting.train(DEFAULT, start, pixels, key, Schedule(0, 100, 100))
    halves = fitting.train(DEFAULT, copy, pixels, key, Schedule(0, 50, 100))
    halves = fitting.train(DEFAULT, halves, pixels, key, Schedule(50, 100, 100))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True):
        np.testing.assert_array_equal(one, other)


def test_diverging_fit_goes_on_slower(photo):
    """At sixty times the usual rate."""
    wild = dataclasses.replace(DEFAULT, learning_rate=0.8)
    retreated, error = fit(wild, photo, total=1000)
    left_alone, error_alone = fit(dataclasses.replace(wild, retreats=False), photo, total=1000)
    assert float(retreated.rate[0]) < 1 and float(left_alone.rate[0]) == 1
    assert error < 0.8 * error_alone and error < 0.8 * np.var(photo / 127.5, (0, 1)).mean()


def test_good_fit_keeps_its_rate(photo):
    state, error = fit(DEFAULT, photo)
    assert float(state.rate[0]) == 1
    assert error < 0.8 * np.var(photo / 127.5, (0, 1)).mean()


def test_only_the_picture_that_diverges_goes_back(photo):
    pixels, key = fitting.stack_pictures([photo, photo]), jax.random.key(0)
    state = fitting.start(DEFAULT, WIDTHS, pixels, "cos_sin", key)
    state = state._replace(rate=jnp.array([1.0, 1e3]))
    state = fitting.train(DEFAULT, state, pixels, key, Schedule(0, 200, 200))
    assert float(state.rate[0]) == 1 and float(state.rate[1]) < 1e3
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))
    assert error_of(state.layers, photo, DEFAULT.input_scale) < 0.5


@pytest.mark.parametrize("retreats", [True, False])
def test_hopeless_fit_is_an_error(photo, retreats):
    wild = dataclasses.replace(DEFAULT, learning_rate=np.inf, retreats=retreats)
    with pytest.raises(UserError, match="diverged"):
        fit(wild, photo, total=50 * (MAX_RETREATS + 3))


def test_padding_of_a_smaller_picture_weighs_nothing(photo):
    """A picture that is fitted beside a larger one, all pixels a step, sees each of its own pixels once."""
    small, rate = photo[:5], dataclasses.replace(DEFAULT, schedule="constant", retreats=False)
    both = fitting.stack_pictures([small, photo])
    alone = fitting.stack_pictures([small])
    key = jax.random.key(0)
    pair = fitting.start(rate, WIDTHS, both, "cos_sin", key)
    single = fitting.start(rate, WIDTHS, alone, "cos_sin", key)
    first = [{name: c[:1] for name, c in layer.items()} for layer in pair.layers]
    single = single._replace(layers=jax.tree.map(jnp.copy, first))
    pair = fitting.train(rate, pair, both, key, Schedule(0, 5, 5))
    single = fitting.train(rate, single, alone, key, Schedule(0, 5, 5))
    for together, apart in zip(pair.layers, single.layers, strict=True):
        for name in together:
            np.testing.assert_allclose(together[name][0], apart[name][0], atol=2e-5)


def test_a_wrecked_start_is_not_kept(photo):
    """A rate that scrambles the net in its first steps: the fit must not go back to the scrambled state."""
    wild = dataclasses.replace(DEFAULT, learning_rate=0.1)  # three halvings above the default
    pixels = fitting.stack_pictures([photo])
    key = jax.random.key(0)
    state = fitting.start(wild, (4, 4, 4), pixels, "cos_sin", key)
    state = fitting.train(wild, state, pixels, key, Schedule(0, 1500, 1500))
    flat = 10 * np.log10(4 / np.var(np.asarray(pixels.values[0]), 0).mean())
    painted = painting.paint(
        [{n: np.asarray(c[0]) for n, c in layer.items()} for layer in state.layers], *photo.shape[:2], wild.input_scale
    )
    assert float(state.rate[0]) < 1 and psnr(painted, photo) > flat + 1
