"""The COIN peer: sizes and initialisation of the SIREN, and a round trip through real bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.codec.bench import coin
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.models.siren import Siren, parameter_count


def smooth_picture(height, width, channels=3):
    rows, columns = np.mgrid[:height, :width]
    planes = [127 + 60 * np.sin(rows / (7 + c)) + 60 * np.cos(columns / (5 + c)) for c in range(channels)]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "depth, width, count", [(5, 20, 1803), (5, 30, 3903), (10, 28, 7479), (10, 40, 15003), (13, 49, 29697)]
)
def test_parameter_counts_of_the_paper(depth, width, count):
    shapes = jax.eval_shape(Siren(width, depth).init, jax.random.key(0), jnp.zeros((1, 2)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count == parameter_count(width, depth)


def test_ladder_has_the_rates_of_the_paper():
    np.testing.assert_allclose(coin.LADDER_BITS_PER_PIXEL, [0.07, 0.15, 0.3, 0.6, 1.2], rtol=0.08)


def test_initial_weights():
    """Bounds and deviations of Sitzmann et al. 2020: 1/n in the first layer, sqrt(6/n)/w0 in all others."""
    width, w0 = 64, 30
    params = jax.jit(Siren(width, depth=4, w0=w0).init)(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    for name, layer in params.items():
        bound = 1 / 2 if name == "layer_0" else np.sqrt(6 / width) / w0
        for leaf in layer.values():
            assert float(jnp.abs(leaf).max()) <= bound
        assert float(layer["kernel"].std()) == pytest.approx(bound / np.sqrt(3), rel=0.15)


def test_sines_keep_their_distribution_with_depth():
    """Arguments of the sines have unit variance at any depth, so hidden units look alike: the point of that init."""
    x = jax.random.uniform(jax.random.key(1), (2000, 2), minval=-1, maxval=1)
    spreads = []
    for depth in (3, 9):
        model = Siren(128, depth)
        y, _ = jax.jit(model.init_with_output)(jax.random.key(0), x)
        spreads.append(float(y.std()))
    assert spreads[0] == pytest.approx(spreads[1], rel=0.5)


@pytest.mark.parametrize("channels, batch_pixels", [(3, None), (1, 64)])
def test_round_trip_fits_the_picture(channels, batch_pixels):
    image = smooth_picture(15, 20, channels)
    reports = []
    data = coin.encode_coin(
        image,
        16,
        3,
        250,
        1e-3,
        batch_pixels=batch_pixels,
        progress=lambda step, quality: reports.append((step, quality)),
    )
    assert len(data) == coin.file_bytes(16, 3, channels) == 11 + 2 * parameter_count(16, 3, channels)
    decoded = coin.decode_coin(data)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    assert psnr(image, decoded) > 25
    assert [step for step, _ in reports] == [100, 200, 250]
    assert reports[-1][1] >= reports[0][1]
    # float16 weights and 8-bit colours cost little against the float32 network that was kept
    assert psnr(image, decoded) >= min(reports[-1][1], 40) - 1


def test_same_seed_same_bytes():
    image = smooth_picture(8, 9)
    first, again, other = (coin.encode_coin(image, 8, 2, 20, seed=seed, batch_pixels=16) for seed in (0, 0, 1))
    assert first == again != other


def test_best_network_is_kept():
    """An absurd learning rate diverges; the file then holds the best network met, here one of the first."""
    image = smooth_picture(8, 9)
    data = coin.encode_coin(image, 8, 2, 50, learning_rate=10.0)
    start = coin.encode_coin(image, 8, 2, 50, learning_rate=0.0)
    assert psnr(image, coin.decode_coin(data)) >= psnr(image, coin.decode_coin(start)) - 0.1


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3)])
def test_thin_pictures(shape):
    image = np.full(shape, 77, np.uint8)
    assert coin.decode_coin(coin.encode_coin(image, 4, 2, 1)).shape == shape


def test_size_for_bytes_fits_and_covers_the_range():
    pixels = 256 * 256
    for rate in (0.15, 0.3, 0.6, 1.0, 1.2):
        width, depth = coin.size_for_bytes(pixels, rate * pixels / 8)
        assert 0.8 * rate < 8 * coin.file_bytes(width, depth) / pixels <= rate
    assert coin.size_for_bytes(pixels, 1) == (1, 5)


def test_damaged_files():
    data = coin.encode_coin(smooth_picture(8, 9), 4, 2, 1)
    for damaged in (
        b"",
        data[:5],
        b"XXXX" + data[4:],
        data[:-1],
        data + b"\0",
        data[:8] + b"\2" + data[9:],
        data[:4] + b"\0\0" + data[6:],
    ):
        with pytest.raises(UserError, match="COIN"):
            coin.decode_coin(damaged)
    coin.decode_coin(data[:11] + b"\xff" * (len(data) - 11))  # every weight a NaN: a picture, if a black one


def test_clear_errors():
    with pytest.raises(UserError, match="1 or 3 channels"):
        coin.encode_coin(np.zeros((4, 4, 2), np.uint8), 4, 2, 1)
    with pytest.raises(UserError, match="positive number of steps"):
        coin.encode_coin(np.zeros((4, 4, 3), np.uint8), 4, 2, 0)
