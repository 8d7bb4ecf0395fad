"""Autoencoders without a likelihood: plain, regularised (RAE) and Wasserstein (WAE)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.errors import UserError
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
        latent_noise: standard deviation of Gaussian noise on the latents, drawn anew each step: it makes the decoder
            smooth where a prior will draw from; the penalty keeps the latents from growing away from it. "mse" is then
            that of the noisy latents.
        perceptual_weight: times LPIPS(x, d(e(x))), which is made of a network trained on ImageNet: numbers of features
            of such networks (FID) profit from it more than eyes do, so name it with them.
        lpips: set by the training, see `needs_lpips`.
    """

    model: Any
    loss: Literal["mse", "l1", "rmse", "bce"] = "mse"
    code_penalty: float = 0.0
    decoder_penalty: float = 0.0
    mmd_weight: float = 0.0
    latent_noise: float = 0.0
    perceptual_weight: float = 0.0
    lpips: Any = field(default=None, repr=False, compare=False, metadata={"config": False})

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}, not one of {', '.join(LOSSES)}")
        if (self.loss == "bce") != (self.model.output == "sigmoid"):
            raise ValueError("loss 'bce' and model.output 'sigmoid' belong together")
        for name in ("code_penalty", "decoder_penalty", "mmd_weight", "latent_noise", "perceptual_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")

    @property
    def groups(self) -> Mapping[str, Group]:
        return {}

    @property
    def needs_lpips(self) -> bool:
        return self.perceptual_weight > 0

    @property
    def smallest_batch(self) -> int:
        """The discrepancy is between pairs."""
        return 2 if self.mmd_weight else 1

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)
        if self.needs_lpips and shape[2] not in (1, 3):
            raise UserError(f"config: LPIPS is for 1 or 3 channels, not {shape[2]}; set objective.perceptual_weight=0")

    def init(self, key: Array) -> Params:
        return dict(first_variables(self.model, key)["params"])

    def __call__(self, params: Params, rows: Rows, batch: Batch, key: Array) -> tuple[Losses, Metrics]:
        images, labels, model = batch["image"], labels_of(self.model, batch), self.model
        variables = {"params": params}
        z = model.apply(variables, images, labels, method="encode").mode()
        noise_key = jax.random.fold_in(key, 1)
        seen = z + self.latent_noise * jax.random.normal(noise_key, z.shape, z.dtype) if self.latent_noise else z
        outputs = model.apply(variables, seen, labels, method="outputs")
        outputs = outputs[:, : images.shape[1], : images.shape[2]].astype(jnp.float32)
        painted = model.bounded(outputs)
        error = LOSSES[self.loss](outputs if self.loss == "bce" else painted, images)
        losses = error if self.loss == "rmse" else error / (model.height * model.width * model.channels)
        metrics = {"mse": jnp.square(painted - images).mean((1, 2, 3))}
        if self.needs_lpips:
            if self.lpips is None:
                raise UserError("objective.perceptual_weight needs the LPIPS weights; 0 does without")
            metrics["lpips"] = self.lpips(*((x + 1.0) * 127.5 for x in (images, painted)))
            losses += self.perceptual_weight * metrics["lpips"]
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
