"""An autoencoder as a generator of pictures of one size from vectors: what samplers, priors and evaluation expect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL, crop, pad_to_stride
from dfm.models.distributions import DiagonalGaussian


@dataclass(frozen=True)
class LatentVectors:
    """Latents as vectors of h w c numbers, row by row; encodings are modes of the posterior.

    Attributes:
        model: the autoencoder.
        height, width, channels: of the pictures.
    """

    model: AutoencoderKL
    height: int
    width: int
    channels: int

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the latents; a picture that the stride does not divide is padded."""
        stride = self.model.stride
        return -(-self.height // stride), -(-self.width // stride), self.model.latent_channels

    @property
    def latent_size(self) -> int:
        """Length of a vector."""
        height, width, channels = self.latent_shape
        return height * width * channels

    def apply(self, variables: Any, *args: Any, method: str) -> Any:
        """As of a Flax module, for the methods `encode` and `decode`."""
        known: dict[str, Callable[..., Array]] = {"encode": self._encode, "decode": self._decode}
        return known[method](variables, *args)

    def posterior(self, variables: Any, images: Float[Array, "n height width c"]) -> DiagonalGaussian:
        """q(z | image), [n, *latent_shape]."""
        padded, _ = pad_to_stride(images, self.model.stride)
        found = self.model.apply(variables, padded, method="encode")
        assert isinstance(found, DiagonalGaussian)
        return found

    def _encode(self, variables: Any, images: Float[Array, "n height width c"]) -> Float[Array, "n size"]:
        return self.posterior(variables, images).mode().reshape(len(images), -1)

    def _decode(
        self, variables: Any, vectors: Float[Array, "n size"], height: int | None = None, width: int | None = None
    ) -> Float[Array, "n height width c"]:
        if (height or self.height, width or self.width) != (self.height, self.width):
            raise UserError(f"the latents of an autoencoder have a size: they paint {self.height}x{self.width} only")
        latents = vectors.reshape(len(vectors), *self.latent_shape)
        painted: Any = self.model.apply(variables, latents, method="decode")
        return crop(painted, (self.height, self.width))


def of_size(model: Any, shape: tuple[int, int, int] | None) -> Any:
    """The model itself, or, of an autoencoder, its view at pictures of this (height, width, channels).

    Raises:
        UserError: an autoencoder whose pictures' size is not known.
    """
    if not isinstance(model, AutoencoderKL):
        return model
    if shape is None:
        raise UserError("the size of the pictures that the autoencoder was trained on is not known")
    return LatentVectors(model, *shape)
