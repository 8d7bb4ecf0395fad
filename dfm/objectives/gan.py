"""A generator against a discriminator: one step of each from the same batch (Goodfellow et al. 2014)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.errors import UserError
from dfm.models.gan import BATCH_STATISTICS, DISCRIMINATOR, STAGES, SpectralDiscriminator
from dfm.objectives.adversarial import DISCRIMINATOR_LOSSES, r1_penalty
from dfm.objectives.adversarial import generator_loss as adversarial_loss
from dfm.objectives.elbo import check_size, first_variables, labels_of
from dfm.objectives.protocol import Batch, Group, Metrics, Params, Statistics

OF_DISCRIMINATOR = "discriminator_stats"


@dataclass(frozen=True)
class Gan:
    """Both players' gradients at once; the discriminator's parameters do not outlive the training.

    Attributes:
        model: a generator. One with running statistics paints by the batch's where `decode(z, labels,
            training=True)`; any other, such as a plain Deep Fourier Machine, is decoded as it stands.
        loss: "hinge" (Lim and Ye 2017) or "vanilla", non-saturating for the generator.
        discriminator_features: width of its first layer.
        r1_weight: times 1/2 mean ||grad_x D(x)||^2 of real pictures (Mescheder et al. 2018).
    """

    model: Any
    loss: Literal["hinge", "vanilla"] = "hinge"
    discriminator_features: int = 16
    r1_weight: float = 0.0

    def __post_init__(self):
        if self.loss not in DISCRIMINATOR_LOSSES:
            raise ValueError(f"loss is {self.loss!r}, not one of {', '.join(DISCRIMINATOR_LOSSES)}")
        if self.discriminator_features < 1 or self.r1_weight < 0:
            raise ValueError("discriminator_features must be at least 1, r1_weight at least 0")

    @property
    def discriminator(self) -> SpectralDiscriminator:
        return SpectralDiscriminator(self.discriminator_features, self.model.classes)

    @property
    def groups(self) -> Mapping[str, Group]:
        return {DISCRIMINATOR: Group(player="discriminator_", averaged=False, kept=False)}

    @property
    def model_statistics(self) -> tuple[str, ...]:
        return (BATCH_STATISTICS,) if self._normalises_by_batch else ()

    @functools.cached_property
    def _normalises_by_batch(self) -> bool:
        key = jax.random.key(0)
        return BATCH_STATISTICS in jax.eval_shape(functools.partial(first_variables, self.model), key)

    @property
    def needs_lpips(self) -> bool:
        return False

    @property
    def smallest_batch(self) -> int:
        return 1

    @property
    def frozen_encoder(self) -> tuple[str, ...]:
        return ()

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        check_size(self.model, shape)
        if min(shape[:2]) < 2**STAGES:
            raise UserError(f"config: the discriminator halves pictures {STAGES} times; {shape[:2]} is too small")

    def init(self, key: Array) -> Params:
        return {**first_variables(self.model, key)["params"], DISCRIMINATOR: self._discriminator(key)["params"]}

    def init_statistics(self, key: Array) -> Statistics | None:
        return {
            **{name: first_variables(self.model, key)[name] for name in self.model_statistics},
            OF_DISCRIMINATOR: self._discriminator(key)[BATCH_STATISTICS],
        }

    def init_latents(self, key: Array, examples: int) -> Float[Array, "examples latent"] | None:
        return None

    def start_from_pictures(self, params: Params, latents: Any, dataset: Dataset, seed: int) -> tuple[Params, Any]:
        return params, latents

    def phase(self, step: int) -> str:
        return ""

    def gradients(
        self,
        params: Params,
        statistics: Statistics | None,
        batch: Batch,
        key: Array,
        phase: str,
        compute_dtype: str = "float32",
        rows: Float[Array, "batch latent"] | None = None,
    ) -> tuple[Metrics, Params, Statistics | None]:
        """See the protocol. The generator learns from the discriminator of before the step, and the other way round."""
        kept: Statistics = statistics or {}
        if compute_dtype != "float32":
            raise UserError("config: the GAN trains in float32; power iterations lose their vectors in less")
        images, labels = batch["image"], labels_of(self.model, batch)
        z = jax.random.normal(key, (len(images), *self.model.latent_shape))

        def generator_loss(generator: Params) -> tuple[Array, tuple[Array, Any]]:
            fake, moved = self._paint(generator, kept, z, labels)
            logits, _ = self._logits(params[DISCRIMINATOR], kept, fake, labels)
            loss = adversarial_loss(logits) if self.loss == "hinge" else jax.nn.softplus(-logits).mean()
            return loss, (fake, moved)

        def discriminator_loss(discriminator: Params, fake: Array) -> tuple[Array, tuple[Metrics, Any]]:
            both = None if labels is None else jnp.concatenate([labels, labels])
            logits, moved = self._logits(discriminator, kept, jnp.concatenate([images, fake]), both, True)
            real, false = jnp.split(logits, 2)
            loss = 2.0 * DISCRIMINATOR_LOSSES[self.loss](real, false)  # the sum over both kinds, not their mean
            metrics = {"discriminator_loss": loss, "logits_real": real.mean(), "logits_fake": false.mean()}
            if self.r1_weight:
                metrics["r1"] = r1_penalty(lambda x: self._logits(discriminator, kept, x, labels)[0], images)
                loss += self.r1_weight * metrics["r1"]
            return loss, (metrics, moved)

        generator = {name: group for name, group in params.items() if name != DISCRIMINATOR}
        (loss, (fake, averages)), of_generator = jax.value_and_grad(generator_loss, has_aux=True)(generator)
        of_discriminator, (metrics, vectors) = jax.grad(discriminator_loss, has_aux=True)(
            params[DISCRIMINATOR], jax.lax.stop_gradient(fake)
        )
        gradients = {**of_generator, DISCRIMINATOR: of_discriminator}
        return {"loss": loss, **metrics}, gradients, {**averages, OF_DISCRIMINATOR: vectors}

    def _paint(self, params: Params, statistics: Statistics, z: Array, labels: Array | None) -> tuple[Array, Any]:
        """(pictures of the batch in training, {name: moved statistics of the model})."""
        if not self._normalises_by_batch:
            return self.model.apply({"params": params}, z, labels, method="decode"), {}
        averages = {BATCH_STATISTICS: statistics[BATCH_STATISTICS]}
        how = {"training": True, "method": "decode", "mutable": [BATCH_STATISTICS]}
        found: Any = self.model.apply({"params": params, **averages}, z, labels, **how)
        return found

    def _logits(
        self, params: Params, statistics: Statistics, images: Array, labels: Array | None, training: bool = False
    ) -> tuple[Array, Any]:
        """(logits, singular vectors after one power iteration where `training`)."""
        variables = {"params": params, BATCH_STATISTICS: statistics[OF_DISCRIMINATOR]}
        if not training:
            logits: Any = self.discriminator.apply(variables, images, labels)
            return logits, None
        found: Any = self.discriminator.apply(variables, images, labels, True, mutable=[BATCH_STATISTICS])
        return found[0], found[1][BATCH_STATISTICS]

    def _discriminator(self, key: Array) -> Any:
        model = self.model
        images = jnp.zeros((1, model.height, model.width, model.channels))
        labels = jnp.zeros(1, jnp.int32) if model.classes else None
        return self.discriminator.init(jax.random.fold_in(key, 1), images, labels, True)
