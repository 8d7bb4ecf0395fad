"""Errors with their gradient made on the way forward, against the plain expression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dfm.models import fourier_kernels
from dfm.models.dfm import DeepFourierMachine, pixel_centres
from dfm.objectives.painting_error import painting_errors
from dfm.training.sharding import data_mesh

MODEL = DeepFourierMachine(6, 5, 2, 3, 2, 4, (8,))
COUNT = 4 * 3 + 8 * 3 + 8 * 2


def example(batch):
    keys = jax.random.split(jax.random.key(batch), 3)
    vectors = 0.3 * jax.random.normal(keys[0], (batch, COUNT))
    targets = jax.random.uniform(keys[1], (batch, 30, 2), minval=-1.0)
    return vectors, pixel_centres(6, 5), targets, jax.random.normal(keys[2], (batch,))


def plain(vectors, points, targets):
    painted = MODEL.apply({}, vectors, points, method="paint")
    return ((painted - targets) ** 2).mean((1, 2))


def assert_close(found, expected):
    """Every picture's gradient by its norm: single numbers cancel, and then rounding shows."""
    norms = np.linalg.norm(expected, axis=1)
    assert (np.linalg.norm(found - expected, axis=1) <= 3e-4 * norms).all()


@pytest.mark.parametrize("batch", [1, 7, 48])  # one picture; a batch that nothing divides; several chunks
def test_errors_and_gradients_are_those_of_the_plain_expression(batch, monkeypatch):
    monkeypatch.setattr(fourier_kernels, "CHUNK_POINTS", 60)
    vectors, points, targets, weights = example(batch)

    def errors_and_gradient(errors):
        def weighted_sum(vectors):
            found = errors(vectors)
            return (weights * found).sum(), found

        return jax.jit(jax.value_and_grad(weighted_sum, has_aux=True))(vectors)

    (_, found), gradient = errors_and_gradient(lambda v: painting_errors(MODEL, v, points, targets))
    (_, expected), expected_gradient = errors_and_gradient(lambda v: plain(v, points, targets))
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert_close(gradient, expected_gradient)


def test_chunks_leave_a_batch_on_its_devices(monkeypatch):
    """Four devices, two chunks: each computes its own pictures, and nothing is exchanged."""
    monkeypatch.setattr(fourier_kernels, "CHUNK_POINTS", 60)
    vectors, points, targets, _ = example(16)
    sharding = NamedSharding(data_mesh(), PartitionSpec(data_mesh().axis_names[0]))
    gradient = jax.jit(
        jax.grad(lambda v, t: painting_errors(MODEL, v, points, t).sum()), in_shardings=sharding, out_shardings=sharding
    )
    compiled = gradient.lower(vectors, targets).compile().as_text()
    assert "while" in compiled
    for exchange in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert exchange not in compiled
    expected = jax.jit(jax.grad(lambda v: plain(v, points, targets).sum()))(vectors)
    assert_close(gradient(vectors, targets), expected)


def test_shapes_are_checked():
    with pytest.raises(Exception, match="targets"):
        painting_errors(MODEL, jnp.zeros((2, COUNT)), pixel_centres(6, 5), jnp.zeros((2, 29, 2)))
