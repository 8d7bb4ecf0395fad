"""Distances between sets of feature vectors: closed forms, laws and literal implementations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.data import load
from dfm.metrics import kernel, sliced
from dfm.metrics.confidence import recognised_share
from dfm.metrics.frechet import FrechetReference, extrapolated_distance, frechet_distance
from dfm.metrics.inception_score import inception_score
from dfm.metrics.moments import Moments
from dfm.metrics.networks import load as load_network


def vectors(count, features=6, seed=0, shift=0.0, scale=1.0):
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(features, features))
    return ((generator.normal(size=(count, features)) @ mixing) * scale + shift).astype(np.float32)


def test_moments_are_those_of_numpy():
    x = vectors(50)
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-12)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_streaming_moments_are_those_of_all_at_once(sizes, random):
    # far from zero, where the sum of squares would lose its digits
    x = vectors(sum(sizes), shift=1e4)
    parts = [Moments.of(part) for part in np.split(x, np.cumsum(sizes)[:-1])]
    random.shuffle(parts)
    merged = Moments.nothing(6)
    for part in parts:
        merged = merged.merge(part)
    whole = Moments.of(x)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-9, atol=1e-6)


def gaussian(mean, covariance, count=1000):
    return Moments.from_covariance(count, mean, covariance)


def test_frechet_distance_of_known_gaussians():
    # commuting covariances: |m|^2 + sum (s1 - s2)^2
    deviations_a, deviations_b = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    a, b = ((rotation * d**2) @ rotation.T for d in (deviations_a, deviations_b))
    result = frechet_distance(gaussian(np.zeros(3), a), gaussian(np.array([1.0, -2.0, 0.0]), b))
    assert result.mean_term == pytest.approx(5)
    assert result.covariance_term == pytest.approx(np.square(deviations_a - deviations_b).sum())
    assert result.value == pytest.approx(result.mean_term + result.covariance_term)


def test_frechet_distance_is_that_of_the_matrix_root():
    import scipy.linalg

    a, b = Moments.of(vectors(40, 5)), Moments.of(vectors(40, 5, seed=1, shift=0.3, scale=1.4))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [3, 100])
def test_frechet_distance_to_itself_is_zero_and_it_is_symmetric(count):
    # three vectors: covariances of rank two in six dimensions
    a, b = Moments.of(vectors(count)), Moments.of(vectors(count, seed=1, shift=0.5))
    assert frechet_distance(a, a).value == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, b).value == pytest.approx(frechet_distance(b, a).value, rel=1e-6)
    assert -1e-9 < frechet_distance(a, b).most_negative_eigenvalue <= 0


def test_frechet_distance_tells_of_a_matrix_that_is_no_covariance():
    wrong = np.diag([1.0, -0.2])
    result = frechet_distance(gaussian(np.zeros(2), wrong), gaussian(np.zeros(2), np.eye(2)))
    assert result.most_negative_eigenvalue == pytest.approx(-0.2)


def test_extrapolation_removes_the_bias_of_few_samples():
    reference = FrechetReference(gaussian(np.zeros(20), np.eye(20), 10**6))
    samples = np.random.default_rng(0).normal(size=(2000, 20)).astype(np.float32)
    biased = reference.distance(Moments.of(samples)).value
    value, sizes, distances = extrapolated_distance(reference, samples, seed=0)
    assert sizes[0] == 200 and sizes[-1] == 2000 and len(sizes) == len(distances) == 15
    assert distances[-1] == pytest.approx(biased)
    assert abs(value) < 0.2 * biased


def literal_squared_mmd(x, y):
    def k(a, b):
        return (np.dot(a, b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_squared_mmd_is_the_double_sum(monkeypatch):
    x, y = vectors(11).astype(np.float64), vectors(7, seed=1).astype(np.float64)
    expected = literal_squared_mmd(x, y)
    assert kernel.squared_mmd(x, y) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(kernel, "BLOCK_VALUES", 40)
    assert kernel.squared_mmd(x, y) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_is_near_zero_for_equal_distributions_only():
    pool = vectors(3000)
    same, spread = kernel.kernel_inception_distance(pool[:1500], pool[1500:], seed=0, subsets=20, subset_size=300)
    other, _ = kernel.kernel_inception_distance(pool[:1500], vectors(1500, seed=2, shift=1), 0, 20, 300)
    assert abs(same) < 2 * spread and spread > 0
    assert other > 20 * abs(same)
    again = kernel.kernel_inception_distance(pool[:1500], pool[1500:], seed=0, subsets=20, subset_size=300)
    assert again == (same, spread)


def test_gaussian_mmd_of_known_points():
    # one pair each, all at distance 2 from each other across and 0 within
    x, y = np.zeros((2, 1)), np.full((2, 1), 2.0)
    expected = 2 - 2 * np.exp(-4 / 2)
    assert kernel.squared_mmd(x, y, kernel.gaussian_kernel(1.0)) == pytest.approx(expected)
    assert kernel.median_distance(np.array([[0.0], [3.0]]), seed=0) == 3


def test_sliced_distance_of_a_shift():
    # every direction sees (shift . u)^2, whose mean is |shift|^2 / d
    x = vectors(500)
    shift = np.array([1, 0, 2, 0, 0, 0], np.float32)
    value = sliced.squared_sliced_wasserstein(x, x + shift, seed=0, projections=4000)
    assert value == pytest.approx(5 / 6, rel=0.05)
    assert sliced.mind(x, x + shift, seed=0) == pytest.approx(3 * 5, rel=0.1)
    assert sliced.squared_sliced_wasserstein(x, x, seed=0) == 0


def test_sliced_distance_of_sets_of_different_size():
    # quantile functions: 0 1 against 0 0 1 1 is nothing, against 0 1 1 1 half a quarter
    x, same, other = (np.array(values, np.float64)[:, None] for values in ([0, 1], [1, 0, 1, 0], [1, 1, 0, 1]))
    assert sliced.squared_sliced_wasserstein(x, same, seed=0) == pytest.approx(0, abs=1e-12)
    assert sliced.squared_sliced_wasserstein(x, other, seed=0) == pytest.approx(0.25)
    assert sliced.squared_sliced_wasserstein(other, x, seed=0) == pytest.approx(0.25)
    thirds = np.array([[0.0], [0.0], [3.0]])
    assert sliced.squared_sliced_wasserstein(x, thirds, seed=0) == pytest.approx(1 / 6 * 1 + 2 / 6 * 4)


def test_inception_score_at_both_ends():
    certain = np.full((1000, 5), -100.0, np.float32)
    certain[np.arange(1000), np.arange(1000) % 5] = 100
    assert inception_score(certain)[0] == pytest.approx(5, rel=0.02)
    assert inception_score(np.zeros((1000, 5), np.float32)) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    with pytest.raises(ValueError, match="at least 10"):
        inception_score(certain[:9])


def test_inception_score_is_that_of_the_formula():
    logits = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    marginal = p.mean(0)
    divergence = sum(row[i] * np.log(row[i] / marginal[i]) for row in p for i in range(4)) / 30
    assert inception_score(logits, splits=1)[0] == pytest.approx(np.exp(divergence))


def test_recognised_are_those_surer_than_a_tenth_of_the_references():
    def logits(odds):  # of the first of three classes against the two others
        return np.log(np.stack([np.float64(odds), *np.ones((2, len(odds)))], 1)).astype(np.float32)

    references = logits(2.0 * np.arange(1, 102))  # confidence odds / (odds + 2); the tenth percentile has odds of 22
    share, threshold = recognised_share(logits([2.0, 21.0, 23.0, 1e9]), references)
    assert share == 0.5 and threshold == pytest.approx(22 / 24)
    assert recognised_share(references, references)[0] == pytest.approx(90 / 101)
    # two that float32 calls certain are told apart
    sure = np.array([[30.0, 0, 0], [40.0, 0, 0]], np.float32)
    assert recognised_share(sure, sure[:1])[0] == 0.5


def test_noise_is_not_recognised_and_digits_are():
    network = load_network("digits")
    digits = load("digits", "train").take(np.arange(500))
    noise = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 1), np.uint8)
    seen, unseen, none = (
        network.logits(np.asarray(network.apply(network.params, pictures)))
        for pictures in (digits, load("digits", "test").take(np.arange(297)), noise)
    )
    assert recognised_share(seen, unseen)[0] > 0.85 and recognised_share(none, unseen)[0] < 0.5
