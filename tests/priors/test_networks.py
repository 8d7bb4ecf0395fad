"""Priors that are nets: the flow's inverse and log-determinant, the second VAE's bound, what both learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.errors import UserError
from dfm.priors import find
from dfm.priors.flow import Flow
from dfm.priors.networks import mlp, mlp_init
from dfm.priors.prior import mean_log_likelihood
from dfm.priors.two_stage import TwoStage


@pytest.fixture(scope="module")
def ring():
    """Latents on a noisy ring, which no Gaussian describes, in a third dimension without meaning."""
    rng = np.random.default_rng(0)
    angle, noise = rng.uniform(0, 2 * np.pi, 2000), rng.normal(size=(2000, 3))
    return (3 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) + [0.1, 0.1, 0.5] * noise + 7).astype(np.float32)


@pytest.fixture(scope="module")
def random_flow():
    """Nets that do something: a fit begins at the identity."""
    latents = np.random.default_rng(1).normal(size=(50, 5)) @ np.random.default_rng(2).normal(size=(5, 5))
    flow = Flow.fit(latents, couplings=5, width=12, steps=1)
    nets = jax.vmap(lambda key: mlp_init(key, (5, 12, 12, 10)))(jax.random.split(jax.random.key(0), 5))
    last = 0.15 * jax.random.normal(jax.random.key(1), nets["kernel_2"].shape)
    return dataclasses.replace(flow, nets={**nets, "kernel_2": last})


def test_the_flow_is_inverted(random_flow):
    x = jax.random.normal(jax.random.key(3), (100, 5))
    noise, _ = jax.vmap(random_flow.to_noise)(x)
    assert float(jnp.abs(noise - x).max()) > 0.5
    np.testing.assert_allclose(jax.vmap(random_flow.from_noise)(noise), x, atol=1e-4)


def test_the_log_determinant_is_that_of_the_jacobian(random_flow):
    for x in jax.random.normal(jax.random.key(4), (5, 5)):
        jacobian = jax.jacfwd(lambda x: random_flow.to_noise(x)[0])(x)
        assert float(random_flow.to_noise(x)[1]) == pytest.approx(float(jnp.linalg.slogdet(jacobian)[1]), abs=1e-4)


def test_couplings_hold_alternate_halves(random_flow):
    held = np.asarray(random_flow._held())
    np.testing.assert_array_equal(held[0] + held[1], np.ones(5))
    np.testing.assert_array_equal(held[0], held[2])
    # what a coupling holds passes unchanged, and alone decides
    x = jnp.arange(5.0)
    net = jax.tree.map(lambda leaf: leaf[0], random_flow.nets)
    log_scale, shift = random_flow._scale_and_shift(x, net, random_flow.label_bias[0], random_flow._held()[0])
    assert not (held[0] * log_scale).any() and not (held[0] * shift).any()
    moved = x + (1 - held[0]) * 3
    again, _ = random_flow._scale_and_shift(moved, net, random_flow.label_bias[0], random_flow._held()[0])
    np.testing.assert_array_equal(log_scale, again)


@pytest.mark.parametrize("name", ["flow", "two_stage"])
def test_a_ring_is_learned_that_a_gaussian_misses(name, ring):
    done = []
    prior = find(name).fit(ring, width=24, steps=800, learning_rate=5e-3, progress=lambda *rounds: done.append(rounds))
    assert done == [(round_ + 1, 20) for round_ in range(20)]
    samples = np.asarray(prior.sample(jax.random.key(0), 1000)) - 7
    radius = np.linalg.norm(samples[:, :2], axis=1)
    assert np.abs(radius - 3).mean() < 0.5  # of a Gaussian's draws: 1.2
    gaussian = find("gaussian").fit(ring)
    assert mean_log_likelihood(prior, ring) > mean_log_likelihood(gaussian, ring) + 0.5


@pytest.mark.parametrize("name", ["flow", "two_stage"])
def test_a_fit_is_determined_by_its_seed(name, ring):
    first, same, other = (find(name).fit(ring[:200], width=4, steps=3, seed=seed).arrays() for seed in (0, 0, 1))
    assert all(np.array_equal(first[key], same[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)


def test_the_bound_is_at_most_the_density_where_that_is_known(ring):
    """Of a decoder f(u) = A u the density is the Gaussian N(mean, scale^2 (A A^T + sigma^2 I))."""
    prior = TwoStage.fit(ring, width=4, steps=1)
    a = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    split = jnp.asarray(np.concatenate([a, -a], 0).T)  # A u = relu(A u) - relu(-A u), through three hidden layers
    pass_on = jnp.eye(6)
    decoder = {
        "kernel_0": split,
        "kernel_1": pass_on,
        "kernel_2": pass_on,
        "kernel_3": jnp.concatenate([jnp.eye(3), -jnp.eye(3)]),
        **{f"bias_{layer}": jnp.zeros(width) for layer, width in enumerate((6, 6, 6, 3))},
    }
    prior = dataclasses.replace(prior, decoder=decoder, decoder_label_bias=jnp.zeros(6), log_sigma=jnp.zeros(()))
    u = jax.random.normal(jax.random.key(0), (4, 3))
    np.testing.assert_allclose(mlp(decoder, u), u @ a.T, atol=1e-5)
    covariance = float(prior.scale) ** 2 * (a @ a.T + np.eye(3))
    z = np.random.default_rng(1).multivariate_normal(prior.mean, covariance, 500).astype(np.float32)
    exact = jax.scipy.stats.multivariate_normal.logpdf(z, prior.mean, jnp.asarray(covariance))
    bound = prior.log_prob(z)
    assert float(exact.mean()) - 2 < float(bound.mean()) < float(exact.mean())
    drawn = np.asarray(prior.sample(jax.random.key(2), 20_000), np.float64)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05 * np.trace(covariance))


def test_a_flow_of_few_latents_is_no_worse_than_the_gaussian_where_it_begins():
    """A net knows 300 latents by heart within its first round; those that are held out say so."""
    latents = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    held_out = latents[9::10]
    flow = find("flow").fit(latents, couplings=4, width=128, steps=600, learning_rate=3e-3)
    gaussian = find("gaussian").fit(latents)
    assert mean_log_likelihood(flow, held_out) >= mean_log_likelihood(gaussian, held_out) - 1e-3


def test_a_fit_that_diverges_is_refused(ring):
    with pytest.raises(UserError, match="diverged: take a smaller learning_rate"):
        find("two_stage").fit(1.0 * ring[:100], width=8, steps=40, learning_rate=1e30)
