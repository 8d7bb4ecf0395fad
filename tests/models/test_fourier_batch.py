"""The layer for generators: one set of coefficients a picture, against a loop over pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models.fourier import coefficient_count, fourier_layer, fourier_net, split_coefficients
from dfm.models.fourier_batch import fourier_layer_batch, fourier_net_batch
from dfm.models.literal_fourier import literal_layer


def arrays(m, n, names, batch=3, points=7, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, points, m)).astype(np.float32)
    return x, {name: rng.normal(size=(batch, 2**m, n)).astype(np.float32) / 2 ** (m / 2) for name in names}


@pytest.mark.parametrize("names", [("cas",), ("cos", "sin")])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 3), (2, 4), (3, 3), (4, 4), (4, 1), (5, 2), (6, 6), (7, 3), (8, 8)])
def test_equals_a_loop_over_pictures(m, n, names):
    x, coefficients = arrays(m, n, names)
    y = fourier_layer_batch(jnp.swapaxes(x, 1, 2), {name: jnp.asarray(value) for name, value in coefficients.items()})
    for picture in range(len(x)):
        one = {name: value[picture] for name, value in coefficients.items()}
        np.testing.assert_allclose(y[picture].T, fourier_layer(x[picture], one), atol=1e-5)
        np.testing.assert_allclose(y[picture].T, literal_layer(x[picture], one), atol=2e-5)


@pytest.mark.parametrize(("width", "depth", "channels"), [(4, 6, 1), (6, 10, 3)])
def test_nets_of_the_thesis_equal_a_loop_over_pictures(width, depth, channels):
    widths, rng = (width,) * depth, np.random.default_rng(1)
    vectors = jnp.asarray(rng.normal(size=(4, coefficient_count(widths, channels, "cas"))) * 0.01, jnp.float32)
    points = jnp.asarray(rng.uniform(size=(11, 2)), jnp.float32)
    painted = fourier_net_batch(split_coefficients(vectors, widths, channels), points)
    for picture, vector in zip(painted, vectors, strict=True):
        expected = fourier_net(split_coefficients(vector, widths, channels), points)
        np.testing.assert_allclose(picture, expected, atol=1e-5)


def test_gradients_equal_those_of_the_loop():
    x, coefficients = arrays(3, 3, ("cas",), batch=2)

    def batched(x, cas):
        return (fourier_layer_batch(jnp.swapaxes(x, 1, 2), {"cas": cas}) ** 2).sum()

    def looped(x, cas):
        return sum((fourier_layer(x[i], {"cas": cas[i]}) ** 2).sum() for i in range(len(x)))

    arguments = jnp.asarray(x), jnp.asarray(coefficients["cas"])
    found = jax.jit(jax.grad(batched, argnums=(0, 1)))(*arguments)
    expected = jax.jit(jax.grad(looped, argnums=(0, 1)))(*arguments)
    for gradient, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-4)


def test_bfloat16_coefficients_are_evaluated_in_float32():
    x, coefficients = arrays(3, 3, ("cas",))
    low = {"cas": jnp.asarray(coefficients["cas"], jnp.bfloat16)}
    same = {"cas": low["cas"].astype(jnp.float32)}
    y = fourier_layer_batch(jnp.swapaxes(x, 1, 2), low)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, fourier_layer_batch(jnp.swapaxes(x, 1, 2), same))
