"""Large pictures: strips and shards equal the whole; blended tiles equal those of diffusers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from needs import needs_diffusers
from random_autoencoders import random_params, vectors

from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.blended_tiling import blended_decode, blended_encode
from dfm.models.sharded_autoencoder import apply_sharded, height_sharding
from dfm.models.tiled_autoencoder import tiled_decode, tiled_encode

MODEL = AutoencoderKL(**vectors.with_block_types({"block_out_channels": (8, 16), "norm_num_groups": 4}))


@pytest.fixture(scope="module")
def params():
    return random_params(MODEL)


def random_values(*shape):
    return np.random.default_rng(shape[1]).uniform(-1, 1, shape).astype(np.float32)


def whole(model, params, x, method):
    return jax.jit(lambda p, x: model.apply({"params": p}, x, method=method))(params, x)


def relative(ours, theirs) -> float:
    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs)) / np.linalg.norm(np.asarray(theirs)))


@pytest.mark.parametrize("attention", [False, True])
def test_strips_equal_the_whole(attention):
    """Rows that no strip divides, an odd width, and strips of one row; attention in the blocks as well."""
    model = MODEL
    if attention:
        model = MODEL.clone(
            down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            use_quant_conv=False,
            up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        )
    params = random_params(model)
    x = random_values(2, 13, 7, 3)
    moments = whole(model, params, x, "moments")
    strip_bytes = 4 * 2 * 7 * 8 * 3  # three rows of the first layer
    posterior = tiled_encode(model, params, x, strip_bytes)
    assert relative(posterior.mean, moments[..., :4]) < 1e-5
    assert relative(posterior.logvar, np.clip(moments[..., 4:], -30, 20)) < 1e-5
    z = random_values(2, 7, 3, 4)
    assert relative(tiled_decode(model, params, z, strip_bytes), whole(model, params, z, "decode")) < 1e-5


def test_one_strip_is_the_whole_too(params):
    z = random_values(1, 3, 4, 4)
    assert relative(tiled_decode(MODEL, params, z), whole(MODEL, params, z, "decode")) < 1e-5


def test_height_over_four_devices_equals_one(params):
    sharding = height_sharding(jax.devices()[:4])
    for method, x in (("moments", random_values(2, 16, 6, 3)), ("decode", random_values(2, 8, 3, 4))):
        split = apply_sharded(MODEL, method, sharding, params, jnp.asarray(x))
        assert split.sharding.is_equivalent_to(sharding, 4) and len(split.addressable_shards) == 4
        assert relative(split, whole(MODEL, params, x, method)) < 1e-5


@pytest.mark.parametrize("size", [(3, 4), (8, 8)])
def test_pictures_no_larger_than_a_tile_stay_whole(params, size):
    model, z = MODEL.clone(sample_size=16), random_values(1, *size, 4)
    assert relative(blended_decode(model, params, z), whole(MODEL, params, z, "decode")) < 1e-6
    x = random_values(1, 2 * size[0], 2 * size[1], 3)
    assert relative(blended_encode(model, params, x).mean, whole(MODEL, params, x, "moments")[..., :4]) < 1e-6


def test_tiles_too_small_are_refused(params):
    z = random_values(1, 3, 4, 4)
    with pytest.raises(ValueError, match="too small for a stride"):
        blended_decode(MODEL.clone(sample_size=1), params, z)


@pytest.mark.peers
@needs_diffusers
def test_blended_tiles_are_those_of_diffusers():
    import torch

    config = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 8}
    peer = vectors.peer_model(config).float()
    model = AutoencoderKL(**vectors.with_block_types(config))
    params = random_params(model)
    peer.enable_tiling()
    for x, z in (
        (random_values(1, 12, 8, 3), random_values(1, 6, 6, 4)),
        (random_values(1, 8, 8, 3), random_values(1, 4, 4, 4)),  # no larger than a tile: whole
        (random_values(1, 7, 8, 3), random_values(1, 3, 4, 4)),
        (random_values(1, 6, 9, 3), random_values(1, 2, 5, 4)),  # one side is larger
    ):
        with torch.no_grad():
            theirs = peer.encode(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).latent_dist.mean
            pictures = peer.decode(torch.from_numpy(z.transpose(0, 3, 1, 2).copy())).sample
        assert relative(blended_encode(model, params, x).mean, theirs.numpy().transpose(0, 2, 3, 1)) < 1e-5
        assert relative(blended_decode(model, params, z), pictures.numpy().transpose(0, 2, 3, 1)) < 1e-5
