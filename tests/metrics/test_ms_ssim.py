import numpy as np
import pytest

from dfm.metrics.picture_quality import MS_SSIM_WEIGHTS, ms_ssim, ssim


def photograph(height, width):
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[:height, :width])


def distorted(picture, seed=0, deviation=20):
    noise = np.random.default_rng(seed).normal(scale=deviation, size=picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def literal_ms_ssim(a, b):
    """With SciPy's filters in place of ours."""
    from scipy import ndimage

    def blurred(x):
        return ndimage.gaussian_filter(x, 1.5, radius=5, mode="constant")[5:-5, 5:-5]

    def halved(x):
        x = np.pad(x, [(0, side % 2) for side in x.shape], mode="symmetric")
        return ndimage.uniform_filter(x, 2, origin=-1)[::2, ::2]

    channels = []
    for x, y in zip(np.moveaxis(a, -1, 0).astype(float), np.moveaxis(b, -1, 0).astype(float), strict=True):
        factors = []
        for _ in MS_SSIM_WEIGHTS:
            mean_x, mean_y = blurred(x), blurred(y)
            variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
            structure = (2 * (blurred(x * y) - mean_x * mean_y) + 58.5225) / (variances + 58.5225)
            luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
            factors.append(structure.mean())
            x, y = halved(x), halved(y)
        factors[-1] = (luminance * structure).mean()
        channels.append(np.prod(np.power(factors, MS_SSIM_WEIGHTS)))
    return np.mean(channels)


@pytest.mark.parametrize(("height", "width"), [(161, 161), (176, 240), (171, 203)])
def test_agrees_with_another_implementation(height, width):
    a = photograph(height, width)
    b = distorted(a)
    assert ms_ssim(a, b) == pytest.approx(literal_ms_ssim(a, b), abs=1e-6)


def test_equal_pictures_have_one_and_worse_ones_less():
    a = photograph(170, 170)
    assert ms_ssim(a, a) == pytest.approx(1)
    values = [ms_ssim(a, distorted(a, deviation=deviation)) for deviation in (5, 20, 80)]
    assert 1 > values[0] > values[1] > values[2] > 0
    # noise is fine-grained, so coarse scales hardly see it
    assert values[1] > ssim(a, distorted(a, deviation=20))


def test_opposite_pictures_have_zero_and_no_nan():
    a = np.random.default_rng(0).integers(0, 256, (161, 161), dtype=np.uint8)
    assert ms_ssim(a, 255 - a) == 0


@pytest.mark.parametrize("shape", [(160, 300, 3), (300, 160)])
def test_small_pictures_have_none(shape):
    a = np.zeros(shape, np.uint8)
    assert ms_ssim(a, a) is None
