"""A variational autoencoder of several latent levels, decoded top-down (Sonderby et al. 2016; Child 2021).

Level 1 is the coarsest. Its decoder makes features h_1 of u_1; each further level l has a prior that depends on what
lies above, p(z_l | z_<l) = N(mu(h), sigma^2(h)), and a residual posterior (Vahdat and Kautz 2020),
q(z_l | z_<l, x) = N(mu + sigma d(x), (sigma s(x))^2). Latents here are the whitened u_l = (z_l - mu) / sigma: with them
every prior is N(0, I), every posterior N(d(x), s^2(x)), and the KL of a level, which an affine map does not change, is
closed. So the ELBO is the distortion plus the sum of the levels' KL, priors and interpolations work as for any model,
and one level is the VAE.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.errors import UserError
from dfm.models.activations import ACTIVATIONS
from dfm.models.distributions import DiagonalGaussian, Levels
from dfm.models.layers import upsample_nearest
from dfm.models.trunks import STRIDE, grid_size, norm, to_grid
from dfm.shapes import typechecked

Labels = Int[Array, " batch"] | None


class HierarchicalVAE(nn.Module):
    """Convolutional, f = 4 at its finest level: a vector on top, then grids, each of twice the sides.

    Attributes:
        height, width, channels: of pictures.
        levels: number of latent levels; 1 is a VAE with a vector alone.
        top: length of the vector.
        latent_channels: of each grid.
        features: channels of all convolutions.
        output: "identity", "tanh" or "sigmoid", as in dfm/models/autoencoder.py.
    """

    height: int
    width: int
    channels: int = 1
    levels: int = 2
    top: int = 32
    latent_channels: int = 4
    features: int = 64
    activation: str = "silu"
    output: str = "identity"

    def __post_init__(self) -> None:
        for name in ("levels", "top", "latent_channels", "features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if len(set(self.grids)) < len(self.grids):  # what is one latent already is halved again
            raise ValueError(f"pictures of {self.height}x{self.width} have no {self.levels} levels")
        super().__post_init__()

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of the grids of levels 2, 3, ..., coarse to fine; the finest is a quarter of the picture."""
        rows, columns = grid_size(self.height, self.width)
        return [(-(-rows // 2**i), -(-columns // 2**i)) for i in reversed(range(max(self.levels - 1, 1)))]

    @property
    def latent_shape(self) -> tuple[tuple[int, ...], ...]:
        grids = [(*grid, self.latent_channels) for grid in self.grids]
        return ((self.top,), *grids[: self.levels - 1])

    @property
    def stride(self) -> int:
        return STRIDE

    @property
    def classes(self) -> int:
        return 0

    @property
    def encodes(self) -> bool:
        return True

    @property
    def has_likelihood(self) -> bool:
        return True

    def setup(self):
        self.encoder = BottomUp(self.latent_shape, self.features, self.activation)
        self.decoder = TopDown(
            self.latent_shape, tuple(self.grids), self.height, self.width, self.channels, self.features, self.activation
        )

    def __call__(self, images: Array, labels: Labels = None) -> Array:
        return self.decode(self.encode(images).mode())

    @typechecked
    def encode(self, images: Float[Array, "batch height width channels"], labels: Labels = None) -> Levels:
        """The posteriors of the whitened latents of all levels."""
        return Levels(tuple(DiagonalGaussian.from_moments(moments) for moments in self.encoder(images)))

    def outputs(self, z: Sequence[Array], labels: Labels = None) -> Array:
        """The decoder's numbers before `output` bounds them."""
        return self.decoder(tuple(z))

    def decode(
        self, z: Sequence[Array], labels: Labels = None, height: int | None = None, width: int | None = None
    ) -> Float[Array, "batch height width channels"]:
        if (height or 0) > self.height or (width or 0) > self.width:
            raise UserError(f"this model paints {self.height}x{self.width} pixels and no more, not {height}x{width}")
        return self.bounded(self.outputs(z))[:, :height, :width]

    def bounded(self, outputs: Array) -> Array:
        """Numbers of the decoder as pictures in [-1, 1]."""
        return 2.0 * jax.nn.sigmoid(outputs) - 1.0 if self.output == "sigmoid" else ACTIVATIONS[self.output](outputs)


class BottomUp(nn.Module):
    """Picture -> moments of every level, coarsest first, from features that halve from level to level."""

    shapes: Sequence[Sequence[int]]
    features: int
    activation: str

    @nn.compact
    def __call__(self, images: Array) -> list[Array]:
        act = ACTIVATIONS[self.activation]
        x = to_grid(images)
        for _ in range(2):
            x = act(norm(self.features)(nn.Conv(self.features, (4, 4), 2, ((1, 1), (1, 1)))(x)))
        moments: list[Array] = []
        for position, shape in enumerate(reversed(self.shapes[1:])):
            if position:
                x = act(norm(self.features)(nn.Conv(self.features, (3, 3), 2)(x)))
            x = x + residual(self.features, act, x)
            moments.append(nn.Conv(2 * shape[-1], (1, 1))(x))
        flat = act(nn.Dense(4 * self.features)(x.reshape(len(x), -1)))
        moments.append(nn.Dense(2 * self.shapes[0][0])(flat))
        return moments[::-1]


class TopDown(nn.Module):
    """Whitened latents, coarsest first -> picture without bounds."""

    shapes: Sequence[Sequence[int]]
    grids: Sequence[tuple[int, int]]
    height: int
    width: int
    channels: int
    features: int
    activation: str

    @nn.compact
    def __call__(self, latents: Sequence[Array]) -> Array:
        act = ACTIVATIONS[self.activation]
        rows, columns = self.grids[0]
        h = act(nn.Dense(4 * self.features)(latents[0]))
        h = nn.Dense(rows * columns * self.features)(h).reshape(-1, rows, columns, self.features)
        for position, u in enumerate(latents[1:]):
            if position:
                rows, columns = self.grids[position]
                h = upsample_nearest(h)[:, :rows, :columns]
            h = h + residual(self.features, act, h)
            prior = nn.Conv(2 * u.shape[-1], (1, 1), kernel_init=nn.initializers.zeros)(h)  # N(0, I) at the start
            mean, log_sigma = jnp.split(prior, 2, axis=-1)
            z = mean + jnp.exp(jnp.clip(log_sigma, -6.0, 3.0)) * u
            h = h + nn.Conv(self.features, (1, 1))(z)
        h = act(norm(self.features)(h + residual(self.features, act, h)))
        h = act(norm(self.features)(nn.Conv(self.features, (3, 3))(upsample_nearest(h))))
        return nn.Conv(self.channels, (3, 3))(upsample_nearest(h))[:, : self.height, : self.width]


def residual(features: int, act: Any, x: Array) -> Array:
    """A branch of two 3x3 convolutions that begins as a tenth of what it would add."""
    x = nn.Conv(features, (3, 3))(act(norm(features)(x)))
    small = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")
    return nn.Conv(features, (3, 3), kernel_init=small)(act(norm(features)(x)))
