"""A generator and its discriminator of DCGAN's and SNGAN's size (Radford et al. 2016; Miyato et al. 2018)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.errors import UserError
from dfm.models.layers import upsample_nearest
from dfm.shapes import typechecked

STAGES = 3  # of a factor of two, between the first grid and the picture
SLOPE = 0.1  # of the discriminator's leaky relu, as in SNGAN
BATCH_STATISTICS = "batch_stats"
DISCRIMINATOR = "discriminator"
Labels = Int[Array, " batch"] | None


class Generator(nn.Module):
    """N(0, I) -> a grid of an eighth of the picture -> three stages of nearest-neighbour upsampling and convolution.

    3x3 kernels, batch norm and relu between, tanh at the end.

    Training normalises by the batch at hand; samples are normalised by the running statistics, so that no sample
    depends on the others of its batch.

    Attributes:
        height, width, channels: of pictures; sides are cut from the next multiple of 8.
        latent_size: length of z.
        features: channels of the last stage; every stage before has twice as many.
        classes: number of labels that z is joined by an embedding of; 0: none.
    """

    height: int
    width: int
    channels: int = 3
    latent_size: int = 128
    features: int = 16
    classes: int = 0

    def __post_init__(self) -> None:
        if min(self.latent_size, self.features) < 1:
            raise ValueError("latent_size and features must be at least 1")
        super().__post_init__()

    @property
    def stride(self) -> int:
        return 1

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.latent_size,)

    @property
    def encodes(self) -> bool:
        return False

    @property
    def has_likelihood(self) -> bool:
        return False

    def setup(self):
        self.decoder: Any = Painter(self.height, self.width, self.channels, self.features)
        if self.classes:
            self.labels = nn.Embed(self.classes, self.latent_size)

    def __call__(self, images: Array, labels: Labels = None) -> Array:
        """All variables in one call, for `init`."""
        if self.classes and labels is None:
            labels = jnp.zeros(len(images), jnp.int32)
        return self.decode(jnp.zeros((len(images), self.latent_size)), labels)

    def encode(self, images: Array, labels: Labels = None):
        raise UserError("a GAN's generator has no encoder: latents of a picture are found by inversion")

    @typechecked
    def decode(
        self,
        z: Float[Array, "batch latent"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
        training: bool = False,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures in (-1, 1); `training`: normalised by this batch, whose statistics are averaged where mutable."""
        if (height or 0) > self.height or (width or 0) > self.width:
            raise UserError(f"this model paints {self.height}x{self.width} pixels and no more, not {height}x{width}")
        return self.decoder(self.with_labels(z, labels), training)[:, :height, :width]

    def with_labels(self, z: Array, labels: Labels) -> Array:
        """z with its class in it, where there are classes."""
        if not self.classes:
            return z
        if labels is None:
            raise ValueError(f"this model is conditioned on {self.classes} classes: labels are needed")
        return z * (1.0 + self.labels(labels))


class Painter(nn.Module):
    """The generator's network; see `Generator`."""

    height: int
    width: int
    channels: int
    features: int

    @nn.compact
    def __call__(self, z: Array, training: bool) -> Array:
        side = 2**STAGES
        rows, columns = -(-self.height // side), -(-self.width // side)
        width = self.features * side
        x = nn.Dense(rows * columns * width)(z).reshape(-1, rows, columns, width)
        x = nn.relu(batch_norm(training)(x))
        for stage in range(STAGES):
            x = nn.Conv(width >> (stage + 1), (3, 3), use_bias=False)(upsample_nearest(x))
            x = nn.relu(batch_norm(training)(x))
        return jnp.tanh(nn.Conv(self.channels, (3, 3))(x)[:, : self.height, : self.width])


class SpectralDiscriminator(nn.Module):
    """One logit a picture: pairs of 3x3 stride 1 and 4x4 stride 2 convolutions, one more of 3x3, and a linear layer.

    The CNN of SNGAN (Miyato et al. 2018), with the widths of its authors' code at `features` 64, but for its end: the
    linear layer sees the sum over positions, as in their ResNets, where theirs has a weight for each position.

    Every kernel is divided by an estimate of its spectral norm, of one power iteration from a vector in "batch_stats".
    Where `training`, which needs that collection mutable, the vector moves, and the next call's estimate is nearer;
    otherwise it stays. The embedding of the labels is divided by nothing.

    Attributes:
        features: channels of the first convolution; each stride of two doubles them.
        classes: number of labels, judged by projection (Miyato and Koyama 2018); 0: none.
    """

    features: int = 16
    classes: int = 0

    @nn.compact
    @typechecked
    def __call__(
        self, images: Float[Array, "batch height width channels"], labels: Labels = None, training: bool = False
    ) -> Float[Array, " batch"]:
        x = images
        for stage in range(STAGES):
            width = self.features << stage
            x = nn.leaky_relu(nn.SpectralNorm(nn.Conv(width, (3, 3)))(x, update_stats=training), SLOPE)
            down = nn.Conv(2 * width, (4, 4), 2, ((1, 1), (1, 1)))
            x = nn.leaky_relu(nn.SpectralNorm(down)(x, update_stats=training), SLOPE)
        x = nn.leaky_relu(nn.SpectralNorm(nn.Conv(self.features << STAGES, (3, 3)))(x, update_stats=training), SLOPE)
        features = x.sum((1, 2))
        logits = nn.SpectralNorm(nn.Dense(1))(features, update_stats=training)[:, 0]
        if self.classes and labels is not None:
            logits += (nn.Embed(self.classes, features.shape[-1])(labels) * features).sum(-1)
        return logits


def batch_norm(training: bool) -> nn.BatchNorm:
    """By the batch at hand where `training`, which moves the running statistics; by these otherwise."""
    return nn.BatchNorm(use_running_average=not training, momentum=0.9, epsilon=1e-5, use_fast_variance=False)
