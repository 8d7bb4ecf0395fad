"""Ways through the latent space against their laws."""

import numpy as np
import pytest

from dfm.errors import UserError
from dfm.sampling import interpolation
from dfm.sampling.interpolation import between, class_representatives, directions, linear, loop, spherical, traversals

TIMES = np.linspace(0, 1, 9)


@pytest.fixture
def ends():
    return np.random.default_rng(0).normal(size=(2, 5))


@pytest.mark.parametrize("path", interpolation.PATHS)
def test_both_ends_are_reached(path, ends):
    way = between(*ends, 7, path)
    np.testing.assert_allclose(way[[0, -1]], ends, atol=1e-12)
    np.testing.assert_allclose(between(*ends[::-1], 7, path), way[::-1], atol=1e-12)


def test_linear_is_evenly_spaced(ends):
    steps = np.diff(linear(*ends, TIMES), axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to((ends[1] - ends[0]) / 8, steps.shape), atol=1e-12)


def test_spherical_turns_evenly_and_its_length_grows_linearly(ends):
    way = spherical(*ends, TIMES)
    lengths = np.linalg.norm(way, axis=1)
    np.testing.assert_allclose(np.diff(lengths), np.diff(lengths).mean(), atol=1e-12)
    unit = way / lengths[:, None]
    angles = np.arccos(np.clip((unit[1:] * unit[:-1]).sum(1), -1, 1))
    total = np.arccos(ends[0] @ ends[1] / np.prod(np.linalg.norm(ends, axis=1)))
    np.testing.assert_allclose(angles, total / 8, atol=1e-7)


def test_spherical_quarter_turn():
    way = spherical(np.array([2.0, 0.0]), np.array([0.0, 2.0]), np.array([0.5]))
    np.testing.assert_allclose(way, [[np.sqrt(2), np.sqrt(2)]])


@pytest.mark.parametrize("other", [(0.0, 0.0, 0.0), (2.0, 4.0, 6.0), (-1.0, -2.0, -3.0)])
def test_spherical_without_a_great_circle_is_straight(other):
    a, b = np.array([1.0, 2.0, 3.0]), np.array(other)
    np.testing.assert_allclose(spherical(a, b, TIMES), linear(a, b, TIMES), atol=1e-12)


def test_loop_visits_every_station_once_and_closes():
    stations = np.random.default_rng(1).normal(size=(3, 4))
    way = loop(stations, 5, "linear")
    assert way.shape == (15, 4)
    np.testing.assert_allclose(way[::5], stations)
    np.testing.assert_allclose(way[-1] + (way[-1] - way[-2]), stations[0], atol=1e-12)


def test_class_representative_points_most_towards_its_class():
    # two classes to the right and to the left; the last of each lies nearest to its mean, but off its direction
    right = np.array([[2.0, -2.0], [9.0, 0.1], [4.0, 1.9]])
    latents = np.concatenate([right, -right]) + 5.0
    known, chosen = class_representatives(latents, np.array([4, 4, 4, 2, 2, 2]))
    assert known.tolist() == [2, 4] and chosen.tolist() == [4, 1]


def test_representative_of_a_single_class_is_the_nearest_to_its_mean():
    known, chosen = class_representatives(np.array([[0.0], [1.0], [5.0]]), np.array([7, 7, 7]))
    assert known.tolist() == [7] and chosen.tolist() == [1]


def test_principal_directions_are_those_of_the_spread():
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    latents = rng.normal(size=(5000, 4)) * [4.0, 2.0, 1.0, 0.5] @ turn + 7
    vectors, scales = directions(latents, "principal")
    np.testing.assert_allclose(np.abs((vectors * turn).sum(1)), 1, atol=1e-3)
    np.testing.assert_allclose(scales, [4, 2, 1, 0.5], rtol=0.05)
    assert (vectors[np.arange(4), np.abs(vectors).argmax(1)] > 0).all()


def test_coordinates_come_by_spread():
    latents = np.random.default_rng(3).normal(size=(500, 3)) * [1.0, 3.0, 2.0]
    vectors, scales = directions(latents, "coordinates")
    assert vectors.argmax(1).tolist() == [1, 2, 0]
    np.testing.assert_allclose(scales, latents.std(0, ddof=1)[[1, 2, 0]])
    with pytest.raises(UserError, match="unknown directions '.*known: principal, coordinates"):
        directions(latents, "sideways")


def test_traversal_moves_along_one_direction_at_a_time():
    base, vectors = np.array([1.0, 2.0, 3.0]), np.eye(3)[:2]
    way = traversals(base, vectors, np.array([2.0, 1.0]), 3, 1.5).reshape(2, 3, 3)
    np.testing.assert_allclose(way[0], [[-2, 2, 3], [1, 2, 3], [4, 2, 3]])
    np.testing.assert_allclose(way[1], [[1, 0.5, 3], [1, 2, 3], [1, 3.5, 3]])
