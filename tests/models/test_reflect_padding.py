"""padding_mode "reflect": against NumPy, against diffusers with its convolutions set so, in strips and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from needs import needs_diffusers
from random_autoencoders import our_outputs, random_params, vectors

from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.layers import Conv, convolve, upsample_convolve_reflected, upsample_nearest
from dfm.models.sharded_autoencoder import apply_sharded, height_sharding
from dfm.models.tiled_autoencoder import tiled_decode, tiled_encode

CONFIG = {"block_out_channels": (8, 16), "norm_num_groups": 4}
MODEL = AutoencoderKL(**CONFIG, padding_mode="reflect")


def values(*shape):
    return np.random.default_rng(shape[1]).uniform(-1, 1, shape).astype(np.float32)


def relative(ours, theirs) -> float:
    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs)) / np.linalg.norm(np.asarray(theirs)))


def reflected(x):
    return np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")


def test_convolutions_see_the_mirror_image():
    x, kernel, bias = values(1, 4, 5, 3), values(3, 3, 3, 2), values(2, 1)[:, 0]
    conv = Conv(3, 2, padding_mode="reflect")
    ours = conv.apply({"params": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}, x)
    expected = convolve(*map(jnp.asarray, (reflected(x), kernel, bias)))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    upsampled = reflected(np.asarray(upsample_nearest(jnp.asarray(x))))
    folded = upsample_convolve_reflected(*map(jnp.asarray, (x, kernel, bias)))
    np.testing.assert_allclose(folded, convolve(*map(jnp.asarray, (upsampled, kernel, bias))), atol=1e-6)


def test_it_computes_something_else_than_zeros_and_folding_changes_nothing():
    params = random_params(MODEL)
    x = values(1, 13, 10, 3)
    folded, plain, zeros = (
        our_outputs(model, params, x)
        for model in (MODEL, MODEL.clone(fold_upsampling=False), MODEL.clone(padding_mode="zeros"))
    )
    assert relative(folded[1], plain[1]) < 1e-5
    assert relative(zeros[0], folded[0]) > 1e-2 and relative(zeros[1], folded[1]) > 1e-2


def test_strips_and_shards_equal_the_whole():
    params = random_params(MODEL)
    whole = jax.jit(lambda p, x, method: MODEL.apply({"params": p}, x, method=method), static_argnums=2)
    x, z = values(1, 18, 9, 3), values(1, 5, 3, 4)
    strip_bytes = 4 * 9 * 8 * 3  # three rows of the first layer
    posterior = tiled_encode(MODEL, params, x, strip_bytes)
    assert relative(posterior.mean, whole(params, x, "moments")[..., :4]) < 1e-5
    assert relative(tiled_decode(MODEL, params, z, strip_bytes), whole(params, z, "decode")) < 1e-5
    sharding = height_sharding(jax.devices()[:2])
    x = values(1, 16, 9, 3)
    split = apply_sharded(MODEL, "moments", sharding, params, jnp.asarray(x))
    assert relative(split, whole(params, x, "moments")) < 1e-5


def test_what_cannot_be_mirrored_is_refused():
    params = random_params(MODEL)
    with pytest.raises(ValueError, match="3x16 pixels are smaller than the least .* 4x4"):
        MODEL.apply({"params": params}, values(1, 3, 16, 3), method="encode")
    with pytest.raises(ValueError, match="1x2 positions: at least 2x2"):
        MODEL.apply({"params": params}, values(1, 1, 2, 4), method="decode")


@pytest.mark.peers
@needs_diffusers
def test_equals_diffusers_whose_padded_convolutions_mirror():
    import torch

    peer = vectors.peer_model(CONFIG)
    for module in peer.modules():
        if isinstance(module, torch.nn.Conv2d) and max(module.padding) > 0:
            module.padding_mode = "reflect"
    images = vectors.example_images(CONFIG, (13, 22))
    theirs = vectors.peer_outputs(peer, images)
    with jax.enable_x64(True):
        ours = our_outputs(MODEL, random_params(MODEL, np.float64), images)
    assert relative(ours[0], theirs[0]) < 1e-9 and relative(ours[1], theirs[1]) < 1e-9
