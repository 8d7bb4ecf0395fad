"""What an AutoencoderKL is trained for: reconstruction, perception, closeness to the prior, and a discriminator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.arrays import crop, pad_to_stride
from dfm.data import Dataset
from dfm.errors import UserError, counted
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.discriminator import NLayerDiscriminator
from dfm.models.distributions import DiagonalGaussian
from dfm.objectives import adversarial
from dfm.objectives.discriminator_loss import DiscriminatorLoss
from dfm.objectives.protocol import Batch, Group, Metrics, Params, Statistics, group_of
from dfm.registry import check_value

ENCODER = ("encoder", "quant_conv")  # groups of parameters that a frozen encoder keeps
DISCRIMINATOR, LOG_VARIANCE = "discriminator", "log_variance"  # groups that exist for the training only
# what a step does: the discriminator may learn before it is heard
RECONSTRUCTION, WARMUP, ADVERSARIAL = "reconstruction", "discriminator_warmup", "adversarial"
PIXEL_LOSSES = ("l1", "l2")


@dataclass(frozen=True)
class Autoencoder:
    """loss = error / exp(s) + s + kl_weight KL / values + weight G, a mean over pictures, with

        error = mean |x - x_hat| (or squared) + perceptual_weight LPIPS(x, x_hat),
        G = -mean D(x_hat),    weight = adversarial_weight adaptive / values,
        adaptive = min(||grad_W values error|| / (||grad_W G|| + 1e-4), adaptive_weight_max), W: decoder.conv_out.kernel

    where `values` = height width channels of a picture. Rombach et al. 2022 (LPIPSWithDiscriminator) sum the error over
    all values and the KL over all latents; this is their loss divided by `values`, so every weight here is theirs, at
    any resolution and stride: kl_weight 1e-6 is their 1e-6. Theirs comes to 2.08e-8 for the mean KL a latent number at
    f = 8 with four channels. Dividing by a constant changes nothing for Adam but for its epsilon.

    Both players learn from one reconstruction and from the parameters before the step. The adaptive weight costs no
    pass of the decoder: the decoder is split before its last convolution, both cotangents of the reconstruction are
    needed anyway, and only their weighted sum is pulled back further.

    Attributes:
        model: the autoencoder.
        pixel_loss: "l1" or "l2".
        perceptual_weight: of LPIPS; 0 needs no weights file.
        kl_weight: of the KL divergence to N(0, I) in nats, see above.
        sample_posterior: decode a sample of the posterior, or its mode.
        log_variance, learn_log_variance: s, and whether it is learned (fixed in Rombach et al.).
        freeze_encoder: encoder and quant_conv get no gradient and no optimizer state: their bytes stay.
        adversarial_weight: 0: no discriminator at all.
        adversarial_loss: of the discriminator, "hinge" or "vanilla".
        adaptive: False: `adaptive` above is `values`, so G counts adversarial_weight times.
        adaptive_weight_max: upper bound of `adaptive`, in Rombach et al.'s units.
        discriminator_start_step: steps after which the discriminator learns; None: when it is heard.
        adversarial_start_step: steps after which the autoencoder hears it.
        discriminator_features, discriminator_layers: see NLayerDiscriminator.
        r1_weight, lecam_weight, lecam_decay: regularisation of the discriminator.
        lpips: set by the training, see `needs_lpips`.
    """

    model: AutoencoderKL
    pixel_loss: Literal["l1", "l2"] = "l1"
    perceptual_weight: float = 1.0
    kl_weight: float = 1e-6
    sample_posterior: bool = True
    log_variance: float = 0.0
    learn_log_variance: bool = False
    freeze_encoder: bool = False
    adversarial_weight: float = 0.5
    adversarial_loss: Literal["hinge", "vanilla"] = "hinge"
    adaptive: bool = True
    adaptive_weight_max: float = 1e4
    discriminator_start_step: int | None = None
    adversarial_start_step: int = 50_000
    discriminator_features: int = 64
    discriminator_layers: int = 3
    r1_weight: float = 0.0
    lecam_weight: float = 0.0
    lecam_decay: float = 0.99
    lpips: Any = field(default=None, repr=False, compare=False, metadata={"config": False})

    def __post_init__(self):
        if not hasattr(self.model, "decode_features"):
            raise ValueError("'autoencoder' is for model.name 'autoencoder_kl'; 'autoencoding' and 'elbo' for others")
        known = {"pixel_loss": PIXEL_LOSSES, "adversarial_loss": tuple(adversarial.DISCRIMINATOR_LOSSES)}
        for name, values in known.items():
            check_value(name, getattr(self, name), values)
        for name in (
            "perceptual_weight",
            "kl_weight",
            "adversarial_weight",
            "adaptive_weight_max",
            "r1_weight",
            "lecam_weight",
            "adversarial_start_step",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.discriminator_start <= self.adversarial_start_step:
            raise ValueError(
                f"discriminator_start_step {self.discriminator_start_step} must be between 0 and "
                f"adversarial_start_step {self.adversarial_start_step}"
            )
        if self.model.in_channels != self.model.out_channels:
            raise ValueError(f"in_channels {self.model.in_channels} and out_channels {self.model.out_channels} differ")

    @property
    def needs_lpips(self) -> bool:
        return self.perceptual_weight > 0

    @property
    def discriminator_start(self) -> int:
        return self.adversarial_start_step if self.discriminator_start_step is None else self.discriminator_start_step

    @property
    def discriminator(self) -> DiscriminatorLoss:
        net = NLayerDiscriminator(self.discriminator_features, self.discriminator_layers)
        return DiscriminatorLoss(net, self.adversarial_loss, self.r1_weight, self.lecam_weight, self.lecam_decay)

    @property
    def groups(self) -> Mapping[str, Group]:
        encoder = Group(learns=not self.freeze_encoder, averaged=not self.freeze_encoder)
        return {
            **dict.fromkeys(ENCODER, encoder),
            **dict.fromkeys(("decoder", "post_quant_conv"), Group()),
            DISCRIMINATOR: Group(player="discriminator_", averaged=False, kept=False),
            LOG_VARIANCE: Group(averaged=False, kept=False),
        }

    @property
    def model_statistics(self) -> tuple[str, ...]:
        return ()  # all are the discriminator's

    @property
    def smallest_batch(self) -> int:
        return 1

    @property
    def frozen_encoder(self) -> tuple[str, ...]:
        return ENCODER if self.freeze_encoder else ()

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        """UserError for pictures (height, width, channels) that this cannot be trained on."""
        if shape[2] != self.model.in_channels:
            found = counted(shape[2], "channel")
            raise UserError(f"config: pictures have {found}, model.in_channels is {self.model.in_channels}")
        if self.needs_lpips and shape[2] not in (1, 3):
            raise UserError(f"config: LPIPS is for 1 or 3 channels, not {shape[2]}; set objective.perceptual_weight=0")
        smallest = self.discriminator.net.smallest_side
        if self.adversarial_weight and min(shape[:2]) < smallest:
            raise UserError(
                f"config: pictures of {shape[0]}x{shape[1]} are too small for "
                f"objective.discriminator_layers {self.discriminator_layers}: {smallest} pixels are needed"
            )

    def phase(self, step: int) -> str:
        """What the step after `step` steps does: one compilation each, so that no step pays for what it does not do."""
        if not self.adversarial_weight or step < self.discriminator_start:
            return RECONSTRUCTION
        return WARMUP if step < self.adversarial_start_step else ADVERSARIAL

    def init(self, key: Array) -> Params:
        """The groups of the autoencoder, and of the discriminator and s where there are any."""
        model_key, discriminator_key = jax.random.split(key)
        # fully convolutional: a small picture makes all parameters
        images = jnp.zeros((1, 2 * self.model.stride, 2 * self.model.stride, self.model.in_channels))
        params = dict(self.model.init(model_key, images)["params"])
        if self.adversarial_weight:
            params[DISCRIMINATOR] = self.discriminator.init(discriminator_key, self.model.out_channels)[0]
        if self.learn_log_variance:
            params[LOG_VARIANCE] = jnp.float32(self.log_variance)
        return params

    def init_latents(self, key: Array, examples: int) -> None:
        return None

    def start_from_pictures(self, params: Params, latents: Any, dataset: Dataset, seed: int) -> tuple[Params, Any]:
        return params, latents

    def init_statistics(self, key: Array) -> Statistics | None:
        """What the discriminator averages over steps; None without one."""
        return self.discriminator.init(key, self.model.out_channels)[1] if self.adversarial_weight else None

    def gradients(
        self,
        params: Params,
        statistics: Any,
        batch: Batch,
        key: Array,
        phase: str,
        compute_dtype: str = "float32",
        rows: Any = None,
    ) -> tuple[Metrics, Params, Any]:
        """(means of loss and metrics, gradients of all groups that learn in this phase, new statistics).

        Args:
            batch: "image" in [-1, 1]; "moments" of the posterior where they are known, in place of the encoder.
            key: of the posterior's sample.
        """
        images, values = batch["image"], batch["image"][0].size
        dtype = None if compute_dtype == "float32" else compute_dtype
        model = self.model if dtype is None else self.model.clone(dtype=dtype)
        learning = {name: params[name] for name in params if group_of(self, name).learns and name != DISCRIMINATOR}
        s = learning.pop(LOG_VARIANCE, jnp.float32(self.log_variance))

        def features_of(learning: Params) -> tuple[tuple[Array, Array], DiagonalGaussian]:
            posterior = self._posterior(model, {**params, **learning}, images, batch.get("moments"))
            z = posterior.sample(key) if self.sample_posterior else posterior.mode()
            features: Any = model.apply({"params": learning}, z, method="decode_features")
            return (features, posterior.kl().mean() / values), posterior

        def project(layer: Params, features: Array) -> Array:
            reconstruction: Any = model.apply({"params": {"decoder": {"conv_out": layer}}}, features, method="project")
            return crop(reconstruction, images.shape[1:3])

        (features, kl), pull_features, posterior = jax.vjp(features_of, learning, has_aux=True)
        reconstruction, pull_project = jax.vjp(project, learning["decoder"]["conv_out"], features)
        nll_and_gradients = jax.value_and_grad(self._nll, (0, 1), has_aux=True)
        (nll, metrics), (cotangent, s_gradient) = nll_and_gradients(reconstruction, s, images)
        loss, gradients = nll + self.kl_weight * kl, {}
        if phase != RECONSTRUCTION:
            adversary = self.discriminator.gradients(params[DISCRIMINATOR], statistics, images, reconstruction, dtype)
            statistics, gradients[DISCRIMINATOR] = adversary.statistics, adversary.gradients
            metrics |= adversary.metrics
        if phase == ADVERSARIAL:
            weight, adaptive = self._adversarial_weight(cotangent, adversary.cotangent, pull_project, values)
            cotangent = cotangent + weight * adversary.cotangent
            loss += weight * adversary.generator_loss
            metrics |= {"adaptive_weight": adaptive, "generator_adversarial_loss": adversary.generator_loss}
        layer_gradient, features_cotangent = pull_project(cotangent)
        (pulled,) = pull_features((features_cotangent, jnp.float32(self.kl_weight)))
        pulled["decoder"]["conv_out"] = layer_gradient  # features do not depend on it: what was pulled is zero
        if self.learn_log_variance:
            gradients[LOG_VARIANCE], metrics["log_variance"] = s_gradient, s
        return {"loss": loss, **metrics, **_closeness(posterior)}, {**pulled, **gradients}, statistics

    def _adversarial_weight(
        self, cotangent: Array, of_generator: Array, pull_project: Callable, values: int
    ) -> tuple[Array, Array]:
        """(weight of G, `adaptive`) from the cotangents of the reconstruction under error and under G."""
        adaptive = jnp.float32(values)
        if self.adaptive:
            kernels = [pull_project(c)[0]["kernel"] for c in (cotangent, of_generator)]
            adaptive = adversarial.adaptive_weight(values * kernels[0], kernels[1], self.adaptive_weight_max)
        return self.adversarial_weight * adaptive / values, adaptive

    def _posterior(self, model: AutoencoderKL, params: Params, images: Array, moments: Any) -> DiagonalGaussian:
        if moments is None:
            padded, _ = pad_to_stride(images, model.stride)
            moments = model.apply({"params": params}, padded, method="moments")
        return DiagonalGaussian.from_moments(jax.lax.stop_gradient(moments) if self.freeze_encoder else moments)

    def _nll(self, reconstruction: Float[Array, "b height width c"], s: Array, images: Array) -> tuple[Array, Metrics]:
        """error / exp(s) + s, a mean over pictures; see the class."""
        difference = reconstruction - images
        l1, mse = jnp.abs(difference).mean(), jnp.square(difference).mean()
        metrics = {"l1": l1, "mse": mse}
        error = l1 if self.pixel_loss == "l1" else mse
        if self.needs_lpips:
            if self.lpips is None:
                raise UserError("objective.perceptual_weight needs the LPIPS weights; 0 does without")
            metrics["lpips"] = self.lpips(*((x + 1.0) * 127.5 for x in (images, reconstruction))).mean()
            error += self.perceptual_weight * metrics["lpips"]
        return error / jnp.exp(s) + s, metrics


def _closeness(posterior: DiagonalGaussian) -> Metrics:
    """How near the latents are to N(0, I): the KL in nats a picture, and the mean squares of means and deviations."""
    mean_square, variance = jnp.square(posterior.mean).mean(), posterior.var.mean()
    return {"kl": posterior.kl().mean(), "latent_mean_square": mean_square, "posterior_variance": variance}
