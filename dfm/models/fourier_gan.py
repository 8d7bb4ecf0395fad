"""A GAN's generator whose last stages are Fourier nets: the adversarial Deep Fourier Machine.

    z -> dense -> a grid of an eighth of the picture -> stages of upsampling and convolution -> 1x1 to the coefficients
    of a cell's Fourier net -> the cells, painted and blended (dfm/models/cells.py)

Up to the coefficients it is the generator of dfm/models/gan.py, with as many stages less; what paints is a composition
of Fourier layers, so that samples have any resolution.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dfm.models.cells import paint_cells
from dfm.models.gan import STAGES, Generator, Labels, batch_norm
from dfm.models.layers import upsample_nearest
from dfm.models.local_dfm import CoefficientHead
from dfm.shapes import typechecked


class FourierGenerator(Generator):
    """See above; parameter group "decoder".

    Attributes:
        features: channels of the grid of the cells; every stage before has twice as many.
        stages: of a factor of two between the first grid and the cells: 1 makes cells of 4x4 pixels, 2 of 2x2.
        net_width, net_depth: of a cell's net, in the basis "cas".
        deviation_scale: deviations of the coefficients at the start, relative to what all cells share.
    """

    features: int = 64
    stages: int = 1
    net_width: int = 4
    net_depth: int = 2
    deviation_scale: float = 0.3

    def __post_init__(self):
        if not 0 <= self.stages < STAGES:
            raise ValueError(f"stages must be 0 to {STAGES - 1}, not {self.stages}: cells of at least 2x2 pixels")
        super().__post_init__()

    def setup(self):
        self.decoder = CellPainter(
            self.height,
            self.width,
            self.channels,
            self.features,
            self.stages,
            (self.net_width,) * self.net_depth,
            self.deviation_scale,
        )
        if self.classes:
            self.labels = nn.Embed(self.classes, self.latent_size)

    @typechecked
    def decode(
        self,
        z: Float[Array, "batch latent"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
        training: bool = False,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures in (-1, 1), at any resolution; `training` as in `Generator`."""
        return self.decoder(self.with_labels(z, labels), training, height or self.height, width or self.width)


class CellPainter(nn.Module):
    """The generator's network; see `FourierGenerator`."""

    height: int
    width: int
    channels: int
    features: int
    stages: int
    net_widths: tuple[int, ...]
    deviation_scale: float

    @nn.compact
    def __call__(self, z: Array, training: bool, height: int, width: int) -> Array:
        side = 2**STAGES
        rows, columns = -(-self.height // side), -(-self.width // side)
        features = self.features << self.stages
        x = nn.Dense(rows * columns * features)(z).reshape(-1, rows, columns, features)
        x = nn.relu(batch_norm(training)(x))
        for stage in range(self.stages):
            x = nn.Conv(features >> (stage + 1), (3, 3), use_bias=False)(upsample_nearest(x))
            x = nn.relu(batch_norm(training)(x))
        x = nn.Conv(self.features, (3, 3), use_bias=False)(x)  # neighbours agree on what they blend
        x = nn.relu(batch_norm(training)(x))
        vectors = CoefficientHead(self.net_widths, self.channels, self.deviation_scale)(x)
        cell = side >> self.stages
        extent = self.height / cell, self.width / cell
        return jnp.tanh(paint_cells(vectors, self.net_widths, self.channels, height, width, extent))
