"""Picture quality of 8-bit pictures, [height, width] or [height, width, channel]: MSE, PSNR, SSIM, MS-SSIM in NumPy.

Shapes are checked here, in words, on every call: a silent broadcast would be a wrong published number.
"""

import math

import numpy as np

from dfm.shapes import Float, UInt8

Picture = UInt8[np.ndarray, "height width *channel"]

PEAK = 255
FLOAT_PEAK = 2  # of pictures in [-1, 1]
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first
MS_SSIM_SMALLEST_SIDE = (SSIM_WINDOW - 1) * 2 ** (len(MS_SSIM_WEIGHTS) - 1) + 1


def mse(a: Picture, b: Picture) -> float:
    """Mean squared error over all pixels and channels, in squared 8-bit levels."""
    a, b = _checked_pair(a, b)
    return float(np.mean(np.square(a.astype(np.int32) - b), dtype=np.float64))


def decibels(error: float, peak: float = PEAK) -> float:
    """Peak signal-to-noise ratio of a mean squared error, 10 log10(peak^2 / error), in dB; `inf` for no error."""
    return 10 * math.log10(peak**2 / error) if error else math.inf


def psnr(a: Picture, b: Picture) -> float:
    """`decibels` of the mean squared error: `inf` for identical pictures (null in JSON)."""
    return decibels(mse(a, b))


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity, at most 1, mean over positions, then over channels (Wang et al. 2004, Eq. 13).

    Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population (co)variances, and only positions where
    the window lies inside the picture: scikit-image with `gaussian_weights=True, use_sample_covariance=False`.
    Where a side is shorter than 11 pixels, the window shrinks to the largest odd size that fits; at 1x1 only the
    luminance term is left.
    """
    a, b = _checked_pair(a, b)
    size = min(SSIM_WINDOW, *a.shape[:2])
    window = _gaussian_window(size - (size % 2 == 0))
    channels_a, channels_b = _channels(a), _channels(b)
    return float(np.mean([_channel_ssim(x, y, window)[0] for x, y in zip(channels_a, channels_b, strict=True)]))


def ms_ssim(a: Picture, b: Picture) -> float | None:
    """Multi-scale structural similarity, at most 1 (Wang, Simoncelli and Bovik 2003), mean over channels.

    prod_j mean(structure_j)^w_j, with the whole SSIM at the coarsest of five scales; each scale averages 2x2 pixels of
    the one before (an odd edge is repeated). Negative means count as zero. None where a side is shorter than 161
    pixels, since the window would not fit the coarsest scale.
    """
    a, b = _checked_pair(a, b)
    if min(a.shape[:2]) < MS_SSIM_SMALLEST_SIDE:
        return None
    window = _gaussian_window(SSIM_WINDOW)
    values = []
    for x, y in zip(_channels(a), _channels(b), strict=True):
        product = 1.0
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            x, y = (_halved(x), _halved(y)) if scale else (x, y)
            whole, structure = _channel_ssim(x, y, window)
            last = scale == len(MS_SSIM_WEIGHTS) - 1
            product *= max(whole if last else structure, 0.0) ** weight
        values.append(product)
    return float(np.mean(values))


def _checked_pair(a: Picture, b: Picture) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    for picture in (a, b):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.size == 0:
            raise ValueError(
                "expected a uint8 picture [height, width] or [height, width, channel], "
                f"got {picture.dtype} {list(picture.shape)}"
            )
    if a.shape != b.shape:
        raise ValueError(f"pictures differ in shape: {list(a.shape)} and {list(b.shape)}")
    return a, b


def _channels(picture: np.ndarray) -> Float[np.ndarray, "channel height width"]:
    return np.moveaxis(np.atleast_3d(picture), -1, 0).astype(np.float64)


def _halved(plane: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "half_height half_width"]:
    plane = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def _gaussian_window(size: int) -> Float[np.ndarray, " size"]:
    offsets = np.arange(size) - size // 2
    weights = np.exp(-0.5 * np.square(offsets / SSIM_SIGMA))
    return weights / weights.sum()


def _channel_ssim(
    x: Float[np.ndarray, "height width"], y: Float[np.ndarray, "height width"], window: np.ndarray
) -> tuple[float, float]:
    """(SSIM, its factor for contrast and structure), each a mean over positions."""
    mean_x, mean_y = _filter(x, window), _filter(y, window)
    variance_x = _filter(x * x, window) - mean_x**2
    variance_y = _filter(y * y, window) - mean_y**2
    covariance = _filter(x * y, window) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure)), float(np.mean(structure))


def _filter(plane: Float[np.ndarray, "height width"], window: Float[np.ndarray, " size"]) -> np.ndarray:
    """Separable filtering of the region where the window fits: [height - size + 1, width - size + 1]."""
    height, width = (side - len(window) + 1 for side in plane.shape)
    rows = sum(weight * plane[start : start + height] for start, weight in enumerate(window))
    return sum(weight * rows[:, start : start + width] for start, weight in enumerate(window))
