"""Losses against NumPy, likelihoods against SciPy, the lecture's and the textbook's conventions."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dfm.objectives import likelihoods

SHAPE = (3, 4, 5, 2)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=SHAPE), jnp.float32), jnp.asarray(rng.uniform(-1, 1, SHAPE), jnp.float32)


def test_losses_equal_their_formulas(pair):
    predicted, images = pair
    error, axes = predicted - images, (1, 2, 3)
    target = (images + 1) / 2
    probability = 1 / (1 + np.exp(-np.asarray(predicted, np.float64)))
    expected = {
        "mse": (error**2).sum(axes),
        "l1": np.abs(error).sum(axes),
        "rmse": np.sqrt((error**2).mean(axes)),
        "bce": -(target * np.log(probability) + (1 - target) * np.log(1 - probability)).sum(axes),
    }
    assert set(expected) == set(likelihoods.LOSSES)
    for name, values in expected.items():
        np.testing.assert_allclose(likelihoods.LOSSES[name](predicted, images), values, rtol=1e-5)


def test_likelihoods_equal_scipy(pair):
    predicted, images = pair
    log_sigma = jnp.float32(-0.7)
    sigma = float(np.exp(-0.7))
    gaussian = -stats.norm.logpdf(images, predicted, sigma).sum((1, 2, 3))
    laplace = -stats.laplace.logpdf(images, predicted, sigma / np.sqrt(2)).sum((1, 2, 3))
    np.testing.assert_allclose(likelihoods.gaussian_nats(predicted, images, log_sigma), gaussian, rtol=1e-5)
    np.testing.assert_allclose(likelihoods.laplace_nats(predicted, images, log_sigma), laplace, rtol=1e-5)


def test_the_masses_of_all_levels_sum_to_one():
    """Of a discretised Gaussian, also of one that is narrower than a level or lies outside of the range."""
    levels = np.arange(256, dtype=np.float32) / 127.5 - 1
    images = jnp.asarray(levels.reshape(256, 1, 1, 1))
    for mean, log_sigma in ((0.1, -1.0), (0.3, -6.0), (1.7, -2.0), (-1.0, 0.5)):
        predicted = jnp.full_like(images, mean)
        nats = likelihoods.discretised_gaussian_nats(predicted, images, jnp.float32(log_sigma))
        assert float(jnp.exp(-nats).sum()) == pytest.approx(1.0, abs=2e-4)


def test_the_optimal_sigma_is_the_minimum(pair):
    predicted, images = pair
    best = likelihoods.optimal_log_sigma(predicted, images)
    at = [float(likelihoods.gaussian_nats(predicted, images, best + step).sum()) for step in (-0.05, 0.0, 0.05)]
    assert at[1] < min(at[0], at[2])


def test_the_lectures_weight_is_half_of_the_inverse_variance(pair):
    """C ||x - f||^2 with C = 1 / (2 c): distances between two predictions cost the same."""
    predicted, images = pair
    c = 0.3
    nats = [
        np.asarray(likelihoods.gaussian_nats(given, images, jnp.float32(0.5 * np.log(c))))
        for given in (predicted, images)
    ]
    square = np.asarray(likelihoods.sum_squared_error(predicted, images))
    np.testing.assert_allclose(nats[0] - nats[1], square / (2 * c), rtol=1e-4)


def test_bits_per_dim():
    assert float(likelihoods.bits_per_dim(jnp.float32(8 * 12 * np.log(2)), (2, 2, 3))) == pytest.approx(8.0)
