"""AutoencoderKL: counts, laws of its parts, what a user may set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_autoencoders import random_params

from dfm import models
from dfm.arrays import crop, pad_to_stride
from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.distributions import DiagonalGaussian
from dfm.models.published import published_variants

TINY = AutoencoderKL(block_out_channels=(4, 8), norm_num_groups=2)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def params():
    return random_params(TINY)


def pictures(height, width, channels=3):
    return np.random.default_rng(height).uniform(-1, 1, (2, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize(
    "name, total, encoder, decoder",
    [
        ("sd", 83_653_863, 34_163_592, 49_490_179),
        ("sdxl", 83_653_863, 34_163_592, 49_490_179),
        ("sd3", 83_819_683, 34_274_208, 49_545_475),
        ("flux", 83_819_683, 34_274_208, 49_545_475),
        ("kl-f4", 55_312_063, 22_351_238, 32_960_771),
    ],
)
def test_parameter_counts_are_the_published_ones(name, total, encoder, decoder):
    model = published_variants()[name]
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    assert (count(params), count(params["encoder"]), count(params["decoder"])) == (total, encoder, decoder)


@pytest.mark.parametrize("name, stride, latents", [("sd", 8, 4), ("flux", 8, 16), ("kl-f4", 4, 3), ("kl-f16", 16, 16)])
def test_shapes_at_full_width(name, stride, latents):
    model = published_variants()[name]
    assert model.stride == stride

    def shapes(key, images):
        params = model.init(key, images)
        posterior = model.apply(params, images, method="encode")
        return posterior.mean, model.apply(params, posterior.mode(), method="decode")

    z, x = jax.eval_shape(shapes, jax.random.key(0), jnp.zeros((2, 4 * stride, 3 * stride, 3)))
    assert (z.shape, x.shape) == ((2, 4, 3, latents), (2, 4 * stride, 3 * stride, 3))


def test_decoder_of_other_widths_takes_the_same_latents():
    model = TINY.clone(decoder_block_out_channels=(6, 10))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert params["decoder"]["conv_in"]["kernel"].shape == (3, 3, 4, 10)
    assert params["decoder"]["conv_out"]["kernel"].shape == (3, 3, 6, 3)
    assert params["encoder"]["conv_out"]["kernel"].shape == (3, 3, 8, 8)


def test_decode_is_features_then_projection(params):
    z = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 5, 4)), jnp.float32)

    def both(params, z):
        features = TINY.apply({"params": params}, z, method="decode_features")
        return (
            features,
            TINY.apply({"params": params}, features, method="project"),
            TINY.apply({"params": params}, z, method="decode"),
        )

    features, projected, decoded = jax.jit(both)(params, z)
    assert features.shape == (1, 6, 10, 4)
    np.testing.assert_allclose(projected, decoded, atol=1e-6)


def test_call_reconstructs_the_mode_or_a_sample(params):
    x, key = jnp.asarray(pictures(8, 8)), jax.random.key(1)

    def all_ways(params, x):
        apply = lambda *args, **how: TINY.apply({"params": params}, *args, **how)  # noqa: E731
        posterior = apply(x, method="encode")
        decoded = [apply(z, method="decode") for z in (posterior.mode(), posterior.sample(key))]
        return apply(x), apply(x, key), decoded

    mode, sample, decoded = jax.jit(all_ways)(params, x)
    np.testing.assert_allclose(mode, decoded[0], atol=1e-5)
    np.testing.assert_allclose(sample, decoded[1], atol=1e-5)
    assert np.abs(mode - sample).max() > 1e-2


def test_padding_and_cropping_frame_any_size():
    x = pictures(7, 10)
    padded, size = pad_to_stride(x, 4)
    assert padded.shape == (2, 8, 12, 3) and size == (7, 10) and isinstance(padded, np.ndarray)
    np.testing.assert_array_equal(crop(padded, size), x)
    np.testing.assert_array_equal(padded[:, 7], padded[:, 6])
    np.testing.assert_array_equal(padded[:, :, 11, :], padded[:, :, 9, :])
    for mode in ("edge", "reflect", "constant"):
        np.testing.assert_array_equal(pad_to_stride(jnp.asarray(x), 4, mode)[0], pad_to_stride(x, 4, mode)[0])
    whole, size = pad_to_stride(x[:, :, :8], 1)
    assert whole.shape[1:3] == size


def test_remat_and_plain_upsampling_change_no_number(params):
    """Values and gradients."""
    x = jnp.asarray(pictures(8, 8))

    def gradient(model):
        loss = lambda params: jnp.square(model.apply({"params": params}, x)).mean()  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    other = gradient(TINY.clone(remat=True, fold_upsampling=False))
    for ours, theirs in zip(jax.tree.leaves(gradient(TINY)), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * max(1.0, float(jnp.abs(theirs).max())))


def test_bfloat16_is_near_float32_and_returns_float32(params):
    """Of random weights, which no training has made to agree: 44 dB; rounding to 8 bits is 59."""
    x = jnp.asarray(pictures(16, 16))
    half, full = (
        jax.jit(lambda x, model=model: model.apply({"params": params}, x))(x)
        for model in (TINY.clone(dtype="bfloat16"), TINY)
    )
    assert half.dtype == jnp.float32
    assert 10 * np.log10(4 / np.square(half - full).mean()) > 40
    kernels = {leaf.dtype for leaf in jax.tree.leaves(params)}
    assert kernels == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"block_out_channels": (4, 7)}, "multiples of norm_num_groups 2"),
        ({"decoder_block_out_channels": (4,)}, "decoder_block_out_channels has 1 levels"),
        ({"down_block_types": ("DownEncoderBlock2D",)}, "1 entries for 2 levels"),
        ({"up_block_types": ("UpDecoderBlock2D", "Up")}, "an entry of up_block_types cannot be 'Up' .known: "),
        ({"latent_channels": 0}, "latent_channels must be at least 1"),
        ({"act_fn": "sine"}, "act_fn cannot be 'sine'"),
        ({"padding_mode": "circular"}, "padding_mode cannot be 'circular' .known: zeros, reflect"),
        ({"patch_size": (2,)}, "patch_size is .2,., not .height, width."),
        ({"patch_size": (2, 2), "latents_mean": (0.0,) * 4}, "4 numbers for 4 latent_channels in patches of .2, 2."),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    config = {"name": "autoencoder_kl", "block_out_channels": [4, 8], "norm_num_groups": 2}
    assert models.build(config) == TINY
    with pytest.raises(UserError, match=message):
        models.build(config | change)


def test_posterior_is_a_diagonal_gaussian():
    moments = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 8)), jnp.bfloat16)
    moments = moments.at[0, 0, 0, 4:6].set(jnp.asarray([-99.0, 99.0], jnp.bfloat16))
    posterior = DiagonalGaussian.from_moments(moments)
    assert posterior.mean.dtype == jnp.float32
    assert (float(posterior.logvar.min()), float(posterior.logvar.max())) == (-30.0, 20.0)
    np.testing.assert_array_equal(posterior.mode(), moments[..., :4])
    mean, var = (np.asarray(value, np.float64) for value in (posterior.mean, posterior.var))
    np.testing.assert_allclose(posterior.kl(), 0.5 * (mean**2 + var - 1 - np.log(var)).reshape(3, -1).sum(1), rtol=1e-5)
    standard = DiagonalGaussian(jnp.zeros((2, 5)), jnp.zeros((2, 5)))
    np.testing.assert_array_equal(standard.kl(), 0.0)


def test_posterior_samples_have_its_moments():
    posterior = DiagonalGaussian(jnp.full((1, 20_000), 2.0), jnp.full((1, 20_000), np.log(9.0)))
    samples = jax.jit(lambda p, key: p.sample(key))(posterior, jax.random.key(0))
    assert abs(float(samples.mean()) - 2.0) < 0.1 and abs(float(samples.std()) - 3.0) < 0.1
