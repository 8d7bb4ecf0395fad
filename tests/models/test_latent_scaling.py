"""Latents as a diffusion model sees them: inverses, patches, and a word where the scale is not known."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.latent_scaling import patch, scale_latents, unpatch, unscale_latents
from dfm.models.published import published_variants

TINY = AutoencoderKL(block_out_channels=(4, 8), norm_num_groups=2)


def latents(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_scaling_has_an_inverse():
    z = latents(2, 4, 6, 4)
    sd3 = TINY.clone(scaling_factor=1.5305, shift_factor=0.0609)
    np.testing.assert_allclose(scale_latents(z, sd3), (z - 0.0609) * 1.5305, rtol=1e-6)
    playground = TINY.clone(scaling_factor=0.5, latents_mean=(1.0, 2.0, 3.0, 4.0), latents_std=(1.0, 2.0, 4.0, 8.0))
    np.testing.assert_allclose(scale_latents(z, playground)[..., 3], (z[..., 3] - 4.0) * 0.5 / 8.0, rtol=1e-6)
    numbers = tuple(np.linspace(0.5, 2.0, 16).tolist())
    flux2 = TINY.clone(scaling_factor=1.0, latents_mean=numbers, latents_std=numbers, patch_size=(2, 2))
    for model in (sd3, playground, flux2):
        np.testing.assert_allclose(unscale_latents(scale_latents(z, model), model), z, rtol=0, atol=1e-6)


def test_patches_hold_channel_by_channel_and_row_by_row():
    z = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    patches = patch(z, (2, 3))
    assert patches.shape == (2, 2, 2, 18)
    for channel in range(3):
        for row in range(2):
            for column in range(3):
                expected = z[:, row::2, column::3, channel]
                np.testing.assert_array_equal(patches[..., channel * 6 + row * 3 + column], expected)
    np.testing.assert_array_equal(unpatch(patches, (2, 3)), z)
    np.testing.assert_array_equal(patch(z[0], (2, 3)), patches[0])
    with pytest.raises(ValueError, match="4x5 positions do not divide into patches of 2x2"):
        patch(z[:, :, :5], (2, 2))


def test_an_unknown_scale_is_refused_and_not_guessed():
    for model in (TINY, published_variants()["kl-f4"], published_variants()["flux2"]):
        for function in (scale_latents, unscale_latents):
            with pytest.raises(ValueError, match="scale of this autoencoder's latents is not known"):
                function(latents(1, 2, 2, model.latent_channels), model)
    assert published_variants()["sd"].scaling_factor == 0.18215
