import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dfm.metrics.picture_quality import FLOAT_PEAK, decibels, mse, psnr, ssim


def scikit_image_ssim(a, b):
    axis = -1 if a.ndim == 3 else None
    return structural_similarity(
        a, b, data_range=255, gaussian_weights=True, use_sample_covariance=False, channel_axis=axis
    )


def noisy(picture, deviation, seed=0):
    noise = np.random.default_rng(seed).normal(scale=deviation, size=picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("deviation", [1, 10, 60])
def test_agrees_with_scikit_image(photograph, deviation):
    distorted = noisy(photograph, deviation)
    assert psnr(photograph, distorted) == pytest.approx(peak_signal_noise_ratio(photograph, distorted), abs=1e-9)
    assert ssim(photograph, distorted) == pytest.approx(scikit_image_ssim(photograph, distorted), abs=1e-6)


@pytest.mark.parametrize("shape", [(11, 11), (11, 40), (13, 17), (12, 12, 1), (31, 11, 3)])
def test_ssim_agrees_with_scikit_image_in_odd_shapes(shape):
    a, b = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert ssim(a, b) == pytest.approx(scikit_image_ssim(a, b), abs=1e-6)


def literal_ssim(a, b, size):
    """Wang et al. 2004, Eq. 13 to 16, window by window."""
    offsets = np.arange(size) - size // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top, left in np.ndindex(a.shape[0] - size + 1, a.shape[1] - size + 1):
        x, y = (picture[top : top + size, left : left + size].astype(float) for picture in (a, b))
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
        values.append(
            (2 * mean_x * mean_y + c1)
            * (2 * covariance + c2)
            / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
        )
    return np.mean(values)


@pytest.mark.parametrize(("shape", "size"), [((10, 30), 9), ((9, 9), 9), ((4, 50), 3), ((5, 7), 5), ((2, 3), 1)])
def test_ssim_window_shrinks_in_small_pictures(shape, size):
    a, b = np.random.default_rng(1).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert ssim(a, b) == pytest.approx(literal_ssim(a, b, size), abs=1e-9)


def test_one_pixel_leaves_the_luminance_term():
    a, b = np.array([[[10]]], np.uint8), np.array([[[200]]], np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 10 * 200 + c1) / (10**2 + 200**2 + c1))


def test_known_values():
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert mse(black, white) == 255**2
    assert psnr(black, white) == 0
    assert psnr(black, black + np.uint8(1)) == pytest.approx(20 * math.log10(255))
    assert decibels(255**2 / 100) == pytest.approx(20.0) and decibels(0.0) == math.inf
    assert decibels(0.04, FLOAT_PEAK) == pytest.approx(20.0)


def test_uint8_differences_do_not_wrap():
    assert mse(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8)) == 1


pictures = st.tuples(st.integers(1, 14), st.integers(1, 14), st.sampled_from([1, 3])).flatmap(
    lambda shape: arrays(np.uint8, (2, *shape))
)


@given(pictures)
@settings(max_examples=50, deadline=None)
def test_laws(pair):
    a, b = pair
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1, abs=1e-9)
    assert psnr(a, b) == psnr(b, a)
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-12)
    assert ssim(a, b) <= 1 + 1e-9
    assert ssim(a, b) == pytest.approx(ssim(a[::-1], b[::-1]), abs=1e-9)
    assert ssim(a, b) == pytest.approx(np.mean([ssim(a[..., c], b[..., c]) for c in range(a.shape[-1])]), abs=1e-12)


def test_more_noise_is_worse(photograph):
    ladder = [noisy(photograph, deviation) for deviation in (2, 5, 15, 40)]
    for quality in (psnr, ssim):
        values = [quality(photograph, distorted) for distorted in ladder]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("quality", [mse, psnr, ssim])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((4, 4, 1), np.uint8), "differ in shape"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), "uint8 picture"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 picture"),
    ],
)
def test_refuses_what_would_broadcast(quality, other, message):
    with pytest.raises(ValueError, match=message):
        quality(np.zeros((4, 4, 3), np.uint8), other)
