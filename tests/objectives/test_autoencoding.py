"""Autoencoders: the linear one and PCA, penalties, the discrepancy against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from dfm.models.autoencoder import Autoencoder
from dfm.objectives.autoencoding import MMD_SCALES, Autoencoding, mmd

LINEAR = {"height": 8, "width": 8, "channels": 1, "trunk": "dense", "widths": (), "bottleneck": "point", "latent": (3,)}


def test_a_linear_autoencoder_spans_the_principal_subspace():
    """Trained by gradient descent on real digits; its axes need not be orthogonal (largest principal angle < 0.01)."""
    images = jnp.asarray(load_digits().images[:, :, :, None] / 8 - 1, jnp.float32)
    batch = {"image": images, "label": None, "index": None}
    objective = Autoencoding(Autoencoder(**LINEAR))
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, 1500))

    def step(carry, _):
        params, state = carry
        _, gradients, _ = jax.jit(objective.gradients, static_argnums=4)(params, None, batch, jax.random.key(0), "")
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), state), None

    params = jax.jit(objective.init)(jax.random.key(0))
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 1500))((params, optimizer.init(params)))
    learned = np.linalg.qr(np.asarray(params["decoder"]["Dense_0"]["kernel"], np.float64).T)[0]
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    principal = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:3].T
    cosines = np.linalg.svd(learned.T @ principal, compute_uv=False)
    assert np.arccos(np.clip(cosines.min(), -1, 1)) < 0.01


def test_the_discrepancy_equals_loops_and_is_about_zero_for_equal_distributions():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    y = y[:4]

    def kernel(a, b):
        return sum(2 * 3 * s / (2 * 3 * s + ((a - b) ** 2).sum()) for s in MMD_SCALES)

    within = [np.mean([kernel(a, b) for i, a in enumerate(v) for j, b in enumerate(v) if i != j]) for v in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert float(mmd(jnp.asarray(x), jnp.asarray(y))) == pytest.approx(sum(within) - 2 * across, rel=1e-4)
    keys = jax.random.split(jax.random.key(0), 200)
    found = jax.vmap(lambda k: mmd(*jax.random.normal(k, (2, 50, 3))))(keys)
    assert abs(float(found.mean())) < 3 * float(found.std()) / 200**0.5 and float(found.min()) < 0
    assert float(mmd(jnp.asarray(x), jnp.asarray(y) + 2.0)) > float(found.max())


def test_penalties_join_the_loss():
    images = jnp.asarray(load_digits().images[:8, :, :, None] / 8 - 1, jnp.float32)
    batch = {"image": images, "label": None, "index": None}
    model = Autoencoder(**LINEAR)
    plain = Autoencoding(model)
    params = jax.jit(plain.init)(jax.random.key(0))
    regularised = Autoencoding(model, code_penalty=0.1, decoder_penalty=0.01)
    losses = [
        float(jax.jit(one.gradients, static_argnums=4)(params, None, batch, jax.random.key(1), "")[0]["loss"])
        for one in (plain, regularised)
    ]
    z = model.apply({"params": params}, images, method="encode").mode()
    squares = sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(params["decoder"]))
    expected = 0.05 * float(jnp.square(z).sum(-1).mean()) + 0.01 * squares
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4)


def test_the_discrepancy_joins_the_loss_and_pulls_at_the_encoder():
    images = jnp.asarray(load_digits().images[:8, :, :, None] / 8 - 1, jnp.float32)
    batch = {"image": images, "label": None, "index": None}
    model = Autoencoder(**LINEAR)
    params = jax.jit(Autoencoding(model).init)(jax.random.key(0))

    def found(weight):
        objective = Autoencoding(model, mmd_weight=weight)
        return jax.jit(objective.gradients, static_argnums=4)(params, None, batch, jax.random.key(1), "")[:2]

    def discrepancy(encoder):
        z = model.apply({"params": {**params, "encoder": encoder}}, images, method="encode").mode()
        return mmd(z, jax.random.normal(jax.random.key(1), z.shape))

    (plain, before), (weighted, after) = found(0.0), found(3.0)
    value, gradient = jax.jit(jax.value_and_grad(discrepancy))(params["encoder"])
    assert float(weighted["loss"] - plain["loss"]) == pytest.approx(3.0 * float(value), rel=1e-3)
    jax.tree.map(
        lambda a, b, g: np.testing.assert_allclose(a - b, 3.0 * g, rtol=1e-3, atol=1e-5),
        *(after["encoder"], before["encoder"], gradient),
    )
    with pytest.raises(ValueError, match="at least two"):
        objective = Autoencoding(model, mmd_weight=1.0)
        objective.gradients(params, None, {**batch, "image": images[:1]}, jax.random.key(1), "")


@pytest.mark.parametrize("loss", ["mse", "l1", "rmse", "bce"])
def test_every_loss_has_finite_gradients_at_a_perfect_picture(loss):
    model = Autoencoder(**{**LINEAR, "output": "sigmoid" if loss == "bce" else "identity"})
    objective = Autoencoding(model, loss=loss)
    params = jax.tree.map(jnp.zeros_like, jax.jit(objective.init)(jax.random.key(0)))
    batch = {"image": jnp.zeros((2, 8, 8, 1)), "label": None, "index": None}
    metrics, gradients, _ = jax.jit(objective.gradients, static_argnums=4)(params, None, batch, jax.random.key(0), "")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((metrics, gradients)))


def test_logits_and_cross_entropy_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        Autoencoding(Autoencoder(**LINEAR), loss="bce")
