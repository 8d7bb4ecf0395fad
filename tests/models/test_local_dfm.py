"""Local machines: sizes, gradients everywhere, any resolution, alone as in a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm import models
from dfm.errors import UserError
from dfm.models import latent_vectors
from dfm.objectives import build

TINY = {"name": "local_dfm", "encoder_widths": [4, 8], "latent_channels": 3, "features": 8, "net_width": 2}
SIZE = {"height": 14, "width": 12, "channels": 3}


@pytest.fixture(scope="module")
def machine():
    model = models.build(TINY | SIZE)
    images = jax.random.uniform(jax.random.key(1), (5, 14, 12, 3), minval=-1.0)
    return model, jax.jit(model.init)(jax.random.key(0), images), images


def decode(model, variables, *vectors, **size):
    """Pictures of one array of latents after the other, compiled once a shape."""
    return [jax.jit(lambda z: latent_vectors.decode(model, variables, z, **size))(z) for z in vectors]


def test_256_and_1024_numbers_of_cifar10():
    sizes = {"height": 32, "width": 32, "channels": 3, "name": "local_dfm"}
    assert models.build(sizes).latent_shape == (4, 4, 16)
    assert models.build(sizes | {"encoder_widths": [64, 128]}).latent_shape == (8, 8, 16)
    assert models.build(sizes | {"height": 28, "width": 28, "channels": 1}).latent_shape == (4, 4, 16)


def test_gradients_reach_encoder_latents_and_coefficients(machine):
    model, variables, images = machine
    objective = build({"name": "autoencoding", "latent_noise": 0.1, "code_penalty": 1e-4}, model)
    batch = {"image": images, "label": None, "index": None}
    gradients = jax.jit(lambda p: objective.gradients(p, None, batch, jax.random.key(2), "")[1])(variables["params"])
    assert set(gradients) == {"encoder", "decoder"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)
    square = lambda z: jnp.square(model.apply(variables, z, method="decode")).sum()  # noqa: E731
    of_latents = jax.jit(jax.grad(square))(jax.random.normal(jax.random.key(3), (5, *model.latent_shape)))
    assert (jnp.abs(of_latents).max((0, 3)) > 0).all()  # at each place of the grid


def test_a_picture_alone_is_that_of_its_batch(machine):
    model, variables, images = machine
    vectors = jax.jit(lambda images: latent_vectors.encode(model, variables, images))(images)
    together, alone = decode(model, variables, vectors, vectors[3:4])
    assert together.shape == (5, 14, 12, 3) and jnp.abs(together).max() < 1
    np.testing.assert_allclose(together[3:4], alone, atol=1e-5)


def test_any_resolution_of_the_same_latents(machine):
    model, variables, _ = machine
    vectors = jax.random.normal(jax.random.key(4), (2, latent_vectors.latent_size(model)))
    (small,) = decode(model, variables, vectors)
    (large,) = decode(model, variables, vectors, height=42, width=36)
    np.testing.assert_allclose(large[:, 1::3, 1::3], small, atol=1e-5)
    odd = jax.eval_shape(lambda z: latent_vectors.decode(model, variables, z, height=5, width=31), vectors)
    assert odd.shape == (2, 5, 31, 3)


def test_a_gaussian_bottleneck_is_a_vae():
    model = models.build({**TINY, **SIZE, "bottleneck": "gaussian"})
    objective = build({"name": "elbo", "sigma": "optimal"}, model)
    params = jax.eval_shape(objective.init, jax.random.key(0))
    batch = {"image": jnp.zeros((2, 14, 12, 3)), "label": None, "index": None}
    metrics = jax.eval_shape(lambda p: objective.gradients(p, None, batch, jax.random.key(0), "")[0], params)
    assert model.has_likelihood and set(metrics) >= {"rate_nats", "distortion_nats"}


@pytest.mark.parametrize(
    "wrong", [{"bottleneck": "vq"}, {"features": 12}, {"latent_channels": 0}, {"encoder_widths": ()}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match="multiples of 8" if "features" in wrong else next(iter(wrong))):
        models.build({**TINY, **SIZE, **wrong})
