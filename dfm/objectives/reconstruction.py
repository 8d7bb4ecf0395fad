"""Reconstruction with a penalty on the latents (Asadi 2022, Eq. 4.8)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.models.dfm import DeepFourierMachine, pixel_centres
from dfm.objectives.decoder_start import least_squares_start
from dfm.objectives.latent_start import check_components, principal_components
from dfm.objectives.painting_error import painting_errors
from dfm.objectives.per_example import PerExample
from dfm.objectives.protocol import LATENTS, Group, Params
from dfm.registry import check_value
from dfm.shapes import typechecked

LATENT_STARTS = ("normal", "pca")
DECODER_STARTS = ("random", "least_squares")


@dataclass(frozen=True)
class Reconstruction(PerExample):
    """Mean squared error over pixels and channels of [-1, 1] + latent_penalty * ||z||^2: one number a picture.

    Attributes:
        model: its encoder gives the latents, or a table does.
        latent_penalty: lambda of Eq. 4.8.
        points_per_picture: pixels that a step looks at, drawn anew each step and shared by the batch; 0: all. The net
            is a function of position, so a part of the pixels gives an unbiased gradient at a part of the cost.
        latent_noise: standard deviation of Gaussian noise on the latents, drawn anew each step. It makes the decoder
            smooth: without it, latents between those of the training pictures paint chaos, as a deep composition of
            sines can. `mse` is then that of the noisy latents; the penalty keeps them from growing away from the noise.
        latent_start: a table starts from a Gaussian of variance `latent_variance` ("normal"), or, in a training, from
            the pictures' principal components, scaled to that variance ("pca").
        decoder_start: as the model draws it ("random"), or, from principal components, with the last Fourier layer
            fitted to the pictures ("least_squares", dfm/objectives/decoder_start.py).
    """

    model: DeepFourierMachine
    latent_penalty: float
    points_per_picture: int = 0
    latent_noise: float = 0.0
    latent_start: Literal["normal", "pca"] = "normal"
    latent_variance: float = 1.0
    decoder_start: Literal["random", "least_squares"] = "random"

    def __post_init__(self):
        pixels = self.model.height * self.model.width
        if not 0 <= self.points_per_picture <= pixels:
            raise ValueError(f"points_per_picture is {self.points_per_picture}, the pictures have {pixels}")
        for name in ("latent_penalty", "latent_noise", "latent_variance"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        check_value("latent_start", self.latent_start, LATENT_STARTS)
        check_value("decoder_start", self.decoder_start, DECODER_STARTS)
        if self.decoder_start == "least_squares" and self.latent_start != "pca":
            raise ValueError("decoder_start 'least_squares' needs latent_start 'pca'")

    @property
    def groups(self) -> Mapping[str, Group]:
        return {"decoder": Group(), "encoder": Group(), LATENTS: Group()}

    def check_pictures(self, shape: tuple[int, int, int], examples: int) -> None:
        """UserError where they have too few principal components for the table's start."""
        if self.latent_start == "pca" and not self.model.encodes:
            check_components(examples, math.prod(shape), self.model.latent_size)

    def start_from_pictures(
        self, params: Params, latents: Float[Array, "examples latent"] | None, dataset: Dataset, seed: int
    ) -> tuple[Params, Float[Array, "examples latent"] | None]:
        """See `latent_start` and `decoder_start`."""
        if latents is None or self.latent_start != "pca":
            return params, latents
        values = principal_components(dataset, latents.shape[1], self.latent_variance)
        if self.decoder_start == "least_squares":
            params = least_squares_start(self.model, params, values, dataset, self.latent_noise, seed)
        return params, values

    def init_latents(self, key: Array, examples: int) -> Float[Array, "examples latent"] | None:
        """A table of latents from the Gaussian; None where there is an encoder."""
        if self.model.encodes:
            return None
        return self.latent_variance**0.5 * jax.random.normal(key, (examples, self.model.latent_size))

    @typechecked
    def __call__(
        self, params: Mapping[str, Any], latents: Float[Array, "batch latent"] | None, batch: Mapping[str, Any], key
    ) -> tuple[Float[Array, "batch"], dict[str, Float[Array, "batch"]]]:
        """Losses and metrics of each picture.

        Args:
            latents: the table's rows of these pictures, or None with an encoder.
            batch: "image" in [-1, 1].
            key: chooses the pixels and draws the noise.
        """
        model, images = self.model, batch["image"]
        z: Any = latents
        if z is None:
            found: Any = model.apply({"params": params}, images.astype(_dtype(params)), method="encode")
            z = found.mode()
        pixel_key, noise_key = jax.random.split(key)
        seen = z + self.latent_noise * jax.random.normal(noise_key, z.shape, z.dtype) if self.latent_noise else z
        vectors: Any = model.apply({"params": params}, seen, method="coefficients")
        points = pixel_centres(model.height, model.width)
        targets = images.reshape(images.shape[0], -1, model.channels)
        if self.points_per_picture:
            chosen = jax.random.choice(pixel_key, len(points), (self.points_per_picture,), replace=False)
            points, targets = points[chosen], targets[:, chosen]
        mse = painting_errors(model, vectors, points, targets)
        square_norm = (z.astype(jnp.float32) ** 2).sum(-1)
        return mse + self.latent_penalty * square_norm, {"mse": mse, "latent_square_norm": square_norm}


def _dtype(params: Mapping[str, Any]) -> Any:
    return jax.tree.leaves(params)[0].dtype
