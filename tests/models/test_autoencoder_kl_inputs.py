"""What an autoencoder is given: integers, other channels, too few pixels, and numbers that float16 cannot hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_autoencoders import random_params

from dfm.models.autoencoder_kl import AutoencoderKL, check_images, check_latents
from dfm.models.blended_tiling import blended_decode, blended_encode
from dfm.models.tiled_autoencoder import tiled_decode, tiled_encode

MODEL = AutoencoderKL(block_out_channels=(4, 8), norm_num_groups=2, sample_size=16)


@pytest.fixture(scope="module")
def params():
    return random_params(MODEL)


def plainly(method):
    return lambda model, params, x: model.apply({"params": params}, x, method=method)


@pytest.mark.parametrize(
    "function", [plainly("encode"), plainly("moments"), tiled_encode, blended_encode, plainly(None)]
)
@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((1, 8, 8, 3), np.uint8), r"pictures are uint8: floats are needed, \[-1, 1\]"),
        (np.zeros((1, 8, 8, 3), np.int32), "pictures are int32"),
        (np.zeros((1, 8, 8, 1), np.float32), "pictures have 1 channel, and the model's have 3"),
        (np.zeros((1, 1, 8, 3), np.float32), "pictures of 1x8 pixels are smaller than the least .* 2x2"),
    ],
)
def test_wrong_pictures_are_named(params, function, images, message):
    with pytest.raises(ValueError, match=message):
        function(MODEL, params, images)


@pytest.mark.parametrize("function", [plainly("decode"), plainly("decode_features"), tiled_decode, blended_decode])
@pytest.mark.parametrize(
    "latents, message",
    [
        (np.zeros((1, 4, 4, 16), np.float32), "latents have 16 channels, and the model's have 4"),
        (np.zeros((1, 4, 4, 4), np.int8), "latents are int8"),
        (np.zeros((1, 0, 4, 4), np.float32), "latents of 0x4 positions"),
    ],
)
def test_wrong_latents_are_named(params, function, latents, message):
    with pytest.raises(ValueError, match=message):
        function(MODEL, params, latents)


def test_a_picture_without_a_batch_is_named():
    for check, what in ((check_images, "pictures"), (check_latents, "latents")):
        with pytest.raises(ValueError, match=rf"{what} are \[batch, height, width, channels\], not \[8, 8, 3\]"):
            check(MODEL, np.zeros((8, 8, 3), np.float32))


def test_float16_that_overflows_says_so(params):
    """The last convolution is made so large that float16 cannot hold its results, and bfloat16 can."""
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)), jnp.float32)

    def moments(dtype, factor):
        conv_out = jax.tree.map(lambda leaf: leaf * factor, params["encoder"]["conv_out"])
        large = {**params, "encoder": {**params["encoder"], "conv_out": conv_out}}
        run = jax.jit(plainly("moments"), static_argnums=0)
        found = run(MODEL.clone(dtype=dtype), large, x)
        jax.effects_barrier()
        return found

    with pytest.warns(RuntimeWarning, match="float16 overflowed .* bfloat16 or float32"):
        assert not jnp.all(jnp.isfinite(moments("float16", 1e6)))
    assert jnp.all(jnp.isfinite(moments("bfloat16", 1e6)))
    assert jnp.all(jnp.isfinite(moments("float16", 1.0)))  # a warning would be an error
