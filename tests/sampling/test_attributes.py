"""Attribute vectors: the true direction is found without reading on, one that keeps turning is read to its end."""

import numpy as np
import pytest

from dfm.errors import UserError
from dfm.sampling.attributes import attribute_vector, with_attribute

TRUE = np.array([3.0, 0.0, -4.0])


def batches(count, size=200, seed=0, direction=lambda step: TRUE):
    """Latents of noise, half of them moved by the attribute's direction, and how many batches have been asked for."""
    draw = np.random.default_rng(seed)
    for step in range(count):
        read.append(step)
        has = draw.random(size) < 0.5
        yield draw.normal(size=(size, 3)) + has[:, None] * direction(step), has


read: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_read():
    read.clear()


def test_settled_direction_is_the_true_one_and_the_rest_is_not_read():
    found = attribute_vector(batches(1_000))
    assert found.settled and len(read) < 20
    assert found.closeness >= 0.9999
    assert found.with_it + found.without_it == 200 * len(read)
    np.testing.assert_allclose(found.vector, TRUE, atol=0.3)


def test_stricter_closeness_reads_on():
    attribute_vector(batches(1_000), closeness=0.99)
    loose = len(read)
    read.clear()
    attribute_vector(batches(1_000), closeness=0.999999)
    assert len(read) > loose


def test_direction_that_keeps_turning_is_read_to_its_end():
    turning = lambda step: 50.0 * (step + 1) ** 2 * np.eye(3)[step % 3]  # noqa: E731
    found = attribute_vector(batches(12, direction=turning))
    assert not found.settled and len(read) == 12


def test_batches_of_one_kind_decide_nothing():
    """Sorted pictures: the means of both kinds are what counts, whatever the order."""
    with_it, without = np.full((4, 2), 2.0), np.zeros((4, 2))
    yes, no = np.ones(4, bool), np.zeros(4, bool)
    found = attribute_vector([(with_it, yes), (with_it, yes), (without, no), (without, no)])
    np.testing.assert_array_equal(found.vector, [2.0, 2.0])
    assert not found.settled and (found.with_it, found.without_it) == (8, 8)


@pytest.mark.parametrize(("has", "said"), [(False, "none"), (True, "all")])
def test_attribute_of_none_or_all_has_no_direction(has, said):
    with pytest.raises(UserError, match=said):
        attribute_vector([(np.zeros((3, 2)), np.full(3, has))])


def test_alpha_zero_is_the_latent_and_one_adds_the_vector():
    z = np.array([[1.0, 2.0], [3.0, 4.0]])
    moved = with_attribute(z, np.array([10.0, 0.0]), np.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(moved[:3], [[1, 2], [6, 2], [11, 2]])
    np.testing.assert_array_equal(moved[3:], [[3, 4], [8, 4], [13, 4]])
