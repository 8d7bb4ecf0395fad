"""Local Deep Fourier Machines: a grid of latents, and a small Fourier net a cell of the picture.

A Deep Fourier Machine (Asadi 2022) has one net and one latent for the whole picture. Here an encoder of convolutions
gives a latent for each cell of a grid, a decoder turns the grid into the coefficients of a net for each cell, and the
nets are painted in relative coordinates and blended (dfm/models/cells.py). What a latent says is said where it stands:
the lever that LIIF (Chen et al. 2021) and Spatial Functa (Bauer et al. 2023) pull. Satisfies dfm/models/protocol.py.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.models.blocks import ResnetBlock, Style
from dfm.models.bottlenecks import BOTTLENECKS
from dfm.models.cells import cell_coefficient_count, coefficient_scales, paint_cells
from dfm.models.distributions import Distribution
from dfm.models.trunks import LARGEST_GROUPS, norm
from dfm.registry import check_value
from dfm.shapes import typechecked

STYLE = Style(groups=LARGEST_GROUPS)
Labels = Int[Array, " batch"] | None


class LocalFourierMachine(nn.Module):
    """Pictures <-> grids of latents; parameter groups "encoder" and "decoder".

    Attributes:
        height, width, channels: of the pictures it is trained on. It paints any other size too.
        encoder_widths: channels of 4x4 convolutions of stride 2; each halves the grid: three of them make cells of 8x8
            pixels.
        latent_channels: numbers a cell. 32x32 pixels, three widths and 16 channels make 256 numbers.
        features, blocks: channels of the decoder, and its residual blocks; encoder_blocks: those of the encoder, after
            its last convolution.
        net_width, net_depth: of a cell's Fourier net, in the basis "cas".
        deviation_scale: deviations of the coefficients at the start, relative to what all cells share.
        bottleneck: "point" or "gaussian" (dfm/models/bottlenecks.py).
    """

    height: int
    width: int
    channels: int
    encoder_widths: Sequence[int] = (32, 64, 128)
    latent_channels: int = 16
    features: int = 128
    blocks: int = 1
    encoder_blocks: int = 0
    net_width: int = 4
    net_depth: int = 2
    deviation_scale: float = 0.3
    bottleneck: str = "point"

    def __post_init__(self):
        check_value("bottleneck", self.bottleneck, ("point", "gaussian"))
        for name in ("height", "width", "channels", "latent_channels", "features", "net_width", "net_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for size in (self.features, *([self.encoder_widths[-1]] if self.encoder_blocks else [])):
            if size % LARGEST_GROUPS:
                raise ValueError(f"channels of residual blocks must be multiples of {LARGEST_GROUPS}, not {size}")
        if not self.encoder_widths:
            raise ValueError("encoder_widths names no convolution")
        super().__post_init__()

    def setup(self):
        self.neck = BOTTLENECKS[self.bottleneck](name="bottleneck")
        outputs = self.neck.encoder_outputs((self.latent_channels,))[0]
        self.encoder = GridEncoder(self.encoder_widths, self.encoder_blocks, outputs)
        self.decoder = CellDecoder(
            self.features, self.blocks, (self.net_width,) * self.net_depth, self.channels, self.deviation_scale
        )

    @property
    def stride(self) -> int:
        """Side of a cell in pixels."""
        return 2 ** len(self.encoder_widths)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return -(-self.height // self.stride), -(-self.width // self.stride), self.latent_channels

    @property
    def classes(self) -> int:
        return 0

    @property
    def encodes(self) -> bool:
        return True

    @property
    def has_likelihood(self) -> bool:
        return self.bottleneck == "gaussian"

    @property
    def output(self) -> str:
        """What bounds the picture, by the words of the autoencoder family."""
        return "tanh"

    def __call__(self, images: Array) -> Array:
        """All parameters in one call, for `init`."""
        return self.decode(self.encode(images).mode())

    def encode(self, images: Float[Array, "batch height width channels"], labels: Labels = None) -> Distribution:
        """q(z | image) over grids [batch, rows, columns, latent_channels]; a point mass with the bottleneck "point".

        Pictures whose sides the stride does not divide go on as their last row and column.
        """
        height, width = images.shape[1:3]
        padding = ((0, 0), (0, -height % self.stride), (0, -width % self.stride), (0, 0))
        return self.neck(self.encoder(jnp.pad(images, padding, mode="edge")))

    @typechecked
    def coefficients(
        self, z: Float[Array, "batch rows columns latent_channels"]
    ) -> Float[Array, "batch rows columns count"]:
        """Coefficient vectors of the cells' nets, float32 or wider."""
        return self.decoder(z)

    @typechecked
    def outputs(
        self,
        z: Float[Array, "batch rows columns latent_channels"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """The blended nets before `bounded`; see `decode`."""
        height, width = height or self.height, width or self.width
        extent = self.height / self.stride, self.width / self.stride
        return paint_cells(self.decoder(z), self.decoder.widths, self.channels, height, width, extent)

    def decode(
        self,
        z: Float[Array, "batch rows columns latent_channels"],
        labels: Labels = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures in (-1, 1) of these latents, at any resolution; None: that of the training."""
        return self.bounded(self.outputs(z, labels, height, width))

    def bounded(self, outputs: Array) -> Array:
        """The thesis' tanh at the end (Eq. 4.6), of the blended nets."""
        return jnp.tanh(outputs)


class GridEncoder(nn.Module):
    """4x4 convolutions of stride 2 with group norms, residual blocks, and 1x1 to the latents."""

    widths: Sequence[int]
    blocks: int
    outputs: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images
        for width in self.widths:
            x = jax.nn.silu(norm(width)(nn.Conv(width, (4, 4), 2, ((1, 1), (1, 1)))(x)))
        for _ in range(self.blocks):
            x = ResnetBlock(x.shape[-1], x.shape[-1], STYLE)(x)
        return nn.Conv(self.outputs, (1, 1))(x)


class CellDecoder(nn.Module):
    """A grid of latents -> the coefficients of a net a cell.

    3x3 convolution, residual blocks, norm, and 1x1 to the coefficients in units of their deviation at the start: the
    bias is what all cells share, the rest the deviation of a cell.
    """

    features: int
    blocks: int
    widths: Sequence[int]
    channels: int
    deviation_scale: float

    @nn.compact
    def __call__(self, z: Array) -> Array:
        x = nn.Conv(self.features, (3, 3))(z)
        for _ in range(self.blocks):
            x = ResnetBlock(self.features, self.features, STYLE)(x)
        return CoefficientHead(self.widths, self.channels, self.deviation_scale)(jax.nn.silu(norm(self.features)(x)))


class CoefficientHead(nn.Module):
    """1x1 convolution to the coefficients of each cell's net; see `CellDecoder`."""

    widths: Sequence[int]
    channels: int
    deviation_scale: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        head = nn.Conv(
            cell_coefficient_count(self.widths, self.channels),
            (1, 1),
            kernel_init=nn.initializers.variance_scaling(self.deviation_scale**2, "fan_in", "normal"),
            bias_init=nn.initializers.normal(1.0),
        )
        vectors = head(x)
        vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))  # phases need at least float32
        return vectors * coefficient_scales(self.widths, self.channels)
