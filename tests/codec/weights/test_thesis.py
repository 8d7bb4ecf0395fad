"""The experiment of Asadi 2022: its constants, start, steps and file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dfm import codec
from dfm.codec import container
from dfm.codec.weights import fitting, painting, payload
from dfm.codec.weights.fitting import Schedule
from dfm.codec.weights.payload import Architecture
from dfm.codec.weights.recipes import PRESETS, THESIS
from dfm.models.literal_fourier import literal_net

pytestmark = pytest.mark.usefixtures("quick_compilation", "few_steps_and_nets")
WIDTHS = (2, 2)
STEPS = 60


def test_thesis_constants():
    assert THESIS.learning_rate == 4e-4 and THESIS.schedule == "constant" and not THESIS.scaled_rates
    assert THESIS.batch_pixels == 2**14 and THESIS.coefficient_std == pytest.approx(2e-10**0.5)
    assert THESIS.input_scale == 1 and THESIS.warmup_fraction == 0 and not THESIS.retreats
    assert PRESETS["thesis"].recipe is THESIS


def test_thesis_start():
    layers = fitting.initial_layers(THESIS, (8,) * 6, 3, "cos_sin", 1, jax.random.key(0))
    values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(layers)]).astype(np.float64)
    assert values.size == 22_080 and values.dtype == np.float64
    assert values.var() == pytest.approx(2e-10, rel=0.03) and abs(values.mean()) < 4e-7


@pytest.mark.parametrize("effort,steps", [(None, 10_000), (1, STEPS)])
def test_thesis_file(monkeypatch, effort, steps):
    """22,080 float32 weights, less sin(0) of 51 outputs, in 24 bytes of header and checksums at 400 x 400."""
    schedules = []

    def train(recipe, state, pixels, key, schedule, steps=None, progress=None):
        assert recipe is THESIS and steps is None
        schedules.append(schedule)
        return state

    monkeypatch.setattr(fitting, "train", train)
    monkeypatch.setattr(painting, "paint_net", lambda net, height, width: np.zeros((400, 400, 3), np.uint8))
    data = codec.encode(np.zeros((400, 400, 3), np.uint8), preset="thesis", effort=effort)
    assert len(data) == 88_320 - 4 * 51 + 24 == 88_140
    net = payload.unpack(container.read(data)[1], 3)
    assert net.architecture == Architecture((8,) * 6, 3, "cos_sin", "float32", 1.0)
    assert net.architecture.coefficient_count == 22_080
    assert all(array.dtype == np.float32 for layer in net.layers for array in layer.values())
    assert schedules == [Schedule(0, steps, steps)]


def test_thesis_steps_are_plain_adam(photo):
    """Against optax and the literal net, on the same random pixels; only the batch is smaller than the thesis'."""
    recipe, key, steps = dataclasses.replace(THESIS, batch_pixels=64, coefficient_std=0.1), jax.random.key(2), 12
    pixels = fitting.stack_pictures([photo])
    state = fitting.start(recipe, WIDTHS, pixels, "cos_sin", key)
    layers = [{name: jnp.copy(c[0]) for name, c in layer.items()} for layer in state.layers]
    state = fitting.train(recipe, state, pixels, key, Schedule(0, steps, 10_000))

    height, width, channels = photo.shape
    values = jnp.asarray(photo.reshape(-1, channels) / np.float32(127.5) - 1)

    def loss(layers, index):
        x = jnp.stack([(index % width + 0.5) / width, (index // width + 0.5) / height], -1)
        return jnp.mean((literal_net(layers, x.astype(jnp.float32)) - values[index]) ** 2)

    adam, gradient = optax.adam(4e-4), jax.jit(jax.grad(loss))
    moments = adam.init(layers)
    for step in range(steps):
        index = jax.random.randint(jax.random.fold_in(key, step), (1, 64), 0, height * width)[0]
        updates, moments = adam.update(gradient(layers, index), moments)
        layers = optax.apply_updates(layers, updates)
    for number, layer in enumerate(layers):
        np.testing.assert_allclose(state.layers[number]["cos"][0], layer["cos"], atol=1e-5)
        # sin(0) = 0: that row has no gradient but rounding, which Adam makes large, and nothing depends on it
        np.testing.assert_allclose(state.layers[number]["sin"][0][1:], layer["sin"][1:], atol=1e-5)
