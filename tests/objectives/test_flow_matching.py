"""Flow matching recovers a known density of two dimensions; the loss is what its formula says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dfm.models.latent_flow import LatentFlow
from dfm.objectives.flow_matching import FlowMatching

STEPS, COUNT = 500, 2_000
MEANS, DEVIATIONS = jnp.array([[1.2, 0.6], [-1.2, -0.6]]), jnp.array([[0.2, 0.4], [0.4, 0.2]])


def two_blobs(key, count):
    """(points [count, 1, 1, 2], which of two Gaussians each is of, the first in three of four cases)."""
    which_key, noise_key = jax.random.split(key)
    which = jax.random.bernoulli(which_key, 0.25, (count,)).astype(jnp.int32)
    points = MEANS[which] + DEVIATIONS[which] * jax.random.normal(noise_key, (count, 2))
    return points[:, None, None], which


@pytest.fixture(scope="module")
def trained():
    model = LatentFlow((1, 1, 2), features=32, depth=2, heads=1, classes=2, sampling_steps=20)
    objective = FlowMatching(model, times="uniform", label_dropout=0.3)
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, STEPS))

    def step(carry, key):
        params, state = carry
        images, labels = two_blobs(key, 256)
        batch = {"image": images, "label": labels, "index": None}
        metrics, gradients, _ = objective.gradients(params, None, batch, jax.random.fold_in(key, 1), "")
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), state), metrics["loss"]

    params = jax.jit(objective.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), STEPS)
    (params, _), losses = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(
        (params, jax.jit(optimizer.init)(params))
    )
    assert losses[-100:].mean() < losses[:10].mean()
    noise = jax.random.normal(jax.random.key(2), (COUNT, 1, 1, 2))
    decode = jax.jit(lambda labels: model.apply({"params": params}, noise, labels, method="decode")[:, 0, 0])
    return {"free": decode(None), 0: decode(jnp.zeros(COUNT, jnp.int32)), 1: decode(jnp.ones(COUNT, jnp.int32))}


def test_a_known_density_of_two_dimensions_is_recovered(trained):
    points = np.asarray(trained["free"])
    of_first = points @ np.asarray(MEANS[0]) > 0
    assert abs(of_first.mean() - 0.75) < 0.05
    for which, inside in enumerate((of_first, ~of_first)):
        np.testing.assert_allclose(points[inside].mean(0), MEANS[which], atol=0.1)
        np.testing.assert_allclose(points[inside].std(0), DEVIATIONS[which], atol=0.1)


def test_a_label_chooses_its_part_of_it(trained):
    for which in (0, 1):
        np.testing.assert_allclose(trained[which].mean(0), MEANS[which], atol=0.15)
        np.testing.assert_allclose(trained[which].std(0), DEVIATIONS[which], atol=0.12)


def test_the_loss_of_a_flow_that_stands_still_is_that_of_the_straight_line():
    model = LatentFlow((2, 2, 3), features=8, depth=1, heads=1)
    objective = FlowMatching(model)
    images = 2.0 * jnp.ones((512, 2, 2, 3))
    loss = lambda key: objective(objective.init(key), None, {"image": images, "label": None}, key)[0]  # noqa: E731
    losses = jax.jit(loss)(jax.random.key(1))
    assert abs(float(losses.mean()) - 5.0) < 0.2  # |2 - noise|^2 in the mean


@pytest.mark.parametrize("wrong", [{"times": "even"}, {"label_dropout": 1.5}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FlowMatching(LatentFlow((1, 1, 2)), **wrong)
