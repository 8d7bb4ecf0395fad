"""Principal component analysis: the best linear code, in closed form (Foster 2022, chapter 3; Pearson 1901)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dfm.data import Dataset
from dfm.errors import UserError
from dfm.metrics.moments import Moments
from dfm.metrics.principal_components import principal_components
from dfm.objectives.elbo import check_size, first_variables, labels_of
from dfm.objectives.per_example import Losses, PerExample, Rows
from dfm.objectives.protocol import Batch, Group, Metrics, Params

PICTURES_AT_ONCE = 4096


@dataclass(frozen=True)
class PrincipalComponents(PerExample):
    """z = W (x - m), x_hat = W^T z + m: m the mean picture, the rows of W the orthonormal directions of most variance.

    The training's start computes them in one pass over the pictures, as they are (not mirrored); nothing is left for
    its steps, of which config.total_steps = 1 is enough, but to measure the squared error of a batch.

    Attributes:
        model: one linear layer on either side: trunk "dense" without widths, bottleneck "point".
    """

    model: Any

    def __post_init__(self):
        model = self.model
        if (model.trunk, tuple(model.widths), model.bottleneck, model.output, model.classes) != (
            "dense",
            (),
            "point",
            "identity",
            0,
        ):
            raise ValueError("principal components need trunk 'dense' without widths, bottleneck 'point', no classes")

    @property
    def groups(self) -> Mapping[str, Group]:
        return dict.fromkeys(("encoder", "decoder"), Group(learns=False, averaged=False, fitted=True))

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)
        numbers, wanted = int(np.prod(shape)), int(np.prod(self.model.latent_shape))
        if min(examples, numbers) < wanted:
            raise UserError(
                f"config: {examples} pictures of {numbers} numbers have no {wanted} principal components (model.latent)"
            )

    def init(self, key: Array) -> Params:
        return dict(first_variables(self.model, key)["params"])

    def start_from_pictures(self, params: Params, latents: Rows, dataset: Dataset, seed: int) -> tuple[Params, Rows]:
        if dataset.shape != (self.model.height, self.model.width, self.model.channels):
            raise UserError("config: principal components are of whole pictures: no dataset.crop")
        total = Moments.nothing(int(np.prod(dataset.shape)))
        for first in range(0, len(dataset), PICTURES_AT_ONCE):
            rows = np.arange(first, min(first + PICTURES_AT_ONCE, len(dataset)))
            total = total.merge(Moments.of(dataset.take(rows).reshape(len(rows), -1) / 127.5 - 1.0))
        found = principal_components(total, int(np.prod(self.model.latent_shape)))
        encoder = {"kernel": found.directions.T, "bias": -found.directions @ found.mean}
        decoder = {"kernel": found.directions, "bias": found.mean}
        linear = {"encoder": {"Dense_0": encoder}, "decoder": {"Dense_0": decoder}}
        as_float32 = {
            group: {name: {key: jnp.asarray(value, jnp.float32) for key, value in layer.items()}}
            for group, layers in linear.items()
            for name, layer in layers.items()
        }
        return {**params, **as_float32}, latents

    def __call__(self, params: Params, rows: Rows, batch: Batch, key: Array) -> tuple[Losses, Metrics]:
        images, labels, variables = batch["image"], labels_of(self.model, batch), {"params": params}
        z = self.model.apply(variables, images, labels, method="encode").mode()
        error = jnp.square(self.model.apply(variables, z, labels, method="decode") - images).mean((1, 2, 3))
        return error, {"mse": error}
