"""A loss of one number an example is an objective with nothing but `__call__`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dfm import models, objectives
from dfm.models.protocol import Model
from dfm.objectives.per_example import PerExample

DFM = dict(name="dfm", height=4, width=4, channels=1, net_width=2, net_depth=2, latent_size=3, decoder_widths=[6])


@dataclass(frozen=True)
class AbsoluteError(PerExample):
    model: Model
    weight: float = 1.0

    def __call__(self, params, rows, batch, key):
        z = self.model.apply({"params": params}, batch["image"], method="encode").mode()
        error = jnp.abs(self.model.apply({"params": params}, z, method="decode") - batch["image"]).mean((1, 2, 3))
        return self.weight * error, {"absolute_error": error}


def test_a_loss_and_the_models_parameters_are_all_it_takes(monkeypatch):
    monkeypatch.setitem(objectives.OBJECTIVES, "absolute_error", f"{__name__}:AbsoluteError")
    model = models.build(DFM | {"encoder_widths": [8]})
    objective = objectives.build({"name": "absolute_error", "weight": 2.0}, model)
    params = jax.jit(objective.init)(jax.random.key(0))
    assert set(params) == {"encoder", "decoder"}
    batch = {"image": jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 4, 4, 1)), jnp.float32)}
    compute = jax.jit(lambda params: objective.gradients(params, None, batch, jax.random.key(1), objective.phase(0)))
    metrics, gradients, statistics = compute(params)
    assert statistics is None and jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)

    @jax.jit
    def paint(params):
        z = model.apply({"params": params}, batch["image"], method="encode").mode()
        return model.apply({"params": params}, z, method="decode")

    painted = np.asarray(paint(params))
    expected = np.abs(painted - np.asarray(batch["image"])).mean()
    np.testing.assert_allclose(metrics["absolute_error"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], 2 * expected, rtol=1e-5)
