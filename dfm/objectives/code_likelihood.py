"""The objective of a prior over codes: their negative log-likelihood."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from dfm.objectives.elbo import check_size, labels_of
from dfm.objectives.per_example import Losses, PerExample, Rows
from dfm.objectives.protocol import Batch, Metrics, Params


@dataclass(frozen=True)
class CodeLikelihood(PerExample):
    """-log p(codes) / positions, in nats a code.

    Attributes:
        model: a prior over codes, dfm/models/code_transformer.py; batches hold maps of codes as pictures, int32.
    """

    model: Any

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)

    def __call__(self, params: Params, rows: Rows, batch: Batch, key: Array) -> tuple[Losses, Metrics]:
        codes = batch["image"].reshape(len(batch["image"]), -1)
        each = -self.model.apply({"params": params}, codes, labels_of(self.model, batch), method="log_prob")
        return each.mean(1), {"nll_nats": each.sum(1), "bits_per_code": each.mean(1) / jnp.log(2.0)}
