"""Densities on latents against closed forms and scikit-learn, their sampling laws, and degenerate latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal

from dfm import priors
from dfm.errors import UserError
from dfm.priors import files, find
from dfm.priors.gaussian import Gaussian, Normal
from dfm.priors.mixture import Mixture
from dfm.priors.prior import RIDGE, mean_log_likelihood

DIMENSION = 4
OURS = ("normal", "gaussian", "gmm")  # whose moments and centres stand here in closed form; laws are of all PRIORS

OPTIONS = {  # quick to fit; laws hold for any net
    "gmm": {"components": 3},
    "two_stage": {"width": 16, "steps": 300, "learning_rate": 3e-3},
    "flow": {"couplings": 4, "width": 16, "steps": 300, "learning_rate": 3e-3},
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def latents():
    """Three separate clouds, stretched and far from the origin, of a scale that is not one."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0, 0, 0], [9, 0, -9, 0], [0, 12, 0, 4]])
    stretch = rng.normal(size=(3, DIMENSION, DIMENSION))
    clouds = centres[:, None] + rng.normal(size=(3, 200, DIMENSION)) @ stretch
    return (0.01 * (clouds.reshape(-1, DIMENSION) + 5.0)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(latents):
    return {name: find(name).fit(latents, **OPTIONS.get(name, {})) for name in priors.PRIORS}


def test_normal_is_the_standard_normal_density(latents):
    z = 100 * latents
    expected = multivariate_normal.logpdf(z, jnp.zeros(DIMENSION), jnp.eye(DIMENSION))
    np.testing.assert_allclose(Normal.fit(latents).log_prob(z), expected, rtol=1e-5)


def test_gaussian_has_mean_and_population_covariance(fitted, latents):
    values = latents.astype(np.float64)
    gaussian = fitted["gaussian"]
    np.testing.assert_allclose(gaussian.mean, values.mean(0), rtol=1e-6)
    covariance = np.asarray(gaussian.scale_tril, np.float64) @ np.asarray(gaussian.scale_tril, np.float64).T
    expected = np.cov(values.T, bias=True)
    np.testing.assert_allclose(covariance, expected, atol=2 * RIDGE * np.trace(expected) / DIMENSION, rtol=1e-5)
    expected = multivariate_normal.logpdf(latents, gaussian.mean, jnp.asarray(covariance))
    np.testing.assert_allclose(gaussian.log_prob(latents), expected, rtol=1e-4)


def test_mean_log_likelihood_of_the_fitted_gaussian_has_its_closed_form(fitted, latents):
    """Under its own maximum-likelihood fit the mean log density is -(d log 2 pi + log det S + d) / 2."""
    covariance = np.cov(latents.astype(np.float64).T, bias=True)
    expected = -0.5 * (DIMENSION * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + DIMENSION)
    assert mean_log_likelihood(fitted["gaussian"], latents) == pytest.approx(expected, abs=1e-3)


def test_mixture_agrees_with_scikit_learn(fitted, latents):
    """scikit-learn's own density of the same standardised latents; a change of scale adds -d log(scale)."""
    from sklearn.mixture import GaussianMixture

    values = latents.astype(np.float64)
    scale = np.sqrt(values.var(0).mean())
    standard = (values - values.mean(0)) / scale
    reference = GaussianMixture(3, covariance_type="full", random_state=0).fit(standard)
    elsewhere = standard + np.random.default_rng(1).normal(size=standard.shape)
    for z in (standard, elsewhere):
        expected = reference.score_samples(z) - DIMENSION * np.log(scale)
        np.testing.assert_allclose(fitted["gmm"].log_prob(z * scale + values.mean(0)), expected, rtol=2e-3, atol=2e-3)


def test_one_component_is_the_gaussian(fitted, latents):
    np.testing.assert_allclose(
        Mixture.fit(latents, components=1).log_prob(latents), fitted["gaussian"].log_prob(latents), rtol=1e-4
    )


def test_mixture_of_separate_clouds_is_likelier_than_one_gaussian(fitted, latents):
    likelihood = {name: mean_log_likelihood(prior, latents) for name, prior in fitted.items()}
    assert likelihood["gmm"] > likelihood["gaussian"] + 1 > likelihood["normal"] + 1


@pytest.mark.parametrize("name", priors.PRIORS)
def test_density_integrates_to_one(name):
    latents = np.random.default_rng(2).normal(size=(100, 2)) @ np.array([[1.0, 0.4], [0, 0.5]])
    prior = find(name).fit(latents, **{**OPTIONS.get(name, {}), **({"components": 2} if name == "gmm" else {})})
    axis = np.linspace(-8, 8, 201)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    total = np.exp(np.asarray(prior.log_prob(grid), np.float64)).sum() * (axis[1] - axis[0]) ** 2
    if prior.is_bound:  # of 64 draws: nearly tight
        assert 0.9 < total < 1.01
    else:
        assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", priors.PRIORS)
def test_samples_depend_on_key_and_number_alone(fitted, name):
    prior, key = fitted[name], jax.random.key(3)
    together = np.asarray(prior.sample(key, 12))
    pieces = np.concatenate([prior.sample(key, n, start) for n, start in ((1, 0), (1, 1), (5, 2), (5, 7))])
    np.testing.assert_allclose(pieces, together, rtol=1e-5, atol=1e-7)
    assert len(np.unique(together.round(6), axis=0)) == 12
    assert not np.allclose(together, prior.sample(jax.random.key(4), 12))


@pytest.mark.parametrize("name", OURS)
def test_samples_have_the_moments_of_the_density(fitted, name):
    prior = fitted[name]
    samples = np.asarray(prior.sample(jax.random.key(0), 20_000), np.float64)
    mean, covariance = _moments(prior)
    spread = np.sqrt(np.trace(covariance))
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.03 * spread)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.03 * spread**2)


