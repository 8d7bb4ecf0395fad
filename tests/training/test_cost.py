"""What a step costs: formulas of matrix products, and loops that hide nothing."""

import jax
import jax.numpy as jnp
import pytest

from dfm import models, objectives
from dfm.models import fourier_kernels
from dfm.training.cost import gradient_operations

SHAPE = (8, 8, 1)
MACHINE = {"name": "dfm", "height": 8, "width": 8, "channels": 1, "net_width": 3, "net_depth": 3, "basis": "cas"}
MACHINE |= {"latent_size": 4, "decoder_widths": (8,), "encoder_widths": (), "activation": "silu"}


def built(model, objective):
    return objectives.build(objective, models.build(model, SHAPE))


def test_dense_autoencoder_costs_its_matrix_products():
    sizes = [64, 128, 8]
    model = {"name": "autoencoder", "height": 8, "width": 8, "trunk": "dense", "widths": (128,), "bottleneck": "point"}
    batch = 32
    found = gradient_operations(built({**model, "latent": (8,)}, {"name": "autoencoding"}), batch)
    layers = [*zip(sizes, sizes[1:], strict=False), *zip(sizes[::-1], sizes[::-1][1:], strict=False)]
    products = sum(2 * batch * a * b for a, b in layers)
    first = 2 * batch * 64 * 128  # its gradient for the pictures is not taken
    assert found == pytest.approx(3 * products - first, rel=0.05)


def test_loops_over_pictures_are_counted_whole(monkeypatch):
    """XLA counts the body of a loop once: chunks of pictures would seem to cost a fraction of the batch."""
    objective = built(MACHINE, {"name": "reconstruction", "latent_penalty": 1e-4})
    monkeypatch.setattr(fourier_kernels, "CHUNK_POINTS", 4 * 64)  # four pictures at once
    params = jax.eval_shape(objective.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((64, *SHAPE), jnp.float32)
    number = jax.ShapeDtypeStruct((64,), jnp.int32)
    rows = jax.ShapeDtypeStruct((64, 4), jnp.float32)

    def looped(params, batch, rows):
        return objective.gradients(params, None, batch, jax.random.key(0), "", rows=rows)

    batch = {"image": image, "label": number, "index": number}
    analysis = jax.jit(looped).lower(params, batch, rows).cost_analysis()
    whole = gradient_operations(objective, 64, examples=100)
    assert analysis["flops"] + analysis["transcendentals"] < 0.7 * whole
    assert fourier_kernels.CHUNK_POINTS == 4 * 64
    assert whole == pytest.approx(2 * gradient_operations(objective, 32, examples=100), rel=0.05)


def test_transcendentals_count_one_each():
    model = {"name": "autoencoder", "height": 8, "width": 8, "trunk": "dense", "widths": (16,), "bottleneck": "point"}
    costs = [
        gradient_operations(built({**model, "latent": (8,), "activation": name}, {"name": "autoencoding"}), 4)
        for name in ("relu", "tanh")
    ]
    # 2 x 16 units of 4 pictures: one tanh and the few operations of its derivative, where relu compares and selects
    assert 0 < costs[1] - costs[0] <= 4 * 2 * 16 * 4
