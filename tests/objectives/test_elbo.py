"""Evidence lower bounds: sums of their terms, the KL, the IWAE, one level against several, conditions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dfm.models.autoencoder import Autoencoder
from dfm.models.distributions import DiagonalGaussian
from dfm.models.hierarchical_vae import HierarchicalVAE
from dfm.objectives.elbo import LIKELIHOOD, STEP, Elbo, iwae_nats

SIZE = {"height": 8, "width": 8, "channels": 1}
DENSE = {"trunk": "dense", "widths": (16,), "latent": (3,), **SIZE}


@pytest.fixture(scope="module")
def batch():
    digits = load_digits()
    images = jnp.asarray(digits.images[:6, :, :, None] / 8 - 1, jnp.float32)
    return {"image": images, "label": jnp.asarray(digits.target[:6], jnp.int32), "index": jnp.arange(6)}


def step(objective, batch, params=None, statistics=None):
    params = params or jax.jit(objective.init)(jax.random.key(0))
    statistics = statistics or objective.init_statistics(jax.random.key(0))
    gradients = jax.jit(objective.gradients, static_argnums=4)  # one by one, operations compile for ever
    return params, *gradients(params, statistics, batch, jax.random.key(1), "")


def apply(model, variables, *arguments, method):
    return jax.jit(functools.partial(model.apply, method=method))(variables, *arguments)


def test_the_loss_is_distortion_plus_beta_rate_a_dimension(batch):
    _, metrics, gradients, _ = step(Elbo(Autoencoder(**DENSE), beta=4.0), batch)
    expected = (float(metrics["distortion_nats"]) + 4 * float(metrics["rate_nats"])) / 64
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["elbo_nats"]) == pytest.approx(-float(metrics["distortion_nats"] + metrics["rate_nats"]))
    assert set(gradients) == {"encoder", "decoder"}


def test_kl_is_the_mean_log_ratio():
    """Closed form against draws, and the lecture's regulariser without the factor 1/2."""
    posterior = DiagonalGaussian(jnp.asarray([[0.5, -1.0]]), jnp.asarray([[-0.4, 0.7]]))
    draws = jax.vmap(lambda key: posterior.log_ratio(posterior.sample(key)))(
        jax.random.split(jax.random.key(0), 40_000)
    )
    assert float(-draws.mean()) == pytest.approx(float(posterior.kl()[0]), abs=0.02)
    lecture = float((posterior.mean**2 + posterior.var - posterior.logvar - 1).sum())
    assert float(posterior.kl()[0]) == pytest.approx(0.5 * lecture, rel=1e-5)


def test_a_learned_sigma_goes_to_the_optimal_one(batch):
    objective = Elbo(Autoencoder(**DENSE), sigma="learned", sigma_value=0.5)
    params, _, gradients, _ = step(objective, batch)
    optimal = Elbo(Autoencoder(**DENSE), sigma="optimal").terms(
        {k: v for k, v in params.items() if k != LIKELIHOOD}, batch["image"], None, jax.random.key(1)
    )
    too_small = float(jnp.sqrt(optimal[2].mean())) > 0.5
    assert (float(gradients[LIKELIHOOD]["log_sigma"]) < 0) == too_small


def test_the_warm_up_raises_the_weight_of_the_rate(batch):
    objective = Elbo(Autoencoder(**DENSE), warmup_steps=4)
    params, first, _, statistics = step(objective, batch)
    assert float(first["loss"]) == pytest.approx(float(first["distortion_nats"]) / 64, rel=1e-5)
    assert int(statistics[STEP]) == 1
    _, half, _, _ = step(objective, batch, params, {STEP: jnp.int32(2)})
    expected = (float(half["distortion_nats"]) + 0.5 * float(half["rate_nats"])) / 64
    assert float(half["loss"]) == pytest.approx(expected, rel=1e-5)
    _, later, _, _ = step(objective, batch, params, {STEP: jnp.int32(9)})
    assert float(later["loss"]) == pytest.approx(-float(later["elbo_nats"]) / 64, rel=1e-5)