@pytest.mark.parametrize("name", OURS)
def test_temperature_scales_deviations(fitted, name):
    prior, key = fitted[name], jax.random.key(5)
    at_one, at_half, at_zero = (np.asarray(prior.sample(key, 50, temperature=t)) for t in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(at_half, (at_one + at_zero) / 2, atol=1e-6)
    allowed = np.asarray(prior.means if name == "gmm" else _moments(prior)[0][None])
    assert np.abs(at_zero[:, None] - allowed).max(-1).min(-1).max() < 1e-6


@pytest.mark.parametrize("name", priors.PRIORS)
def test_stored_prior_is_the_same(fitted, name, tmp_path):
    path = tmp_path / f"{name}.npz"
    files.save(path, fitted[name], {"step": 7, "components": 3})
    prior, facts = files.load(path)
    assert facts == {"step": 7, "components": 3}
    assert prior.dimension == DIMENSION
    key = jax.random.key(0)
    np.testing.assert_array_equal(prior.sample(key, 5), fitted[name].sample(key, 5))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_fit_is_deterministic(latents):
    first, second = (Mixture.fit(latents, components=3, seed=1) for _ in range(2))
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])


@pytest.mark.parametrize("name", ["gaussian", "gmm"])
def test_scale_of_the_latents_does_not_matter(name, latents):
    """A thousandfold smaller table gives the thousandfold smaller samples: the ridge is relative."""
    large, small = (find(name).fit(factor * latents, components=3) for factor in (1.0, 1e-3))
    key = jax.random.key(0)
    np.testing.assert_allclose(small.sample(key, 6), 1e-3 * large.sample(key, 6), rtol=1e-3, atol=1e-6)


