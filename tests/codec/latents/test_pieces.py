"""The fast forms against the plain ones, which say what is meant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.codec.latents import cores, fitting, model, pieces
from dfm.codec.latents.shapes import Layout

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def problem():
    """Networks away from their start, latents and a target of a picture of odd size."""
    layout = Layout(9, 13, 3, 3)
    networks = fitting.initial_networks(layout, np.full(3, 0.5), jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(networks))
    networks = {
        name: value + 0.1 * jax.random.normal(key, value.shape)
        for key, (name, value) in zip(keys, networks.items(), strict=True)
    }
    latents = 3 * jax.random.normal(jax.random.key(2), (layout.latents,))
    target = jax.random.uniform(jax.random.key(3), (3, 9, 13))
    return layout, networks, latents, target


@pytest.fixture(scope="module")
def expected(problem):
    layout, networks, latents, target = problem
    loss = functools.partial(plain_loss, layout=layout, target=target, rate_weight=0.02)
    return jax.jit(jax.value_and_grad(loss, (0, 1)))(networks, latents)


def plain_loss(networks, latents, layout, target, rate_weight):
    grids = fitting.split(latents, layout)
    painted = model.paint(networks, grids)
    # straight through: a colour out of range is pulled back
    clamped = painted + jax.lax.stop_gradient(jnp.clip(painted, 0, 1) - painted)
    bits_per_pixel = model.rate(networks, grids) / (layout.height * layout.width)
    return ((clamped - target) ** 2).mean() + rate_weight * bits_per_pixel


@pytest.mark.parametrize(("points", "together"), [(40, False), (10**6, False), (300, True)])
def test_loss_and_gradients(problem, expected, monkeypatch, points, together):
    layout, networks, latents, target = problem
    monkeypatch.setattr(pieces, "POINTS", points)
    monkeypatch.setattr(model, "PIECE", points)
    monkeypatch.setattr(model, "together", lambda: together)

    def fast_loss(networks, latents):
        return pieces.loss(networks, fitting.split(latents, layout), target, 0.02)[0]

    found = jax.jit(jax.value_and_grad(fast_loss, (0, 1)))(networks, latents)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * float(jnp.abs(other).max()))


def test_plane_after_plane_is_the_same(problem, expected, monkeypatch):
    layout, networks, latents, target = problem
    monkeypatch.setattr(model, "LARGE_PLANE", 1)
    loss = functools.partial(plain_loss, layout=layout, target=target, rate_weight=0.02)
    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(networks, latents)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("parts", [2, 4])  # two strips of 5 and 4 rows; and the last of four beyond the picture
def test_the_parts_of_several_cores_add_up(problem, expected, parts):
    layout, networks, latents, target = problem

    def of_part(part, networks, latents):
        def loss(networks, latents):
            return pieces.loss(networks, fitting.split_once(latents, layout), target, 0.02, part)[0]

        return cores.total(jax.value_and_grad(loss, (0, 1))(networks, latents), part)

    found = jax.jit(cores.in_parts(of_part, parts))(networks, latents)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * float(jnp.abs(other).max()))


def test_bits_are_the_laplace_integrals():
    y, mean, log2_scale = jnp.array([0.0, 3.0, -7.0]), jnp.array([0.2, 2.6, 1.0]), jnp.array([-3.0, 0.0, 2.0])
    scale = 2.0**log2_scale
    cdf = lambda x: jnp.where(x < 0, jnp.exp(-jnp.abs(x) / scale) / 2, 1 - jnp.exp(-jnp.abs(x) / scale) / 2)  # noqa: E731
    expected = -jnp.log2(cdf(y + 0.5 - mean) - cdf(y - 0.5 - mean))
    np.testing.assert_allclose(model.laplace_bits(y, mean, log2_scale), expected, rtol=1e-4)


def test_far_from_the_mean_bits_and_their_gradient_stay_finite():
    bits, gradient = jax.value_and_grad(model.laplace_bits)(60.0, -60.0, -5.0)
    assert np.isfinite(bits) and gradient > 1


def test_soft_rounding_goes_from_the_identity_to_rounding():
    x = jnp.linspace(-2.35, 2.35, 48) + 0.01
    np.testing.assert_allclose(fitting.soft_round(x, 100.0), x, atol=1e-4)
    np.testing.assert_allclose(fitting.soft_round(x, 1e-3), jnp.round(x), atol=1e-4)


@pytest.mark.usefixtures("quick_compilation")
def test_pictures_of_a_batch_are_fitted_as_alone(monkeypatch):
    """What an accelerator does, side by side; they differ by the order of sums alone."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 10, 3), np.uint8) for _ in range(2)]
    weights = [1e-2, 1e-3]

    def fits():
        return [fitting.start(picture, 2, 0, number) for picture, number in zip(pictures, (1, 2), strict=True)]

    alone = fitting.train_together(pictures, fits(), 2, weights, 4, 0)
    monkeypatch.setattr(model, "together", lambda: True)
    side_by_side = fitting.train_together(pictures, fits(), 2, weights, 4, 0)
    for one, other in zip(alone, side_by_side, strict=True):
        np.testing.assert_allclose(one.latents, other.latents, atol=1e-3)
        np.testing.assert_allclose(one.networks["linear"], other.networks["linear"], atol=1e-4)
    assert np.abs(np.asarray(alone[0].latents) - alone[1].latents).max() > 0.01
