import numpy as np
import pytest

from dfm.data import load
from dfm.metrics.moments import Moments
from dfm.metrics.principal_components import moments_of, principal_components


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train").take(np.arange(300)).reshape(300, -1).astype(np.float64)


def test_components_are_those_of_scikit_learn(digits):
    from sklearn.decomposition import PCA

    ours, theirs = principal_components(digits, 10), PCA(10, svd_solver="full").fit(digits)
    np.testing.assert_allclose(np.abs(ours.directions @ theirs.components_.T), np.eye(10), atol=1e-6)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_)
    np.testing.assert_allclose(ours.restored(digits), theirs.inverse_transform(theirs.transform(digits)), atol=1e-6)
    assert (ours.directions[np.arange(10), np.abs(ours.directions).argmax(1)] > 0).all()


def test_moments_in_pieces_serve_as_well(digits):
    pieces = [Moments.of(digits[:100]), Moments.of(digits[100:])]
    found = principal_components(pieces[0].merge(pieces[1]), 5)
    np.testing.assert_allclose(found.restored(digits), principal_components(digits, 5).restored(digits), atol=1e-6)
    assert moments_of(digits).count == 300


def test_all_components_restore_everything_and_constants_have_no_variance():
    constant = np.full((4, 3), 7.0)
    found = principal_components(constant)
    assert (found.variances == 0).all()
    np.testing.assert_allclose(found.restored(constant), constant)
