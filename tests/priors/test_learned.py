"""The VampPrior: its KL, its learning, its samples; and the prior over codes as a prior of latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal
from sklearn.datasets import load_digits

from dfm.data import load
from dfm.errors import UserError
from dfm.models.autoencoder import PSEUDO_INPUTS, Autoencoder
from dfm.models.code_transformer import CodeTransformer
from dfm.models.distributions import KL_DRAWS
from dfm.objectives.elbo import Elbo, iwae_nats
from dfm.priors.learned import OverCodes, Vamp

SIZE = {"height": 8, "width": 8, "channels": 1}
MODEL = {"trunk": "dense", "widths": (16,), "latent": (3,), **SIZE}


@pytest.fixture(scope="module")
def vae():
    objective = Elbo(Autoencoder(prior="vamp", pseudo_inputs=7, **MODEL))
    params = jax.jit(objective.init)(jax.random.key(0))
    return objective, objective.start_from_pictures(params, None, load("digits", "train"), 0)[0]


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(load_digits().images[:6, :, :, None] / 8 - 1, jnp.float32)


def prior_of(objective, params):
    components = objective.model.apply({"params": params}, method="prior_components")
    return Vamp(components.mean, components.logvar)


def test_the_prior_is_the_mean_of_the_posteriors_of_pseudo_inputs(vae):
    objective, params = vae
    prior = prior_of(objective, params)
    z = jax.random.normal(jax.random.key(1), (5, 3))
    density = jax.jit(lambda mean, logvar: multivariate_normal.pdf(z, mean, jnp.diag(jnp.exp(logvar))))
    each = [density(mean, logvar) for mean, logvar in zip(prior.means, prior.logvars, strict=True)]
    np.testing.assert_allclose(np.exp(prior.log_prob(z)), np.mean(each, 0), rtol=1e-4)
    encode = jax.jit(lambda x: objective.model.apply({"params": params}, x, method="encode"))
    posterior = encode(jnp.zeros((5, 8, 8, 1)))
    np.testing.assert_allclose(posterior.log_prior(z), prior.log_prob(z), rtol=1e-5)
    drawn = np.asarray(prior.sample(jax.random.key(2), 20_000))
    mean, covariance = prior.moments()
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.08)
    np.testing.assert_allclose(prior.sample(jax.random.key(2), 3, start=9), drawn[9:12], rtol=1e-5, atol=1e-6)


def test_the_rate_is_an_unbiased_estimate_of_the_kl(vae, images):
    """E_q [log q(z|x) - log p(z)], against densities of scipy's kind; IWAE-1 is the same ELBO."""
    objective, params = vae
    posterior = jax.jit(lambda x: objective.model.apply({"params": params}, x, method="encode"))(images)
    prior = prior_of(objective, params)
    keys = jax.random.split(jax.random.key(3), 4000)
    rates = jax.jit(jax.vmap(lambda key: posterior.rate(posterior.sample(key))))(keys)

    @jax.jit
    def by_hand(key):
        z = posterior.sample(key)
        log_q = jax.vmap(lambda z, mean, var: multivariate_normal.logpdf(z, mean, jnp.diag(var)))(
            z, posterior.mean, posterior.var
        )
        return log_q - prior.log_prob(z)

    np.testing.assert_allclose(rates[0], by_hand(keys[0]), rtol=1e-3, atol=1e-4)
    assert (rates.mean(0) > 0).all()
    errors = 5 * rates.std(0) / np.sqrt(KL_DRAWS)
    assert (jnp.abs(posterior.kl() - rates.mean(0)) < errors).all()
    terms = jax.jit(lambda key: objective.terms(params, images, None, jax.random.split(key, 1)[0])[:2])
    distortion, rate = terms(jax.random.key(4))
    np.testing.assert_allclose(
        iwae_nats(objective, params, images, None, jax.random.key(4), 1), distortion + rate, rtol=1e-4
    )


