"""Bounds on the likelihood: parts that add up, a sigma that does not look ahead, and what bounds nothing says so."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dfm import models, objectives
from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import evaluate_run
from dfm.training.runs import Run

MODEL = {"name": "autoencoder", "height": 8, "width": 8, "trunk": "dense", "widths": (16,), "latent": (4,)}


def run_of(tmp_path, objective, **model) -> Run:
    built = models.build({**MODEL, **model}, (8, 8, 1))
    trained = objectives.build(objective, built)
    config = ConfigDict({"dataset": {"name": "digits", "split": "train", "label": -1}, "model": MODEL})
    return Run(config, tmp_path, 0, built, trained, trained.init(jax.random.key(0)), None)


def values(run, pictures, **settings):
    lines = evaluate_run(run, "likelihood", pictures, importance_samples=5, **settings)
    return {line["metric"]: line for line in lines}


@pytest.fixture(scope="module")
def pictures():
    return load("digits", "test").take(np.arange(20))


def test_bound_is_the_sum_of_its_parts_and_more_draws_are_tighter(tmp_path, pictures):
    found = values(run_of(tmp_path, {"name": "elbo", "sigma": "learned"}), pictures)
    number = {name: line["value"] for name, line in found.items()}
    assert number["elbo_nats"] == pytest.approx(-(number["distortion_nats"] + number["rate_nats"]), rel=1e-6)
    assert number["iwae_5_nats"] > number["elbo_nats"]
    assert number["iwae_5_bits_per_dim"] < number["elbo_bits_per_dim"] < 12
    details = found["elbo_nats"]["details"]
    assert (details["sum_over"], details["mean_over"], details["count"]) == ("a picture", "pictures", 20)
    assert found["elbo_nats"]["reference"]["count"] == 20


def test_a_decoder_of_levels_has_bits_of_its_own(tmp_path, pictures):
    run = run_of(tmp_path, {"name": "elbo", "likelihood": "discretised_gaussian"})
    number = {name: line["value"] for name, line in values(run, pictures).items()}
    assert number["elbo_bits_per_dim"] == pytest.approx(-number["elbo_nats"] / (64 * np.log(2)), rel=1e-6)
    assert number["iwae_5_bits_per_dim"] == pytest.approx(-number["iwae_5_nats"] / (64 * np.log(2)), rel=1e-6)


def test_optimal_sigma_is_that_of_the_training_pictures(tmp_path, pictures):
    run = run_of(tmp_path, {"name": "elbo", "sigma": "optimal"})
    sigmas = {values(run, some)["elbo_nats"]["details"]["sigma"] for some in (pictures, np.full_like(pictures, 255))}
    assert len(sigmas) == 1 and 0.1 < sigmas.pop() < 2.0


def test_bernoulli_bounds_binary_pictures_alone(tmp_path, pictures):
    run = run_of(tmp_path, {"name": "elbo", "likelihood": "bernoulli"}, output="sigmoid")
    grey = values(run, pictures)
    assert grey["elbo_nats"]["value"] is None and "grey" in grey["elbo_nats"]["details"]["why_null"]
    ignorant = dataclasses.replace(run, params=jax.tree.map(np.zeros_like, run.params))  # p = 1/2, q = N(0, I)
    binary = values(ignorant, np.where(pictures > 127, 255, 0).astype(np.uint8))
    assert binary["elbo_nats"]["value"] == pytest.approx(-64 * np.log(2), rel=1e-5)
    assert binary["rate_nats"]["value"] == 0


def test_models_without_a_likelihood_are_refused_before_any_work(tmp_path, pictures):
    run = run_of(tmp_path, {"name": "autoencoding"}, bottleneck="point")
    with pytest.raises(UserError, match="no bound on log p"):
        values(run, pictures)
    with pytest.raises(UserError, match="needs a reference"):
        values(run_of(tmp_path, {"name": "elbo"}), None)
