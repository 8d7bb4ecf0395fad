"""Usage of a codebook over a data set: against a count of every picture's codes."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dfm import models, objectives
from dfm.arrays import to_float
from dfm.data import load
from dfm.evaluation import evaluate_run
from dfm.training.runs import Run

MODEL = {
    "name": "autoencoder",
    "height": 8,
    "width": 8,
    "trunk": "dense",
    "widths": (16,),
    "latent": (4, 3),
    "codes": 32,
    "averaged_codes": False,
}


def run_of(tmp_path, objective, bottleneck):
    built = models.build({**MODEL, "bottleneck": bottleneck}, (8, 8, 1))
    trained = objectives.build({"name": objective}, built)
    config = ConfigDict({"dataset": {"name": "digits", "split": "train", "label": -1}, "model": MODEL})
    return Run(config, tmp_path, 0, built, trained, trained.init(jax.random.key(0)), None)


def test_usage_and_perplexity_are_those_of_all_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("dfm.training.codes.PICTURES_AT_ONCE", 16)  # padding of the last batch counts for nothing
    pictures = load("digits", "test").take(np.arange(23))
    run = run_of(tmp_path, "vector_quantized", "vq")
    codes = run.model.apply({"params": run.params}, to_float(jax.numpy.asarray(pictures)), method="quantize").codes
    shares = np.bincount(np.ravel(codes), minlength=32) / codes.size
    used = shares[shares > 0]
    found = {line["metric"]: line for line in evaluate_run(run, "code_usage", pictures)}
    assert found["code_usage"]["value"] == pytest.approx(len(used) / 32)
    assert found["code_perplexity"]["value"] == pytest.approx(np.exp(-(used * np.log(used)).sum()), rel=1e-5)
    assert found["code_usage"]["details"] == {"codes": 32, "count": 23, "codes_a_picture": 4}


def test_a_model_without_codes_has_no_usage(tmp_path):
    pictures = load("digits", "test").take(np.arange(3))
    for line in evaluate_run(run_of(tmp_path, "autoencoding", "point"), "code_usage", pictures):
        assert line["value"] is None and "no codes" in line["details"]["why_null"]
