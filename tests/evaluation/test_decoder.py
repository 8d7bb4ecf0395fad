"""The rank of a decoder's Jacobian, against matrices of a known one; what a picture costs, against its products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from dfm import models, objectives
from dfm.evaluation import evaluate_run
from dfm.metrics.jacobian import effective_ranks, ranks, singular_values
from dfm.training.runs import Run

LINEAR = {"name": "autoencoder", "height": 8, "width": 8, "trunk": "dense", "bottleneck": "point"}


def found(tmp_path, model, params=None, **settings):
    built = models.build(model, (8, 8, 1))
    objective = objectives.build({"name": "autoencoding"}, built)
    config = ConfigDict({"dataset": {"name": "digits", "split": "train", "label": -1}})
    run = Run(config, tmp_path, 0, built, objective, params or objective.init(jax.random.key(0)), None)
    return {line["metric"]: line for line in evaluate_run(run, "decoder", priors=["normal"], **settings)}


def test_rank_of_a_map_is_that_of_its_matrix():
    draw = np.random.default_rng(0)
    matrix = jnp.asarray(draw.normal(size=(6, 3)) @ draw.normal(size=(3, 20)), jnp.float32)  # 6 inputs, rank 3
    values = singular_values(lambda z: z @ matrix, jnp.asarray(draw.normal(size=(2, 6)), jnp.float32))
    np.testing.assert_array_equal(ranks(values, 20), [3, 3])
    np.testing.assert_allclose(values[0], np.linalg.svd(matrix, compute_uv=False), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(effective_ranks(np.array([[2.0, 2.0, 2.0], [1.0, 0.0, 0.0]])), [3, 1])


def test_decoder_whose_latent_has_an_idle_number_has_one_rank_less(tmp_path):
    model = {**LINEAR, "widths": (), "latent": (5,)}
    params = objectives.build({"name": "autoencoding"}, models.build(model, (8, 8, 1))).init(jax.random.key(0))
    assert found(tmp_path, model, params)["decoder_rank"]["value"] == 5
    kernel = params["decoder"]["Dense_0"]["kernel"].at[2].set(0.0)
    idle = {**params, "decoder": {"Dense_0": {**params["decoder"]["Dense_0"], "kernel": kernel}}}
    assert found(tmp_path, model, idle)["decoder_rank"]["value"] == 4


def test_cost_is_that_of_the_products_and_latents_are_counted(tmp_path):
    lines = found(tmp_path, {**LINEAR, "widths": (100,), "latent": (4,)})
    products = 2 * (4 * 100 + 100 * 64)
    assert lines["decode_operations"]["value"] == pytest.approx(products, rel=0.1)
    assert lines["encode_operations"]["value"] == pytest.approx(products, rel=0.1)
    assert lines["decode_operations"]["details"]["numbers_ratio"] == 16


def test_convolutional_latents_have_a_sixteenth_of_the_positions(tmp_path):
    grid = {**LINEAR, "trunk": "conv", "widths": (8, 8), "grid": True, "latent": (3,)}
    details = found(tmp_path, grid)["decode_operations"]["details"]
    assert details["positions_ratio"] == 16 and details["latent_numbers"] == 2 * 2 * 3
