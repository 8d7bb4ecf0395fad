"""Eq. 4.8 against NumPy, gradients, and the random pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm import models, objectives
from dfm.errors import UserError

MODEL = dict(name="dfm", height=4, width=5, channels=2, net_width=2, net_depth=2, latent_size=3, decoder_widths=[6])


def build(encoder=False, **settings):
    model = models.build(MODEL | {"encoder_widths": [8] if encoder else []})
    return objectives.build({"name": "reconstruction", "latent_penalty": 0.5, **settings}, model)


def batch(count=3):
    return {"image": jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (count, 4, 5, 2)), jnp.float32)}


def test_equals_equation_4_8_in_numpy():
    objective = build()
    params = jax.jit(objective.init)(jax.random.key(0))
    z = objective.init_latents(jax.random.key(1), 3)
    losses, metrics = jax.jit(lambda z: objective(params, z, batch(), jax.random.key(2)))(z)
    decode = jax.jit(lambda z: objective.model.apply({"params": params}, z, method="decode"))
    painted = np.asarray(decode(z), np.float64)
    square_error = (painted - np.asarray(batch()["image"])) ** 2
    expected = square_error.reshape(3, -1).mean(1) + 0.5 * (np.asarray(z, np.float64) ** 2).sum(1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["mse"], square_error.reshape(3, -1).mean(1), rtol=1e-5)


def test_gradients_flow_to_decoder_and_table():
    objective = build()
    params, z = jax.jit(objective.init)(jax.random.key(0)), objective.init_latents(jax.random.key(1), 3)
    total = lambda params, z: objective(params, z, batch(), jax.random.key(2))[0].sum()  # noqa: E731
    gradients, z_gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(params, z)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert np.all(np.any(z_gradients != 0, axis=1))


def test_gradients_flow_to_decoder_and_encoder():
    objective = build(encoder=True)
    params = jax.jit(objective.init)(jax.random.key(0))
    assert objective.init_latents(jax.random.key(1), 3) is None
    total = lambda params: objective(params, None, batch(), jax.random.key(2))[0].sum()  # noqa: E731
    gradients = jax.jit(jax.grad(total))(params)
    for group in ("encoder", "decoder"):
        assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients[group]))


def test_a_part_of_the_pixels_is_drawn_by_the_key_and_unbiased():
    some, all_pixels = build(points_per_picture=5), build()
    params, z = jax.jit(some.init)(jax.random.key(0)), some.init_latents(jax.random.key(1), 3)
    estimate = jax.jit(lambda key: some(params, z, batch(), key)[1]["mse"])
    first = estimate(jax.random.key(0))
    np.testing.assert_array_equal(first, estimate(jax.random.key(0)))
    assert np.any(first != estimate(jax.random.key(1)))
    mean = np.mean([estimate(jax.random.key(seed)) for seed in range(400)], axis=0)
    np.testing.assert_allclose(mean, all_pixels(params, z, batch(), jax.random.key(0))[1]["mse"], rtol=0.1)


def test_the_table_starts_from_the_stated_variance():
    table = build(latent_variance=2e-2).init_latents(jax.random.key(0), 2000)
    assert np.var(table) == pytest.approx(2e-2, rel=0.1)


@pytest.mark.parametrize("settings", [{"points_per_picture": 21}, {"latent_start": "pac"}, {"latent_penlty": 1.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(UserError, match="objective"):
        build(**settings)
