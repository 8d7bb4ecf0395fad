"""The autoencoder family in one module: a trunk, and a bottleneck that makes it an AE, a VAE or a VQ-VAE."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.errors import UserError
from dfm.models.activations import ACTIVATIONS
from dfm.models.bottlenecks import BOTTLENECKS, Quantized
from dfm.models.distributions import AgainstMixture, DiagonalGaussian, Distribution
from dfm.models.trunks import STRIDE, ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, grid_size
from dfm.shapes import typechecked

TRUNKS = ("dense", "conv")
OUTPUTS = ("identity", "tanh", "sigmoid")
PRIORS = ("normal", "vamp")
PSEUDO_INPUTS = "pseudo_inputs"  # group of parameters: pictures before their tanh
LARGEST_PIXEL = 0.9  # of pseudo-inputs at their start, where tanh still has a slope
LABEL_FEATURES = 16  # of a label's embedding, on either side
Labels = Int[Array, " batch"] | None


class Autoencoder(nn.Module):
    """Picture -> encoder -> bottleneck -> decoder -> picture; parameter groups "encoder", "decoder", "bottleneck",
    and "labels" (an embedding of the class that both sides see, where `classes` is not 0).

    Attributes:
        height, width, channels: of pictures.
        trunk: "dense" or "conv" (dfm/models/trunks.py), with `widths`, `features` and `activation`.
        bottleneck: "point", "gaussian" or "vq" (dfm/models/bottlenecks.py).
        latent: (size,), or (channels,) a position of a grid where `grid`; a VQ's last axis is the size of a code.
        grid: latents keep their place: (height / 4, width / 4, channels); for the convolutional trunk.
        codes: K of a "vq"; averaged_codes: its book moves by averages, otherwise by gradients.
        output: what bounds the picture: "identity" (a mean without bounds), "tanh", or "sigmoid" (2 p - 1 of a
            probability p: what the Bernoulli likelihood takes the logits of).
        classes: number of labels that it is conditioned on; 0: none.
        prior: of a "gaussian": "normal", N(0, I); or "vamp", the mean of the posteriors of as many learned pictures as
            `pseudo_inputs` says, the parameters "pseudo_inputs" (Tomczak and Welling 2018).
    """

    height: int
    width: int
    channels: int = 1
    trunk: str = "conv"
    widths: Sequence[int] = (64, 128)
    features: int = 1024
    activation: str = "relu"
    bottleneck: str = "gaussian"
    latent: Sequence[int] = (16,)
    grid: bool = False
    codes: int = 512
    averaged_codes: bool = True
    output: str = "identity"
    classes: int = 0
    prior: str = "normal"
    pseudo_inputs: int = 100

    def __post_init__(self) -> None:
        for name, known in (
            ("trunk", TRUNKS),
            ("bottleneck", BOTTLENECKS),
            ("output", OUTPUTS),
            ("activation", ACTIVATIONS),
            ("prior", PRIORS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(known)}")
        for name in ("latent", "widths", "features", "codes"):
            if np.any(np.less(getattr(self, name), 1)):
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.latent:
            raise ValueError("latent must have a length")
        if self.grid and self.trunk != "conv":
            raise ValueError("a grid of latents needs the convolutional trunk")
        if self.trunk == "conv" and len(self.widths) != 2:
            raise ValueError(f"the convolutional trunk has two widths, not {len(self.widths)}")
        if self.prior == "vamp" and (self.bottleneck != "gaussian" or self.classes or self.pseudo_inputs < 1):
            raise ValueError("prior 'vamp' needs bottleneck 'gaussian', no classes, and a pseudo-input at least")
        super().__post_init__()

    def setup(self):
        conv = self.trunk == "conv"
        layers: dict[str, Any] = {"widths": tuple(self.widths), "activation": self.activation}
        layers |= {"features": self.features} if conv else {}
        quantizer = {"codes": self.codes, "size": self.latent[-1], "averaged": self.averaged_codes}
        self.neck = BOTTLENECKS[self.bottleneck](name="bottleneck", **(quantizer if self.bottleneck == "vq" else {}))
        outputs = self.neck.encoder_outputs(self.latent_shape)
        self.encoder = (ConvEncoder if conv else DenseEncoder)(outputs, **layers)
        mirrored = layers if conv else {**layers, "widths": tuple(reversed(self.widths))}
        self.decoder = (ConvDecoder if conv else DenseDecoder)(self.height, self.width, self.channels, **mirrored)
        if self.classes:
            self.labels = nn.Embed(self.classes, LABEL_FEATURES)
        if self.prior == "vamp":
            shape = (self.pseudo_inputs, self.height, self.width, self.channels)
            self.pictures = self.param(PSEUDO_INPUTS, nn.initializers.normal(0.5), shape)

    @property
    def stride(self) -> int:
        return STRIDE if self.trunk == "conv" else 1

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (*grid_size(self.height, self.width), *self.latent) if self.grid else tuple(self.latent)

    @property
    def encodes(self) -> bool:
        return True

    @property
    def has_likelihood(self) -> bool:
        return self.bottleneck == "gaussian"

    def __call__(self, images: Array, labels: Labels = None) -> Array:
        """All parameters in one call, for `init`."""
        if self.classes and labels is None:
            labels = jnp.zeros(len(images), jnp.int32)
        return self.decode(self.encode(images, labels).mode(), labels)

    @typechecked
    def encoder_output(self, images: Float[Array, "batch height width channels"], labels: Labels = None) -> Array:
        """What the bottleneck makes a distribution of."""
        return self.encoder(images, self._condition(labels))

    def encode(self, images: Float[Array, "batch height width channels"], labels: Labels = None) -> Distribution:
        """q(z | x [, y])."""
        posterior = self.neck(self.encoder_output(images, labels))
        if self.prior == "vamp":
            return AgainstMixture(posterior.mean, posterior.logvar, self.prior_components())
        return posterior

    def prior_components(self) -> DiagonalGaussian:
        """Of a VampPrior: the posteriors of its pseudo-inputs, one a row, whose mean it is."""
        return self.neck(self.encoder_output(jnp.tanh(self.pictures)))

    def quantize(self, images: Float[Array, "batch height width channels"], labels: Labels = None) -> Quantized:
        """Of a "vq": encodings, their nearest codes' vectors, and codes."""
        return self.neck.quantize(self.encoder_output(images, labels))

    def embed(self, codes: Int[Array, "batch *positions"]) -> Array:
        """Of a "vq": latents of codes."""
        return self.neck.embed(codes)

    @typechecked
    def outputs(self, z: Float[Array, "batch *latent"], labels: Labels = None) -> Array:
        """The decoder's numbers before `output` bounds them; logits of probabilities for "sigmoid"."""
        return self.decoder(self.neck.decoder_input(z), self._condition(labels))

    def decode(
        self,
        z: Float[Array, "batch *latent"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures of the model's own size; a smaller height and width are cut off at the right and the bottom.

        Raises:
            UserError: a larger size: these latents have no more to show.
        """
        if (height or 0) > self.height or (width or 0) > self.width:
            raise UserError(f"this model paints {self.height}x{self.width} pixels and no more, not {height}x{width}")
        return self.bounded(self.outputs(z, labels))[:, :height, :width]

    def bounded(self, outputs: Array) -> Array:
        """Numbers of the decoder as pictures in [-1, 1]."""
        return 2.0 * jax.nn.sigmoid(outputs) - 1.0 if self.output == "sigmoid" else ACTIVATIONS[self.output](outputs)

    def _condition(self, labels: Labels) -> Array | None:
        if not self.classes:
            return None
        if labels is None:
            raise ValueError(f"this model is conditioned on {self.classes} classes: labels are needed")
        return self.labels(labels)


def pseudo_inputs(images: Float[Array, "k height width channels"]) -> Array:
    """The parameters of pseudo-inputs that look like these pictures in [-1, 1]."""
    return jnp.arctanh(jnp.clip(images, -LARGEST_PIXEL, LARGEST_PIXEL))
