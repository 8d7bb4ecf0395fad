"""Autoencoders without a likelihood: plain, regularised (RAE) and Wasserstein (WAE)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.objectives.elbo import check_size, first_variables, labels_of
from dfm.objectives.likelihoods import LOSSES
from dfm.objectives.per_example import Losses, PerExample, Rows
from dfm.objectives.protocol import Batch, Group, Metrics, Params
from dfm.shapes import typechecked

MMD_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel's 2 d sigma^2 (Tolstikhin et al. 2018)


@dataclass(frozen=True)
class Autoencoding(PerExample):
    """loss(x, d(e(x))) a dimension, with what keeps the latents where a prior can find them.

    Attributes:
        loss: "mse", "l1", "rmse", or "bce" (of logits: model.output "sigmoid").
        code_penalty: times ||z||^2 / 2 a picture; decoder_penalty: times the squares of the decoder's parameters: with
            both, the RAE-L2 of Ghosh et al. 2020.
        mmd_weight: times the squared maximum mean discrepancy between the batch's latents and N(0, I): the WAE-MMD of
            Tolstikhin et al. 2018.
    """

    model: Any
    loss: Literal["mse", "l1", "rmse", "bce"] = "mse"
    code_penalty: float = 0.0
    decoder_penalty: float = 0.0
    mmd_weight: float = 0.0

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}, not one of {', '.join(LOSSES)}")
        if (self.loss == "bce") != (self.model.output == "sigmoid"):
            raise ValueError("loss 'bce' and model.output 'sigmoid' belong together")
        for name in ("code_penalty", "decoder_penalty", "mmd_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")

    @property
    def groups(self) -> Mapping[str, Group]:
        return {}

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)

    def init(self, key: Array) -> Params:
        return dict(first_variables(self.model, key)["params"])

    def __call__(self, params: Params, rows: Rows, batch: Batch, key: Array) -> tuple[Losses, Metrics]:
        images, labels, model = batch["image"], labels_of(self.model, batch), self.model
        variables = {"params": params}
        z = model.apply(variables, images, labels, method="encode").mode()
        outputs = model.apply(variables, z, labels, method="outputs")
        outputs = outputs[:, : images.shape[1], : images.shape[2]].astype(jnp.float32)
        painted = model.bounded(outputs)
        error = LOSSES[self.loss](outputs if self.loss == "bce" else painted, images)
        losses = error if self.loss == "rmse" else error / (model.height * model.width * model.channels)
        metrics = {"mse": jnp.square(painted - images).mean((1, 2, 3))}
        flat = z.reshape(len(z), -1).astype(jnp.float32)
        if self.code_penalty:
            losses += self.code_penalty * 0.5 * jnp.square(flat).sum(-1)
        if self.decoder_penalty:
            losses += self.decoder_penalty * sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params["decoder"]))
        if self.mmd_weight:
            metrics["mmd"] = mmd(flat, jax.random.normal(key, flat.shape))
            losses += self.mmd_weight * metrics["mmd"]
        return losses, metrics


@typechecked
def mmd(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, ""]:
    """Unbiased squared MMD by inverse multiquadratics, sum_s C_s / (C_s + ||x - y||^2), C_s = 2 d s.

    May be below 0: it is 0 in the mean where both are of one distribution.
    """
    n, m, d = len(x), len(y), x.shape[-1]
    if n < 2 or m < 2:
        raise ValueError("an unbiased MMD needs at least two of either")

    def kernel(a: Array, b: Array) -> Array:
        distances = jnp.square(a[:, None] - b[None]).sum(-1)
        return sum(((2.0 * d * s) / (2.0 * d * s + distances) for s in MMD_SCALES), jnp.zeros_like(distances))

    within_x, within_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    own = (within_x.sum() - jnp.trace(within_x)) / (n * (n - 1)) + (within_y.sum() - jnp.trace(within_y)) / (
        m * (m - 1)
    )
    return own - 2.0 * across.mean()
