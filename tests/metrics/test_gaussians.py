import numpy as np
import pytest

from dfm.metrics.gaussians import GaussianMoments, gaussian_kl


def test_divergence_of_one_dimension():
    # KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - log 4) / 2
    p, q = GaussianMoments(np.ones(1), 4 * np.eye(1)), GaussianMoments(np.zeros(1), np.eye(1))
    assert gaussian_kl(p, q) == pytest.approx((4 - np.log(4)) / 2)
    assert gaussian_kl(q, q) == 0


def test_samples_of_the_prior_itself_have_the_divergence_of_their_number_alone():
    """KL of n samples' moments from N(0, I) is about d (d + 3) / 4 n; draws in place of the prior would add theirs."""
    d, n = 100, 20_000
    vectors = np.random.default_rng(0).normal(size=(n, d))
    found = gaussian_kl(GaussianMoments.of(vectors), GaussianMoments(np.zeros(d), np.eye(d)))
    assert found == pytest.approx(d * (d + 3) / (4 * n), rel=0.05)


@pytest.mark.parametrize("singular", [np.zeros((2, 2)), np.diag([1.0, 0.0]), -np.eye(2)])
def test_a_covariance_that_is_none_has_no_divergence(singular):
    p, q = GaussianMoments(np.zeros(2), singular), GaussianMoments(np.zeros(2), np.eye(2))
    assert gaussian_kl(p, q) is None and gaussian_kl(q, p) is None