def test_pseudo_inputs_begin_as_pictures_and_learn(vae, images):
    objective, params = vae
    pictures = load("digits", "train").take(np.arange(1500)).reshape(1500, -1) / 127.5 - 1
    begun = np.asarray(jnp.tanh(params[PSEUDO_INPUTS])).reshape(7, -1)
    nearest = np.abs(begun[:, None] - np.clip(pictures, -0.9, 0.9)[None]).max(-1).min(-1)
    assert nearest.max() < 1e-5 and len(np.unique(begun, axis=0)) == 7
    batch = {"image": images, "label": jnp.zeros(6, jnp.int32), "index": jnp.arange(6)}
    step = jax.jit(lambda params, batch: objective.gradients(params, None, batch, jax.random.key(5), "")[:2])
    metrics, gradients = step(params, batch)
    assert float(jnp.abs(gradients[PSEUDO_INPUTS]).max()) > 0
    assert float(metrics["elbo_nats"]) == pytest.approx(-float(metrics["distortion_nats"] + metrics["rate_nats"]))


@pytest.mark.parametrize("options", [{"bottleneck": "point"}, {"classes": 3}, {"pseudo_inputs": 0}])
def test_a_vamp_prior_needs_a_posterior_without_classes(options):
    with pytest.raises(ValueError, match="prior 'vamp' needs"):
        Autoencoder(prior="vamp", **MODEL, **options)


def test_a_prior_over_codes_draws_vectors_of_the_book():
    transformer = CodeTransformer(1, 4, 5, layers=1, features=8, heads=2, classes=3)
    variables = jax.jit(transformer.init)(jax.random.key(0), jnp.zeros((1, 1, 4, 1)))
    book = jax.random.normal(jax.random.key(1), (5, 2))
    prior = OverCodes(transformer, variables, book, jnp.log(jnp.asarray([0.5, 0.5, 1e-20])))
    assert (prior.dimension, prior.classes, prior.name) == (8, 3, "codes")
    z = prior.sample(jax.random.key(2), 40)
    distances = jnp.abs(z.reshape(40, 4, 1, 2) - book).sum(-1)
    assert float(distances.min(-1).max()) == 0
    codes = distances.argmin(-1)
    labels = jnp.arange(40) % 3
    expected = transformer.apply(variables, codes, labels, method="log_prob").sum(1)
    np.testing.assert_allclose(prior.log_prob(z, labels), expected, rtol=1e-5)
    mixture = np.log(0.5 * sum(np.exp(np.asarray(prior.log_prob(z, jnp.full(40, label)))) for label in (0, 1)))
    np.testing.assert_allclose(prior.log_prob(z), mixture, rtol=1e-4)
    np.testing.assert_array_equal(prior.sample(jax.random.key(2), 4, start=30), z[30:34])
    with pytest.raises(TypeError, match="learned, not fitted"):
        OverCodes.fit(z)


@pytest.mark.parametrize("classes", [0, 3])
def test_one_sample_of_a_prior_over_codes_is_that_of_the_list_with_classes_and_without(classes):
    transformer = CodeTransformer(1, 4, 5, layers=1, features=8, heads=2, classes=classes)
    variables = jax.jit(transformer.init)(jax.random.key(0), jnp.zeros((1, 1, 4, 1)))
    weights = jnp.log(jnp.full(classes, 1 / max(1, classes)))
    prior = OverCodes(transformer, variables, jax.random.normal(jax.random.key(1), (5, 2)), weights)
    z = prior.sample(jax.random.key(2), 20)
    assert len(np.unique(z, axis=0)) > 5
    for number in (0, 7):
        one = prior.sample_one(jax.random.fold_in(jax.random.key(2), number))
        np.testing.assert_array_equal(one, z[number])
    if classes:
        of_two = prior.sample(jax.random.key(2), 20, labels=jnp.full(20, 2))
        assert of_two.shape == z.shape and (of_two != z).any() and (of_two == z).all(1).any()
    else:
        with pytest.raises(UserError, match="trained without classes"):
            prior.sample(jax.random.key(2), 20, labels=jnp.zeros(20, jnp.int32))