class TestDegenerateLatents:
    @pytest.mark.parametrize("name", ["gaussian", "gmm"])
    def test_fewer_latents_than_dimensions(self, name):
        latents = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
        prior = find(name).fit(latents, components=2)
        samples = np.asarray(prior.sample(jax.random.key(0), 100))
        assert np.isfinite(samples).all() and np.isfinite(np.asarray(prior.log_prob(latents))).all()
        # they stay in the span of the latents, up to the ridge
        basis = np.linalg.svd(latents - latents.mean(0), full_matrices=False)[2][:4]
        deviations = samples - latents.mean(0)
        outside = deviations - deviations @ basis.T @ basis
        assert np.abs(outside).max() < 0.01

    @pytest.mark.parametrize("name", ["gaussian", "gmm"])
    def test_constant_columns(self, name, latents):
        with_constant = np.column_stack([latents, np.full(len(latents), 3.0)]).astype(np.float32)
        prior = find(name).fit(with_constant, components=2)
        samples = np.asarray(prior.sample(jax.random.key(0), 100))
        assert np.abs(samples[:, -1] - 3).max() < 0.01 * latents.std()
        assert np.isfinite(np.asarray(prior.log_prob(with_constant))).all()

    def test_fewer_distinct_latents_than_components(self):
        latents = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
        prior = Mixture.fit(latents, components=5)
        assert np.isfinite(np.asarray(prior.log_prob(latents))).all()
        assert np.isfinite(np.asarray(prior.sample(jax.random.key(0), 50))).all()

    @pytest.mark.parametrize("name", priors.PRIORS)
    def test_latents_that_are_not_finite_are_refused(self, name, latents):
        broken = latents.copy()
        broken[3, 1], broken[9, 0] = np.nan, np.inf
        with pytest.raises(UserError, match="2 of 600 latents are not finite"):
            find(name).fit(broken, **OPTIONS.get(name, {}))

    @pytest.mark.parametrize("name", [name for name in priors.PRIORS if name != "normal"])
    @pytest.mark.parametrize("count", [1, 20])
    def test_equal_latents_are_refused(self, name, count):
        with pytest.raises(UserError, match="equal"):
            find(name).fit(np.full((count, 3), 0.1, np.float32), **({"components": 1} if name == "gmm" else {}))

    @pytest.mark.parametrize("components", [0, 601])
    def test_impossible_components_are_refused(self, components, latents):
        with pytest.raises(UserError, match="take 1 to 600"):
            Mixture.fit(latents, components=components)

    def test_empty_table_is_refused(self):
        with pytest.raises(UserError, match=r"not to \[0, 3\]"):
            Gaussian.fit(np.zeros((0, 3), np.float32))


def test_unknown_prior_is_named_with_the_nearest():
    known = ", ".join(priors.PRIORS)
    with pytest.raises(UserError) as caught:
        find("gausian")
    assert str(caught.value) == f"unknown prior 'gausian'; did you mean 'gaussian'? (known: {known})"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text"])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "gmm.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a stored prior, or damaged"):
        files.load(path)


def test_incomplete_and_missing_files_are_refused(fitted, tmp_path):
    path = tmp_path / "gmm.npz"
    with pytest.raises(UserError, match="no such file"):
        files.load(path)
    files.save(path, fitted["gmm"], {})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="damaged"):
        files.load(path)
    np.savez(path, prior="gmm", facts="{}", means=np.zeros((2, 2)))
    with pytest.raises(UserError, match="damaged"):
        files.load(path)


def _moments(prior):
    """Mean and covariance by the laws of total mean and variance."""
    if prior.name == "normal":
        return np.zeros(prior.dimension), np.eye(prior.dimension)
    arrays = {name: array.astype(np.float64) for name, array in prior.arrays().items()}
    if prior.name == "gaussian":
        return arrays["mean"], arrays["scale_tril"] @ arrays["scale_tril"].T
    weights = np.exp(arrays["log_weights"])
    mean = weights @ arrays["means"]
    within = np.einsum("k,kij,klj->il", weights, arrays["scale_trils"], arrays["scale_trils"])
    between = np.einsum("k,ki,kj->ij", weights, arrays["means"] - mean, arrays["means"] - mean)
    return mean, within + between


def test_moments_are_those_of_many_draws(fitted, latents):
    assert all(fitted[name].moments() for name in OURS)
    for name, prior in fitted.items():
        if (moments := prior.moments()) is None:  # no closed form
            continue
        mean, covariance = moments
        drawn = np.asarray(prior.sample(jax.random.key(0), 50_000), np.float64)
        scale = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose((drawn.mean(0) - mean) / scale, 0, atol=0.03, err_msg=name)
        np.testing.assert_allclose(
            (np.cov(drawn, rowvar=False) - covariance) / np.outer(scale, scale), 0, atol=0.05, err_msg=name
        )


def test_a_mixture_fitted_in_pieces_is_that_of_one_fit_and_says_how_far_it_is(latents):
    from sklearn.mixture import GaussianMixture

    from dfm.priors.prior import location_and_scale

    done = []
    ours = find("gmm").fit(latents, components=3, seed=1, progress=lambda *rounds: done.append(rounds))
    values = np.asarray(latents, np.float64)
    mean, scale = location_and_scale(values)
    theirs = GaussianMixture(3, reg_covar=RIDGE, random_state=1).fit((values - mean) / scale)
    np.testing.assert_allclose(ours.means, mean + scale * theirs.means_, rtol=1e-5, atol=1e-5)
    assert done[0] == (5, 100) and [rounds for rounds, _ in done] == list(range(5, done[-1][0] + 1, 5))
