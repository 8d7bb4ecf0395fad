"""The discriminator's side of a step: one forward pass serves the discriminator and the generator."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.models.discriminator import NLayerDiscriminator
from dfm.objectives import adversarial
from dfm.shapes import typechecked

Params = dict[str, Any]

REAL, FAKE = "real", "painted"  # the average logits in checkpoints: these words stay


@dataclass(frozen=True)
class AdversarialGradients:
    """What one pass of the discriminator gives both players.

    Attributes:
        generator_loss: -mean D(x_hat).
        cotangent: its gradient with respect to x_hat.
        gradients: of the discriminator's loss for its parameters; nothing of them reaches the autoencoder.
        statistics: after this step.
    """

    generator_loss: Float[Array, ""]
    cotangent: Float[Array, "batch height width channel"]
    gradients: Params
    statistics: Any
    metrics: dict[str, Array]


@dataclass(frozen=True)
class DiscriminatorLoss:
    """A discriminator with its loss. Attributes as in `Autoencoder`."""

    net: NLayerDiscriminator
    loss: str = "hinge"
    r1_weight: float = 0.0
    lecam_weight: float = 0.0
    lecam_decay: float = 0.99

    def init(self, key: Array, channels: int) -> tuple[Params, Any]:
        """(parameters, statistics: running ones of the batch norms, moving averages of the mean logits)."""
        side = self.net.smallest_side
        variables = self.net.init(key, jnp.zeros((1, side, side, channels)))
        averages = {REAL: jnp.float32(0), FAKE: jnp.float32(0)}
        return dict(variables["params"]), {"batch_stats": variables["batch_stats"], "average_logits": averages}

    @typechecked
    def gradients(
        self,
        params: Params,
        statistics: Any,
        images: Float[Array, "b height width c"],
        reconstruction: Float[Array, "b height width c"],
        dtype: str | None = None,
    ) -> AdversarialGradients:
        """Real pictures, then reconstructions, each normalised by its own batch.

        The forward pass on `reconstruction` serves both players: its pull-back gives the cotangent of the pictures for
        one and the gradients of the parameters for the other, and neither sees the other's.
        """
        net = self.net if dtype is None else self.net.clone(dtype=dtype)

        def logits(params: Params, x: Array, running: Any) -> tuple[Array, Any]:
            found, new = net.apply({"params": params, "batch_stats": running}, x, mutable=["batch_stats"])
            return found, new["batch_stats"]

        running, averages = statistics["batch_stats"], statistics["average_logits"]
        real, pull_real, running = jax.vjp(lambda p: logits(p, images, running), params, has_aux=True)
        fake, pull_fake, running = jax.vjp(lambda p, x: logits(p, x, running), params, reconstruction, has_aux=True)
        generator_loss, of_generator = jax.value_and_grad(adversarial.generator_loss)(fake)
        loss, of_logits = jax.value_and_grad(self._loss, (0, 1))(real, fake, averages)
        gradients = jax.tree.map(jnp.add, pull_real(of_logits[0])[0], pull_fake(of_logits[1])[0])
        metrics = {"discriminator_loss": loss, "logits_real": real.mean(), "logits_fake": fake.mean()}
        if self.r1_weight:
            r1 = lambda p: adversarial.r1_penalty(lambda x: logits(p, x, running)[0], images)  # noqa: E731
            metrics["r1_penalty"], of_r1 = jax.value_and_grad(r1)(params)
            gradients = jax.tree.map(lambda g, r: g + self.r1_weight * r, gradients, of_r1)
        means = {REAL: real.mean(), FAKE: fake.mean()}
        averages = jax.tree.map(lambda a, m: self.lecam_decay * a + (1 - self.lecam_decay) * m, averages, means)
        new = {"batch_stats": running, "average_logits": averages}
        return AdversarialGradients(generator_loss, pull_fake(of_generator)[1], gradients, new, metrics)

    def _loss(self, real: Array, fake: Array, averages: dict[str, Array]) -> Array:
        loss = adversarial.DISCRIMINATOR_LOSSES[self.loss](real, fake)
        if self.lecam_weight:
            loss += self.lecam_weight * adversarial.lecam(real, fake, averages[REAL], averages[FAKE])
        return loss
