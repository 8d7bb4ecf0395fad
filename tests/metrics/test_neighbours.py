import tracemalloc

import numpy as np
import pytest

from dfm.metrics import neighbours
from dfm.metrics.neighbours import density_coverage, nearest, precision_recall


def cloud(count, seed, centre=0.0, spread=1.0, features=3):
    return (np.random.default_rng(seed).normal(size=(count, features)) * spread + centre).astype(np.float32)


def distances(x, y):
    return np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=-1)


def literal_precision(samples, references, k):
    radii = np.sort(distances(references, references), axis=1)[:, k]
    return np.mean([(distances(sample[None], references)[0] <= radii).any() for sample in samples])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", 17 * 50)


def test_precision_and_recall_are_those_of_the_definition():
    samples, references = cloud(60, 0, 0.7), cloud(50, 1)
    result = precision_recall(samples, references)
    assert result.precision == pytest.approx(literal_precision(samples, references, 3))
    assert result.recall == pytest.approx(literal_precision(references, samples, 3))


def test_precision_and_recall_the_right_way_round():
    # two clusters are real; the samples know one of them: good pictures, half of the variety
    references = np.concatenate([cloud(200, 0, -20), cloud(200, 1, 20)])
    half = precision_recall(cloud(400, 2, -20), references)
    assert half.precision > 0.9 and half.recall < 0.6
    # samples everywhere, real pictures in a corner: all variety, few good pictures
    wide = precision_recall(cloud(400, 3, spread=6), cloud(400, 4, spread=1))
    assert wide.precision < 0.6 and wide.recall > 0.9


def test_density_and_coverage_are_those_of_the_definition():
    samples, references = cloud(60, 0, 0.7), cloud(50, 1)
    radii = np.sort(distances(references, references), axis=1)[:, 5]
    inside = distances(samples, references) <= radii
    result = density_coverage(samples, references)
    assert result.density == pytest.approx(inside.sum() / (5 * 60))
    assert result.coverage == pytest.approx(inside.any(axis=0).mean())


def test_equal_sets_are_precise_and_cover_everything():
    x = cloud(100, 0)
    assert precision_recall(x, x) == neighbours.PrecisionRecall(1, 1)
    assert density_coverage(x, x).coverage == 1


def test_copies_have_a_radius_of_zero():
    x = np.repeat(cloud(5, 0), 4, axis=0)
    np.testing.assert_allclose(neighbours.squared_radii(x, 3), 0, atol=1e-6)


def test_nearest_neighbours_are_those_of_sorting():
    x, references = cloud(20, 0), cloud(40, 1)
    indices, found = nearest(x, references, 3)
    expected = np.argsort(distances(x, references), axis=1)[:, :3]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(found, np.take_along_axis(distances(x, references), expected, 1), rtol=1e-5)


def test_too_few_pictures():
    with pytest.raises(ValueError, match="more than 3"):
        precision_recall(cloud(3, 0), cloud(10, 1))


def test_memory_is_that_of_two_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", 2**18)
    samples, references = cloud(2000, 0), cloud(2000, 1)
    for metric in (precision_recall, density_coverage):
        tracemalloc.start()
        try:
            metric(samples, references)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2.5 * 8 * 2**18, peak  # three and more where sums are made of whole blocks
