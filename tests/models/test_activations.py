"""Activations and pooling by their definitions (Sevkovych 2023)."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models.activations import ACTIVATIONS, LEAKY_SLOPE, pool


def test_activations_are_their_formulas():
    t = np.linspace(-3, 3, 13)
    expected = {
        "relu": np.maximum(0, t),
        "leaky_relu": np.where(t > 0, t, LEAKY_SLOPE * t),
        "sigmoid": 1 / (1 + np.exp(-t)),
        "silu": t / (1 + np.exp(-t)),
        "tanh": np.tanh(t),
        "identity": t,
    }
    assert set(expected) == set(ACTIVATIONS)
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(t)), values, atol=1e-6)


@pytest.mark.parametrize(("kind", "reduce"), [("average", np.mean), ("min", np.min), ("max", np.max)])
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_is_its_window(kind, reduce, stride):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    pooled = np.asarray(pool(jnp.asarray(x), kind, (3, 2), stride))
    rows, columns = range(0, 5 - 3 + 1, stride), range(0, 6 - 2 + 1, stride)
    expected = np.stack([np.stack([reduce(x[:, i : i + 3, j : j + 2], (1, 2)) for j in columns], 1) for i in rows], 1)
    assert pooled.shape == expected.shape and (stride > 1 or pooled.shape[1:3] == (3, 5))  # M - p + 1
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_a_window_must_fit():
    with pytest.raises(ValueError, match="does not fit"):
        pool(jnp.zeros((1, 2, 2, 1)), "max", (3, 1))
    with pytest.raises(ValueError, match="median"):
        pool(jnp.zeros((1, 2, 2, 1)), "median", (1, 1))
