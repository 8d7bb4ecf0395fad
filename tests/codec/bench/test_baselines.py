"""JPEG, WebP and AVIF as baselines: round trips, and never more bytes than asked for."""

import warnings

import numpy as np
import pytest

from dfm.codec.bench.baselines import CODECS, encode_to_size
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr


def smooth_picture(height=48, width=64, channels=3):
    rows, columns = np.mgrid[:height, :width]
    planes = [127 + 60 * np.sin(rows / (7 + c)) + 60 * np.cos(columns / (5 + c)) for c in range(channels)]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CODECS)
def test_round_trip_improves_with_quality(name, channels):
    image = smooth_picture(channels=channels)
    files = [CODECS[name].encode(image, quality) for quality in (10, 90)]
    decoded = [CODECS[name].decode(data, channels) for data in files]
    assert all(picture.shape == image.shape and picture.dtype == np.uint8 for picture in decoded)
    assert len(files[0]) < len(files[1])
    assert psnr(image, decoded[0]) < psnr(image, decoded[1])
    assert psnr(image, decoded[1]) > 35


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 13, 1), (7, 13), (5, 3, 3)])
@pytest.mark.parametrize("name", CODECS)
def test_small_and_odd_pictures(name, shape):
    image = np.full(shape, 100, np.uint8)
    channels = shape[2] if len(shape) == 3 else 1
    decoded = CODECS[name].decode(CODECS[name].encode(image, 80), channels)
    assert decoded.shape == (*shape[:2], channels)
    assert np.abs(decoded.astype(int) - 100).max() <= 6


def test_grey_jpeg_is_recognised_by_itself():
    assert CODECS["jpeg"].decode(CODECS["jpeg"].encode(smooth_picture(channels=1), 50)).shape[-1] == 1


def test_optimised_jpeg_keeps_full_colour_resolution():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, ::2, 0] = 255  # red stripes a pixel wide: subsampled colour smears them
    default, optimised = (
        psnr(image, CODECS[name].decode(CODECS[name].encode(image, 90))) for name in ("jpeg", "jpeg-opt")
    )
    assert optimised > default + 5


@pytest.mark.parametrize("name", CODECS)
def test_encode_to_size_is_never_above_when_reachable(name):
    image = smooth_picture()
    codec = CODECS[name]
    smallest = len(codec.encode(image, codec.lowest_quality))
    largest = len(codec.encode(image, codec.highest_quality))
    for target in (smallest, smallest + 1, (2 * smallest + largest) // 3, largest, 10 * largest):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = encode_to_size(name, image, target)
        assert len(data) <= target
        codec.decode(data)
    assert data == codec.encode(image, codec.highest_quality)


def test_encode_to_size_uses_the_room_it_has():
    image = smooth_picture()
    lengths = [len(CODECS["jpeg"].encode(image, quality)) for quality in range(1, 101)]
    target = lengths[59]
    data = encode_to_size(CODECS["jpeg"], image, target)
    assert len(data) >= 0.97 * max(length for length in lengths if length <= target)


def test_encode_to_size_says_when_unreachable():
    image = smooth_picture()
    with pytest.warns(UserWarning, match="cannot make this picture smaller"):
        data = encode_to_size("jpeg", image, 10)
    assert data == CODECS["jpeg"].encode(image, 1)


def test_clear_errors():
    with pytest.raises(UserError, match="1 or 3 channels"):
        CODECS["jpeg"].encode(np.zeros((4, 4, 4), np.uint8), 50)
    with pytest.raises(UserError, match="uint8 array"):
        CODECS["jpeg"].encode(np.zeros((4, 4, 3)), 50)
    with pytest.raises(UserError, match="quality must be 1 to 100, not 0"):
        CODECS["jpeg"].encode(np.zeros((4, 4, 3), np.uint8), 0)
    with pytest.raises(UserError, match="webp cannot hold 16400x1 pixels"):
        CODECS["webp"].encode(np.zeros((1, 16400, 3), np.uint8), 50)
