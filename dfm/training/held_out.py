"""Evaluation during training, on pictures that are not trained on: the loss, and how well they are given back."""

import functools
from typing import Any

import jax
import numpy as np

from dfm.arrays import to_float
from dfm.data import Batches, Dataset
from dfm.errors import UserError
from dfm.metrics.picture_quality import FLOAT_PEAK, decibels
from dfm.models import latent_vectors
from dfm.objectives.protocol import Objective
from dfm.training.sharding import on_this_process
from dfm.training.state import TrainState, model_statistics
from dfm.training.step import with_floats

PICTURES, BATCH_SIZE = 1_000, 50
SEED = 0  # of crops and of what the objective draws: the same at every step


class HeldOut:
    """The first pictures of an order of a data set that never changes, up to PICTURES of them.

    Args:
        crop: as in the training.

    Raises:
        UserError: the model has no encoder, so that new pictures have no latents.
    """

    def __init__(self, objective: Objective, dataset: Dataset, crop: tuple[int, int] | None):
        if not objective.model.encodes:
            raise UserError("config: evaluate_every_steps needs a model with an encoder: test pictures have no latents")
        size = min(BATCH_SIZE, max(1, len(dataset) // 2))
        self._batches = Batches(dataset, size, SEED, crop)
        self._count = min(PICTURES, len(dataset)) // size
        self._objective = objective
        self._loss = jax.jit(self._metrics, static_argnums=2)
        self._painted = jax.jit(functools.partial(_squared_errors, objective.model))

    def evaluate(self, state: TrainState, phase: str, compute_dtype: str) -> dict[str, float]:
        """Means over the pictures: "eval_loss" and "eval_<metric>" of the objective, and "eval_psnr" in dB.

        Of the moving average of the parameters where there is one. The loss draws noise as in a step; eval_psnr is of
        the reconstructions of the posteriors' modes, 10 log10(4 / mean squared error).
        """
        params = {**state.params, **(state.ema_params or {})}
        params, statistics = on_this_process((params, state.statistics))
        variables = {"params": params, **model_statistics(self._objective, statistics)}
        found: list[dict[str, Any]] = []
        for step in range(self._count):
            batch = self._batches.at(step)
            metrics = self._loss(params, statistics, (phase, compute_dtype), batch)
            found.append({**metrics, "squared_error": self._painted(variables, batch["image"], batch["label"])})
        means = {name: float(np.mean([one[name] for one in jax.device_get(found)])) for name in found[0]}
        squared_error = means.pop("squared_error")
        psnr = decibels(max(squared_error, 1e-20), FLOAT_PEAK)
        return {**{f"eval_{name}": value for name, value in means.items()}, "eval_psnr": psnr}

    def _metrics(self, params: Any, statistics: Any, how: tuple[str, str], batch: Any) -> dict[str, jax.Array]:
        # what only the gradients need is dropped by the compiler
        metrics, _, _ = self._objective.gradients(params, statistics, with_floats(batch), jax.random.key(SEED), *how)
        return metrics


def _squared_errors(model: Any, variables: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over pictures and values of the squared error of their reconstructions."""
    originals = to_float(images)
    painted = latent_vectors.decode(
        model, variables, latent_vectors.encode(model, variables, originals, labels), labels
    )
    return ((painted - originals) ** 2).mean()
