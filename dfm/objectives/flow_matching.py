"""Flow matching: the velocity from noise to data along straight lines, by least squares (Lipman et al. 2023)."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dfm.models.latent_flow import LatentFlow
from dfm.objectives.elbo import check_size
from dfm.objectives.per_example import Losses, PerExample, Rows
from dfm.objectives.protocol import Batch, Metrics, Params
from dfm.registry import check_value

TIMES = ("uniform", "logit_normal")


@dataclass(frozen=True)
class FlowMatching(PerExample):
    """Mean over numbers of |v(x_t, t) - (x - noise)|^2, x_t = (1 - t) noise + t x.

    Attributes:
        model: a flow of latents.
        times: t "uniform", or "logit_normal", 1 / (1 + exp(-n)) of n ~ N(0, 1): oftener in the middle, where the task
            is hard (Esser et al. 2024).
        label_dropout: share of pictures whose label is hidden, so that the flow without a label is learned too.
    """

    model: LatentFlow
    times: Literal["uniform", "logit_normal"] = "logit_normal"
    label_dropout: float = 0.1

    def __post_init__(self):
        check_value("times", self.times, TIMES)
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must be 0 to 1, not {self.label_dropout}")

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)

    def __call__(self, params: Params, rows: Rows, batch: Batch, key: Array) -> tuple[Losses, Metrics]:
        x = batch["image"]
        time_key, noise_key, label_key = jax.random.split(key, 3)
        draw = jax.random.uniform if self.times == "uniform" else jax.random.normal
        times = draw(time_key, (len(x),))
        times = times if self.times == "uniform" else jax.nn.sigmoid(times)
        noise = jax.random.normal(noise_key, x.shape)
        labels = None
        if self.model.classes:
            hidden = jax.random.bernoulli(label_key, self.label_dropout, (len(x),))
            labels = jnp.where(hidden, self.model.classes, batch["label"])
        mixed = times[:, None, None, None] * x + (1.0 - times)[:, None, None, None] * noise
        dtype = jax.tree.leaves(params)[0].dtype
        found = self.model.apply({"params": params}, mixed.astype(dtype), times, labels, method="velocity")
        assert isinstance(found, jax.Array)
        return jnp.square(found.astype(jnp.float32) - (x - noise)).mean((1, 2, 3)), {}
