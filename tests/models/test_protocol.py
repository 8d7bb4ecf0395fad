"""Every model offers what dfm/models/protocol.py says; latents of any shape as vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm import models
from dfm.errors import UserError
from dfm.models import latent_vectors
from dfm.models.distributions import DiagonalGaussian, PointMass

DFM = {"name": "dfm", "net_width": 2, "net_depth": 2, "latent_size": 3, "decoder_widths": [4], "encoder_widths": [4]}
KL = {"name": "autoencoder_kl", "block_out_channels": [4, 4], "norm_num_groups": 2, "latent_channels": 2}
SIZE = {"height": 6, "width": 7, "channels": 3}
GENERATORS = ("gan", "fourier_gan", "latent_flow", "code_transformer")
SMALLEST = {  # of 6x7 RGB, with an encoder where there can be one
    "dfm": DFM | SIZE,
    "local_dfm": {
        "name": "local_dfm",
        "encoder_widths": [4, 4],
        "latent_channels": 2,
        "features": 8,
        "net_width": 2,
        **SIZE,
    },
    "autoencoder_kl": KL,
    "autoencoder": {"name": "autoencoder", "trunk": "dense", "widths": [4], "latent": [3], **SIZE},
    "hierarchical_vae": {"name": "hierarchical_vae", "features": 4, "top": 3, "latent_channels": 2, **SIZE},
    "latent_flow": {"name": "latent_flow", "latent_grid": (6, 7, 3), "features": 4, "depth": 1, "heads": 2},
    "code_transformer": {
        "name": "code_transformer",
        "height": 6,
        "width": 7,
        "codes": 5,
        "layers": 1,
        "features": 4,
        "heads": 2,
    },
    "gan": {"name": "gan", "features": 2, "latent_size": 3, **SIZE},
    "fourier_gan": {"name": "fourier_gan", "features": 2, "latent_size": 3, "net_width": 2, **SIZE},
}


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_maps_pictures_to_distributions_and_back(name):
    assert name in SMALLEST, f"a config of the model {name!r} is wanted here"
    model = models.build(SMALLEST[name], (6, 7, 3))
    shape = (6, 7, 1 if name == "code_transformer" else 3)  # codes are one number a place
    assert (model.height, model.width, model.channels) == shape
    likely = ("autoencoder", "hierarchical_vae", "code_transformer")
    assert model.classes == 0 and model.has_likelihood is (name in likely)
    assert model.encodes is (name not in GENERATORS)
    if not model.encodes:
        variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, *shape)))
        decode = lambda variables, z: latent_vectors.decode(model, variables, z)  # noqa: E731
        painted = jax.eval_shape(decode, variables, jnp.zeros((2, latent_vectors.latent_size(model))))
        assert painted.shape == (2, *shape)
        return

    def round_trip(images):
        variables = model.init(jax.random.key(0), images)
        posterior = latent_vectors.posterior(model, variables, images)
        vectors = latent_vectors.encode(model, variables, images)
        return posterior, vectors, latent_vectors.decode(model, variables, vectors)

    posterior, vectors, painted = jax.eval_shape(round_trip, jnp.zeros((2, 6, 7, 3)))
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], posterior.mode())
    assert shapes == model.latent_shape
    assert vectors.shape == (2, latent_vectors.latent_size(model)) and painted.shape == (2, 6, 7, 3)


def test_an_autoencoder_pads_to_its_stride_and_paints_one_size():
    model = models.build(KL, (6, 7, 3))
    assert model.stride == 2 and model.latent_shape == (3, 4, 2)
    variables = {
        "params": jax.tree.map(
            lambda p: jnp.zeros(p.shape),
            jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))["params"],
        )
    }
    with pytest.raises(UserError, match="these paint 6x8, not 12x14"):
        latent_vectors.decode(model, variables, jnp.zeros((1, 24)), height=12, width=14)


def test_a_tree_of_latents_is_a_vector_and_back():
    class Hierarchy:
        latent_shape = {"coarse": (3,), "fine": (2, 2, 5)}

    assert latent_vectors.latent_size(Hierarchy) == 23
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(4, 23)), jnp.float32)
    latents = latent_vectors.unflatten(vectors, Hierarchy.latent_shape)
    assert {name: part.shape for name, part in latents.items()} == {"coarse": (4, 3), "fine": (4, 2, 2, 5)}
    np.testing.assert_array_equal(latents["coarse"], vectors[:, :3])
    np.testing.assert_array_equal(latent_vectors.flatten(latents), vectors)


def test_a_point_mass_is_the_limit_of_narrow_gaussians():
    mean = jnp.asarray([[1.0, -2.0], [0.5, 3.0]])
    point, narrow = PointMass(mean), DiagonalGaussian(mean, jnp.full((2, 2), -30.0))
    for draw in (point.mode(), point.mean, point.sample(jax.random.key(0))):
        np.testing.assert_array_equal(draw, mean)
    np.testing.assert_allclose(narrow.sample(jax.random.key(0)), mean, atol=1e-5)
    assert point.kl().shape == (2,) and np.all(np.isinf(point.kl()))
    wider = DiagonalGaussian(mean, jnp.full((2, 2), -20.0))
    assert np.all(narrow.kl() > wider.kl())
