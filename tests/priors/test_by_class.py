"""Priors of conditional models: a density a class, their mixture, stored and restored."""

import jax
import numpy as np
import pytest

from dfm.errors import UserError
from dfm.priors import files, find
from dfm.priors.by_class import fit_by_class
from dfm.priors.prior import mean_log_likelihood

OPTIONS = {
    "gaussian": {},
    "gmm": {"components": 2},
    "flow": {"couplings": 4, "width": 16, "steps": 600, "learning_rate": 3e-3},
    "two_stage": {"width": 16, "steps": 600, "learning_rate": 3e-3},
}
CENTRES = np.array([[-4.0, 0, 0], [4, 0, 2], [0, 6, 0]])


@pytest.fixture(scope="module")
def data():
    """Three clouds, of which the first is half of all."""
    labels = np.resize([0, 0, 1, 2], 800).astype(np.int32)
    return CENTRES[labels] + 0.5 * np.random.default_rng(0).normal(size=(800, 3)), labels


@pytest.fixture(scope="module")
def fitted(data):
    return {name: fit_by_class(find(name), *data, 3, **options) for name, options in OPTIONS.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_samples_are_of_the_class_that_is_asked_for(fitted, name):
    prior, labels = fitted[name], np.resize([2, 0, 1], 90).astype(np.int32)
    assert (prior.name, prior.classes, prior.dimension) == (name, 3, 3)
    drawn = np.asarray(prior.sample(jax.random.key(0), 90, labels=labels))
    nearest = np.linalg.norm(drawn[:, None] - CENTRES[None], axis=-1).argmin(1)
    assert (nearest == labels).mean() > 0.95
    # of (key, i) and the label alone
    piece = prior.sample(jax.random.key(0), 5, start=40, labels=labels[40:45])
    np.testing.assert_allclose(piece, drawn[40:45], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_without_labels_it_is_the_mixture(fitted, data, name):
    prior, (latents, labels) = fitted[name], data
    drawn = np.asarray(prior.sample(jax.random.key(1), 2000))
    nearest = np.linalg.norm(drawn[:, None] - CENTRES[None], axis=-1).argmin(1)
    np.testing.assert_allclose(np.bincount(nearest, minlength=3) / 2000, [0.5, 0.25, 0.25], atol=0.06)
    some = latents[:8].astype(np.float32)
    each = np.stack([prior.log_prob(some, np.full(8, label)) for label in range(3)])
    expected = np.log((np.array([0.5, 0.25, 0.25])[:, None] * np.exp(each.astype(np.float64))).sum(0))
    np.testing.assert_allclose(prior.log_prob(some), expected, rtol=1e-4, atol=1e-4)
    with_labels, without = mean_log_likelihood(prior, latents, labels), mean_log_likelihood(prior, latents)
    assert with_labels > without + 0.5


def test_each_class_has_its_own_fit(fitted, data):
    latents, labels = data
    own = find("gaussian").fit(latents[labels == 1])
    of_class = fitted["gaussian"].of_class(1)
    np.testing.assert_allclose(of_class.mean, own.mean, rtol=1e-6)
    np.testing.assert_allclose(of_class.scale_tril, own.scale_tril, rtol=1e-6)
    mean, covariance = fitted["gaussian"].moments()
    np.testing.assert_allclose(mean, latents.mean(0), atol=1e-4)
    np.testing.assert_allclose(covariance, np.cov(latents.T, bias=True), atol=1e-3)


@pytest.mark.parametrize("name", OPTIONS)
def test_stored_and_restored(fitted, name, tmp_path):
    files.save(tmp_path / "prior.npz", fitted[name], {"step": 3})
    prior, facts = files.load(tmp_path / "prior.npz")
    assert (prior.name, prior.classes, facts) == (name, 3, {"step": 3})
    labels = np.array([0, 1, 2, 0], np.int32)
    for their_labels in (labels, None):
        np.testing.assert_array_equal(
            prior.sample(jax.random.key(0), 4, labels=their_labels),
            fitted[name].sample(jax.random.key(0), 4, labels=their_labels),
        )


def test_classes_that_cannot_be_fitted_are_named(data):
    latents, labels = data
    with pytest.raises(UserError, match="no latents of class 3"):
        fit_by_class(find("gaussian"), latents, labels, 4)
    constant = np.where((labels == 1)[:, None], 1.0, latents)
    with pytest.raises(UserError, match="class 1: all 200 latents are equal"):
        fit_by_class(find("gaussian"), constant, labels, 3)
