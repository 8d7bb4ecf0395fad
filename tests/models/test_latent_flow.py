"""The solver against a known solution, the start as the identity, guidance, samples that do not depend on others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm import models
from dfm.errors import UserError
from dfm.models.latent_flow import LatentFlow, integrate

TINY = {"features": 8, "depth": 1, "heads": 2}


def shaken(model, key=0):
    """Parameters away from the zeros of the start."""
    variables = jax.jit(model.init)(jax.random.key(key), jnp.zeros((1, *model.latent_shape)))
    return jax.tree.map(lambda p: p + 0.2 * jax.random.normal(jax.random.key(p.size), p.shape), variables)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_the_solver_has_its_order(sampler, order):
    """dx/dt = x cos t from 1: x(1) = exp(sin 1)."""
    errors = []
    for steps in (8, 16):
        found = integrate(lambda x, t: x * jnp.cos(t), jnp.ones(1), steps, sampler)
        errors.append(abs(float(found[0]) - np.exp(np.sin(1.0))))
    assert 2**order * 0.7 < errors[0] / errors[1] < 2**order * 1.5


def test_at_the_start_nothing_moves():
    model = LatentFlow((2, 2, 3), **TINY)
    z = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    variables = jax.jit(model.init)(jax.random.key(1), z)
    np.testing.assert_array_equal(model.apply(variables, z, method="decode"), z)


def test_a_latent_does_not_depend_on_the_others_of_its_batch():
    model = LatentFlow((2, 2, 3), **TINY, sampling_steps=3)
    variables, z = shaken(model), jax.random.normal(jax.random.key(2), (4, 2, 2, 3))
    decode = jax.jit(lambda z: model.apply(variables, z, method="decode"))
    together, alone = decode(z), decode(z[1:2])
    assert jnp.abs(together - z).max() > 0.1
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


def test_guidance_goes_from_the_free_flow_past_the_class():
    flows = {
        w: LatentFlow((2, 2, 1), **TINY, classes=2, sampling_steps=1, sampler="euler", guidance=w) for w in (0, 1, 2)
    }
    variables, z = shaken(flows[1]), jax.random.normal(jax.random.key(2), (3, 2, 2, 1))
    labels = jnp.array([0, 1, 1])
    found = {w: flow.apply(variables, z, labels, method="decode") for w, flow in flows.items()}
    free = flows[1].apply(variables, z, method="decode")
    np.testing.assert_allclose(found[0], free, atol=1e-6)
    assert jnp.abs(found[1] - free).max() > 1e-3
    np.testing.assert_allclose(found[2] - found[1], found[1] - free, atol=1e-5)


def test_patches_are_tokens():
    model = LatentFlow((4, 4, 3), patch_size=2, **TINY)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]["flow"]
    assert shapes["places"].shape == (4, 8) and shapes["embedding"]["kernel"].shape == (12, 8)


def test_the_grid_is_that_of_the_data():
    assert models.build({"name": "latent_flow"}, (8, 8, 4)).latent_shape == (8, 8, 4)
    with pytest.raises(UserError, match="2x2, not 4x4"):
        model = LatentFlow((2, 2, 1), **TINY)
        model.apply(shaken(model), jnp.zeros((1, 2, 2, 1)), method="decode", height=4, width=4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"heads": 3}, "heads"),
        ({"sampler": "eulr"}, "euler"),
        ({"guidance": 2.0}, "classes"),
        ({"patch_size": 3}, "grid"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        models.build({"name": "latent_flow", **TINY, "latent_grid": (2, 2, 1), **wrong})
