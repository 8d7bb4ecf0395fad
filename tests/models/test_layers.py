"""Layers against NumPy and against the worked examples of the lecture on autoencoders (its layer algebra)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models.attention import attend
from dfm.models.layers import GroupNorm, convolve, group_moments, group_norm, upsample_convolve, upsample_nearest


def lecture_convolution(x, k):
    """Cross-correlation over the window t = 0 ... L + K - 2, zeros outside; k's taps are -r ... r, or -r + 1 ... r."""
    x, k = (np.atleast_2d(np.asarray(values, np.float32)) for values in (x, k))
    padding = tuple(((size - 1) // 2, 2 * (size - 1) - (size - 1) // 2) for size in k.shape)
    y = convolve(jnp.asarray(x[None, :, :, None]), jnp.asarray(k[:, :, None, None]), padding=padding)
    return np.asarray(y)[0, :, :, 0]


@pytest.mark.parametrize(
    "x, k, expected",
    [
        ([1, 2, 0, -1], [2, -1, 3], [[5, 0, 1, 1, -2, 0]]),
        ([3, 0, -2, 1, 4], [1, -2], [[3, 4, -4, -7, 4, 0]]),
        ([[1, 0], [2, -1]], [[1, 2], [0, -1]], [[2, 0, 0], [0, -1, 0], [0, 0, 0]]),
        ([[0, 1, 2], [-1, 3, 1]], [[2, 0], [1, -1]], [[-4, 4, 5, 0], [-2, 6, 2, 0], [0, 0, 0, 0]]),
    ],
)
def test_convolution_is_the_lecture_s(x, k, expected):
    np.testing.assert_array_equal(lecture_convolution(x, k), expected)


@pytest.mark.parametrize("length, kernel, stride, padding", [(7, 3, 1, 1), (8, 3, 2, 0), (9, 4, 3, 2), (5, 1, 2, 0)])
def test_output_length(length, kernel, stride, padding):
    """floor((L + 2P - D(K - 1) - 1) / S) + 1 with D = 1."""
    y = jax.eval_shape(
        lambda x, k: convolve(x, k, None, stride, ((padding, padding), (0, 0))),
        jnp.zeros((1, length, stride, 1)),
        jnp.zeros((kernel, 1, 1, 1)),
    )
    assert y.shape[1] == (length + 2 * padding - (kernel - 1) - 1) // stride + 1


def test_upsampling_repeats():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    for factor in (1, 2, 3):
        y = upsample_nearest(x, factor)[0, :, :, 0]
        rows, columns = (np.arange(size * factor) // factor for size in (2, 3))
        np.testing.assert_array_equal(y, np.asarray(x)[0, :, :, 0][np.ix_(rows, columns)])


@pytest.mark.parametrize("size", [(1, 1), (2, 5)])
def test_folded_upsampling_is_upsampling_and_convolution(size):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel, bias = (jnp.asarray(rng.normal(size=shape)) for shape in ((2, *size, 3), (3, 3, 3, 4), (4,)))
        expected = convolve(upsample_nearest(x), kernel, bias, padding=((1, 1), (1, 1)))
        np.testing.assert_allclose(upsample_convolve(x, kernel, bias), expected, rtol=0, atol=1e-14)


def test_group_norm_is_over_a_group_s_channels_and_all_positions():
    rng = np.random.default_rng(1)
    x, scale, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 5, 6), (6,), (6,)))
    wide = x.astype(np.float64).reshape(2, 15, 3, 2)
    mean, variance = wide.mean((1, 3), keepdims=True), wide.var((1, 3), keepdims=True)
    expected = ((wide - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape) * scale + bias
    ours = group_norm(*map(jnp.asarray, (x, scale, bias)), group_moments(jnp.asarray(x), 3))
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_group_norm_far_from_zero():
    """E[x^2] - E[x]^2 in float32 would be off by more than the variance itself."""
    x = 3000.0 + np.random.default_rng(2).normal(size=(1, 32, 32, 4)).astype(np.float32)
    mean, variance = group_moments(jnp.asarray(x), 2)
    np.testing.assert_allclose(variance[0], x.astype(np.float64).reshape(1, -1, 2, 2).var((0, 1, 3)), rtol=1e-4)


def test_group_norm_of_bfloat16_counts_in_float32():
    x = (jnp.ones((1, 64, 64, 4)) * 1.5 + jnp.arange(4) % 2).astype(jnp.bfloat16)  # a bfloat16 sum stops at 256
    mean, variance = group_moments(x, 2)
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, 2.0, rtol=1e-6)
    np.testing.assert_allclose(variance, 0.25, rtol=1e-6)
    y = GroupNorm(4, 2, dtype=jnp.bfloat16).apply({"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}, x)
    assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize("at_once", [7 * 2, 3 * 7 * 2, 1])
def test_chunked_attention_is_attention(at_once):
    """Chunks that divide the tokens, that do not, and single queries; gradients too."""
    rng = np.random.default_rng(3)
    q, k, v, w = (jnp.asarray(rng.normal(size=(2, 7, 4)), jnp.float32) for _ in range(4))

    def value(q, k, v, at_once):
        return (w * attend(q, k, v, at_once)).sum()

    scores = np.einsum("bqc,bkc->bqk", q, k) / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(attend(q, k, v, at_once), weights @ np.asarray(v), atol=1e-6)
    whole, chunked = (jax.grad(value, argnums=(0, 1, 2))(q, k, v, size) for size in (10**6, at_once))
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
