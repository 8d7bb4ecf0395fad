"""A conditional VAE of real digits: what it draws of a class is of that class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dfm.data import load
from dfm.metrics.classifier import accuracy, load_params
from dfm.models.autoencoder import Autoencoder
from dfm.objectives.elbo import Elbo

STEPS, BATCH = 1500, 100


@pytest.fixture(scope="module")
def trained():
    digits = load("digits", "train")
    images = jnp.asarray(digits.take(np.arange(1500)) / 127.5 - 1, jnp.float32)
    labels = jnp.asarray(digits.labels)
    model = Autoencoder(8, 8, trunk="dense", widths=(64, 64), latent=(6,), classes=10)
    objective, optimizer = (
        Elbo(model, sigma="learned", sigma_value=0.5),
        optax.adam(optax.cosine_decay_schedule(3e-3, STEPS)),
    )

    @jax.jit
    def fit(params):
        def step(carry, number):
            params, state = carry
            rows_key, own_key = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
            rows = jax.random.randint(rows_key, (BATCH,), 0, len(images))
            batch = {"image": images[rows], "label": labels[rows]}
            _, gradients, _ = objective.gradients(params, None, batch, own_key, "")
            updates, state = optimizer.update(gradients, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(STEPS))[0][0]

    return model, fit(jax.jit(objective.init)(jax.random.key(0)))


def test_samples_of_a_class_are_classified_as_that_class(trained):
    """By the classifier of fd-digits, which has 94 % of the test digits right."""
    model, params = trained
    labels = np.arange(500) % 10
    z = jax.random.normal(jax.random.key(1), (500, 6))
    painted = model.apply({"params": params}, z, jnp.asarray(labels), method="decode")
    pictures = np.clip(np.round((np.asarray(painted) + 1) * 127.5), 0, 255).astype(np.uint8)
    assert accuracy("digits", load_params("digits")[0], pictures, labels) > 0.9
    assert np.std(pictures[labels == 3].astype(float), axis=0).mean() > 5  # and not all one picture
