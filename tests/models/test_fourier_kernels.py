"""The sum behind the layer: both layouts, the functions it is made of, and how much of a batch goes through at once."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import jit_as_users_do

from dfm.models import fourier, fourier_batch, fourier_kernels
from dfm.models.fourier_kernels import cos_sin_pi, fourier_sum, pictures_at_once


def test_both_layouts_give_the_same_sum():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 7, 4))
    cos, sin = (jax.random.normal(key, (2, 16, 3)) / 4 for key in keys[1:])
    major = fourier_sum(x, cos, sin, "points_major")
    last = fourier_sum(jnp.swapaxes(x, 1, 2), cos, sin, "points_last")
    np.testing.assert_allclose(jnp.swapaxes(last, 1, 2), major, atol=1e-5)
    k = (np.arange(16)[:, None] >> np.arange(4)) & 1
    phases = 2 * np.pi * np.asarray(x, np.float64) @ k.T
    expected = np.cos(phases) @ np.asarray(cos, np.float64) + np.sin(phases) @ np.asarray(sin, np.float64)
    np.testing.assert_allclose(major, expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["points_major", "points_last"])
def test_a_kernel_behind_the_door_serves_the_layer_and_its_batched_form(layout, monkeypatch):
    asked = []

    def kernel(x, cos, sin):
        asked.append(layout)
        return xla(x, cos, sin) + 1.0

    xla = fourier_kernels.XLA_FORMS[layout]
    x = jnp.linspace(0.0, 1.0, 6).reshape(1, 3, 2)
    coefficients = {"cas": jnp.ones((1, 4, 2)) / 4}
    layer = {
        "points_major": lambda: fourier.fourier_layer(x, coefficients),
        "points_last": lambda: fourier_batch.fourier_layer_batch(jnp.swapaxes(x, 1, 2), coefficients),
    }[layout]
    before = layer()
    monkeypatch.setitem(fourier_kernels.XLA_FORMS, layout, kernel)
    np.testing.assert_allclose(layer(), before + 1.0, atol=1e-6)
    assert asked == [layout]


@pytest.mark.parametrize(
    ("batch", "points", "devices", "size"),
    [(64, 784, 1, 8), (512, 1024, 1, 4), (64, 784, 2, 16), (7, 784, 1, 7), (64, 64, 1, 64), (3, 10**6, 1, 3)],
)
def test_pictures_at_once(batch, points, devices, size, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    assert pictures_at_once(batch, points) == size


def test_an_accelerator_takes_all_at_once(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert pictures_at_once(512, 1024) == 512


def exact_cos_sin_pi(x):
    """Float64 after an exact reduction to one turn: pi x itself would be rounded."""
    turn = math.pi * np.fmod(np.asarray(x, np.float64), 2.0)
    return np.cos(turn), np.sin(turn)


def test_cos_sin_pi_against_float64():
    rng = np.random.default_rng(3)
    near = rng.uniform(-4, 4, 200_000)
    far = rng.choice([-1, 1], 50_000) * 2.0 ** rng.uniform(-30, 40, 50_000)
    x = np.concatenate([near, far, np.arange(-64, 65) / 16, np.nextafter(np.float32(0.25), [-1, 1])]).astype(np.float32)
    for found, expected in zip(jit_as_users_do(cos_sin_pi)(x), exact_cos_sin_pi(x), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.5e-7)


def test_sine_is_relatively_accurate_near_its_zeros():
    x = (2.0 ** np.arange(-40, -2)).astype(np.float32)
    np.testing.assert_allclose(cos_sin_pi(jnp.asarray(x))[1], np.sin(np.pi * x.astype(np.float64)), rtol=3e-7)


def test_multiples_of_half_a_unit_are_exact():
    halves = np.concatenate([np.arange(-40, 41), [2**24 - 1, -(2**24) + 1, 2**31, 2**40, -(2**40)]])
    cosine, sine = cos_sin_pi(jnp.asarray(halves / 2, jnp.float32))
    np.testing.assert_array_equal(cosine, np.array([1, 0, -1, 0])[halves % 4])
    np.testing.assert_array_equal(sine, np.array([0, 1, 0, -1])[halves % 4])


def test_infinities_and_nan_give_nan():
    for part in cos_sin_pi(jnp.array([jnp.inf, -jnp.inf, jnp.nan])):
        assert np.isnan(part).all()
