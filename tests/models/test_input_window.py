"""Which pixels the first layer can tell apart: the derivation in dfm/models/dfm.py, pair by pair."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm import models
from dfm.config import config_module, differences, resolve
from dfm.models.dfm import pixel_centres
from dfm.models.literal_fourier import basis_functions
from dfm.training.class_defaults import filled

CONFIGS = Path(__file__).parents[2] / "configs"
SIDES = {"digits": 8, "mnist": 28, "cifar10": 32}


def least_distance(side: int, basis: str, scale: float, shift: float) -> float:
    """Of the features of two pixels, over the side of a pixel times 2 pi: what a slope of one would give."""
    points = np.asarray(pixel_centres(side, side), np.float64) * scale + shift
    features = np.asarray(basis_functions(jnp.asarray(points, jnp.float32), basis), np.float64)
    squares = np.square(features).sum(1)
    distances = squares[:, None] + squares - 2 * features @ features.T
    np.fill_diagonal(distances, np.inf)
    return float(np.sqrt(max(distances.min(), 0.0)) / (2 * np.pi * scale / side))


@pytest.mark.parametrize("side", [8, 28, 32])
def test_without_a_shift_pixels_share_their_features(side):
    assert least_distance(side, "cas", 0.5, 0.0) < 1e-2
    assert least_distance(side, "cas", 1.0, 0.0) < 1e-2
    points = np.asarray(pixel_centres(side, side))
    on_line = points[np.isclose(points.sum(1), 0.5)]
    assert len(on_line) == side // 2
    features = basis_functions(jnp.asarray(0.5 * on_line), "cas")
    np.testing.assert_allclose(features, basis_functions(jnp.asarray(0.5 * on_line[:, ::-1]), "cas"), atol=1e-5)


@pytest.mark.parametrize("name", SIDES)
def test_the_tuned_presets_tell_all_pixels_apart(name):
    model = config_module(CONFIGS / f"dfm_{name}.py").get_config().model
    assert model.input_shift == pytest.approx(3 / 8 - model.input_scale / 2)
    assert least_distance(SIDES[name], model.basis, model.input_scale, model.input_shift) > 0.1


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("shift", [0.0, 0.125, 0.3])
def test_cos_sin_needs_no_shift(side, shift):
    assert least_distance(side, "cos_sin", 0.5, shift) > 0.9


def test_the_mirror_images_are_those_of_the_derivation():
    """A point of each line and its mirror image share their features; a small step off the line, they do not."""
    half, quarter, free = 0.5, 0.25, 0.07
    lines = [(free, total - free, quarter - free, quarter - total + free) for total in (quarter, 3 * quarter)]
    lines += [(free, fixed, quarter - free, fixed) for fixed in (0.0, half)]
    lines += [(fixed, free, fixed, quarter - free) for fixed in (0.0, half)]
    for u1, u2, v1, v2 in lines:
        pair = basis_functions(jnp.array([[u1, u2], [v1, v2]], jnp.float32), "cas")
        np.testing.assert_allclose(pair[0], pair[1], atol=1e-5)
    away = basis_functions(jnp.array([[free, quarter - free + 0.03], [quarter - free, free + 0.03]]), "cas")
    assert np.abs(away[0] - away[1]).max() > 0.05


def test_no_other_points_share_their_features():
    """On a grid that holds the lines, equal features mean: the same point, or one of the three mirror images."""
    size = 40
    grid = np.array(list(itertools.product(range(size), repeat=2)))  # in fortieths of the period
    features = np.asarray(basis_functions(jnp.asarray(grid / size, jnp.float32), "cas"))
    equal = np.argwhere(np.triu(np.abs(features[:, None] - features[None]).max(-1) < 1e-4, 1))
    assert len(equal) > 100
    quarter, half = size // 4, size // 2
    for u, v in grid[equal]:
        flips = (u + v - quarter) % size == 0  # which coordinate of v is 1/4 - that of u
        same = u == v
        assert (flips | same).all()
        both = flips.all() and u.sum() % half == quarter
        first = flips[0] and same[1] and u[1] % half == 0
        second = same[0] and flips[1] and u[0] % half == 0
        assert both or first or second


def test_a_shift_moves_the_points():
    sizes = {"height": 3, "width": 4, "channels": 1, "net_width": 2, "net_depth": 2, "latent_size": 2}
    config = {"name": "dfm", **sizes, "decoder_widths": (3,), "input_scale": 0.5}
    model, shifted = models.build(config), models.build({**config, "input_shift": 0.125})
    assert model.input_shift == 0.0  # what the config of an old run means
    variables = model.init(jax.random.key(0), jnp.zeros((1, 3, 4, 1)))
    vectors = model.apply(variables, jnp.ones((2, 2)), method="coefficients")
    points = jnp.array([[0.25, 0.5], [0.5, 0.125]])
    painted = shifted.apply({}, vectors, points, method="paint")
    np.testing.assert_allclose(painted, model.apply({}, vectors, points + 0.25, method="paint"), atol=1e-6)
    assert np.abs(painted - model.apply({}, vectors, points, method="paint")).max() > 1e-3


def test_a_run_without_the_key_goes_on_without_a_shift_and_with_no_other():
    config = config_module(CONFIGS / "dfm_digits.py").get_config()
    old = resolve(config).to_dict()
    del old["model"]["input_shift"]
    assert differences(*filled(old, resolve(config))) == ["model.input_shift: 0.0 -> 0.125"]
    config.model.input_shift = 0.0
    assert differences(*filled(old, resolve(config))) == []