def test_iwae_of_one_draw_is_an_elbo_and_more_draws_are_tighter(batch):
    objective = Elbo(Autoencoder(**DENSE))
    params = jax.jit(objective.init)(jax.random.key(0))
    key = jax.random.key(3)
    images = jnp.repeat(batch["image"][:1], 400, 0)
    bounds = [float(iwae_nats(objective, params, images, None, key, draws).mean()) for draws in (1, 5, 25)]
    posterior = objective.model.apply({"params": params}, images, method="encode")
    z = posterior.sample(jax.random.split(key, 1)[0])
    one_draw = objective.distortion(params, z, images, None)[0] - posterior.log_ratio(z)
    assert bounds[0] == pytest.approx(float(one_draw.mean()), rel=1e-4)
    assert bounds[0] > bounds[1] > bounds[2]
    weights = []
    for own in jax.random.split(key, 5):
        z = posterior.sample(own)
        weights.append(posterior.log_ratio(z) - objective.distortion(params, z, images, None)[0])
    five = -np.log(np.mean(np.exp(np.asarray(weights, np.float64)), 0))
    assert bounds[1] == pytest.approx(float(five.mean()), rel=1e-5)


def test_levels_add_up_and_one_level_is_a_vae(batch):
    """The rate is the sum over levels of KL(N(mu, sigma^2) || N(0, 1)), in NumPy; with one level, of a vector alone."""
    for levels in (1, 3):
        model = HierarchicalVAE(levels=levels, top=4, latent_channels=2, features=8, **SIZE)
        objective = Elbo(model)
        params, metrics, _, _ = step(objective, batch)
        posterior = apply(model, {"params": params}, batch["image"], method="encode")
        shapes = tuple(tuple(level.mean.shape[1:]) for level in posterior.levels)
        assert shapes == model.latent_shape and len(shapes) == levels
        moments = [(np.asarray(each.mean, float), np.asarray(each.logvar, float)) for each in posterior.levels]
        by_level = [0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum() / 6 for mean, logvar in moments]
        np.testing.assert_allclose([float(rate.mean()) for rate in posterior.kl_by_level()], by_level, rtol=1e-4)
        assert float(metrics["rate_nats"]) == pytest.approx(sum(by_level), rel=1e-4)
        assert float(metrics["loss"]) == pytest.approx(
            (float(metrics["distortion_nats"]) + sum(by_level)) / 64, rel=1e-4
        )


def test_every_level_reaches_the_picture(batch):
    model = HierarchicalVAE(levels=3, top=4, latent_channels=2, features=8, **SIZE)
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"])
    z = tuple(jnp.zeros((1, *shape)) for shape in model.latent_shape)
    gradient = jax.jit(jax.grad(lambda z: model.apply(variables, z, method="decode").sum()))(z)
    assert all(float(jnp.abs(level).max()) > 0 for level in gradient)


def test_a_label_changes_both_sides(batch):
    model = Autoencoder(classes=10, **DENSE)
    variables = model.init(jax.random.key(0), batch["image"], batch["label"])
    z = jnp.ones((6, 3))
    painted = [model.apply(variables, z, labels, method="decode") for labels in (batch["label"], batch["label"] + 1)]
    encoded = [
        model.apply(variables, batch["image"], labels, method="encode").mean
        for labels in (batch["label"], batch["label"] + 1)
    ]
    assert float(jnp.abs(painted[0] - painted[1]).max()) > 1e-3 and float(jnp.abs(encoded[0] - encoded[1]).max()) > 1e-3
    with pytest.raises(ValueError, match="labels are needed"):
        model.apply(variables, z, method="decode")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"likelihood": "bernoulli"}, "logits"),
        ({"sigma": "optimal", "likelihood": "laplace"}, "Gaussian's"),
        ({"beta": -1.0}, "at least 0"),
    ],
)
def test_what_cannot_be_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        Elbo(Autoencoder(**DENSE), **options)


def test_a_point_has_no_elbo():
    with pytest.raises(ValueError, match="density"):
        Elbo(Autoencoder(bottleneck="point", **DENSE))


def test_a_bernoulli_decoder_is_bounded_by_one(batch):
    model = Autoencoder(output="sigmoid", **DENSE)
    _, metrics, _, _ = step(Elbo(model, likelihood="bernoulli"), batch)
    assert np.isfinite(float(metrics["elbo_nats"])) and float(metrics["elbo_nats"]) < 0
