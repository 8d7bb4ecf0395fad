"""The objective of a VQ-VAE (van den Oord et al. 2017, Eq. 3), with a codebook by gradients or by moving averages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dfm.models.bottlenecks import CODEBOOK, code_usage, moved
from dfm.objectives.elbo import check_size, first_variables, labels_of
from dfm.objectives.per_example import Losses, PerExampleWithStatistics, Rows
from dfm.objectives.protocol import Batch, Group, Metrics, Params, Statistics


@dataclass(frozen=True)
class VectorQuantized(PerExampleWithStatistics):
    """||x - d(z_q)||^2 / D + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2, all of them means over what they sum.

    The second term is that of a codebook by gradients; one by averages moves after the look-up, so that the old book
    quantises the batch that moves it.

    Attributes:
        model: with bottleneck "vq".
        commitment_loss: beta of the paper.
        codebook_decay: of the averages. restart_below: average count at which a code is dead and begins anew.
    """

    model: Any
    commitment_loss: float = 0.25
    codebook_decay: float = 0.99
    restart_below: float = 0.01

    def __post_init__(self):
        if self.model.bottleneck != "vq":
            raise ValueError(f"the model's bottleneck is {self.model.bottleneck!r}, not 'vq'")
        if not 0 < self.codebook_decay < 1 or self.commitment_loss < 0 or self.restart_below < 0:
            raise ValueError("codebook_decay must be in (0, 1), commitment_loss and restart_below at least 0")

    @property
    def groups(self) -> Mapping[str, Group]:
        return {}

    @property
    def model_statistics(self) -> tuple[str, ...]:
        return (CODEBOOK,) if self.model.averaged_codes else ()

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)

    def init(self, key: Array) -> Params:
        return dict(first_variables(self.model, key)["params"])

    def init_statistics(self, key: Array) -> Statistics | None:
        return {CODEBOOK: first_variables(self.model, key)[CODEBOOK]} if self.model.averaged_codes else None

    def losses(
        self, params: Params, statistics: Statistics | None, rows: Rows, batch: Batch, key: Array
    ) -> tuple[Losses, Metrics, Statistics | None]:
        images, labels = batch["image"], labels_of(self.model, batch)
        variables = {"params": params, **(statistics or {})}
        found = self.model.apply(variables, images, labels, method="quantize")
        outputs = self.model.apply(variables, found.encoded, labels, method="outputs")
        painted = self.model.bounded(outputs[:, : images.shape[1], : images.shape[2]].astype(jnp.float32))
        error = jnp.square(painted - images).mean((1, 2, 3))
        commitment = _mean(jnp.square(found.encoded - jax.lax.stop_gradient(found.vectors)))
        losses = error + self.commitment_loss * commitment
        if statistics is None:
            losses += _mean(jnp.square(jax.lax.stop_gradient(found.encoded) - found.vectors))
        else:
            old = statistics[CODEBOOK]["bottleneck"]
            new = moved(old, found, self.codebook_decay, self.restart_below, key)
            statistics = {CODEBOOK: {"bottleneck": new}}
        counts = jnp.bincount(found.codes.reshape(-1), length=self.model.codes).astype(jnp.float32)
        of_batch = {f"batch_{name}": value for name, value in code_usage(counts).items()}
        return losses, {"mse": error, "commitment_loss": commitment, **of_batch}, statistics


def _mean(values: Array) -> Array:
    return values.mean(tuple(range(1, values.ndim)))
