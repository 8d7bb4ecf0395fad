"""AutoencoderKL: the continuous, KL-regularised autoencoder of latent diffusion (Rombach et al. 2022), in Flax.

The architecture, its names and its config keys are those of diffusers' AutoencoderKL, so weights go both ways
(dfm/convert.py). Fully convolutional: any height and width; those that `stride` divides come back at their size, for
the others there are `pad_to_stride` and `crop`. At `sample_size` it is a model of dfm/models/protocol.py.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from dfm.errors import UserError
from dfm.models.blocks import ACTIVATIONS, Decoder, Encoder
from dfm.models.distributions import DiagonalGaussian
from dfm.models.layers import Conv
from dfm.shapes import typechecked

AnyArray = Array | np.ndarray
DOWN_BLOCKS = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}  # name -> has attention
UP_BLOCKS = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}


class AutoencoderKL(nn.Module):
    """Pictures [batch, height, width, channels] in [-1, 1] <-> latents [batch, height / f, width / f, latent_channels].

    f is `stride`. Outputs are not clamped. Latents are unscaled; `scale_latents` makes those of a diffusion model.

    Attributes:
        in_channels, out_channels: of pictures, any number.
        down_block_types, up_block_types: one a level; "Attn..." adds attention after each resnet block; empty: plain.
        block_out_channels: width of each level; every level but the last halves the resolution.
        layers_per_block: resnet blocks a level in the encoder; the decoder has one more.
        act_fn: of the resnet blocks.
        norm_num_groups: of every group norm; divides all widths.
        sample_size: side of the training's pictures in pixels, or (height, width); sets the tiles of blended tiling,
            and what `height`, `width` and `latent_shape` say.
        scaling_factor, shift_factor, latents_mean, latents_std: see `scale_latents`.
        force_upcast: the weights overflow in float16; nothing here depends on it.
        use_quant_conv, use_post_quant_conv: 1x1 convolutions between encoder, posterior and decoder.
        mid_block_add_attention: attention in the middle of encoder and decoder.
        decoder_block_out_channels: widths of the decoder where they are not the encoder's.
        dtype: what is computed in, such as "bfloat16"; None: the type of the input. Statistics, softmax and the
            results stay float32 or wider, as the parameters do.
        remat: compute resnet blocks again in the backward pass in place of keeping what is inside them.
        fold_upsampling: nearest-neighbour upsampling and the convolution behind it as one, see `upsample_convolve`.
        other_keys: the keys of a config.json that nothing here knows, as JSON text; they are written back.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: Sequence[str] = ()
    up_block_types: Sequence[str] = ()
    block_out_channels: Sequence[int] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | Sequence[int] = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: Sequence[float] | None = None
    latents_std: Sequence[float] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    decoder_block_out_channels: Sequence[int] | None = None
    dtype: Any = None
    remat: bool = False
    fold_upsampling: bool = True
    other_keys: str = "{}"

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        shared = (self.norm_num_groups, self.act_fn, self.mid_block_add_attention, self.dtype, self.remat)
        levels = len(self.block_out_channels)
        down = [DOWN_BLOCKS[name] for name in self.down_block_types] or [False] * levels
        up = [UP_BLOCKS[name] for name in self.up_block_types] or [False] * levels
        moments, decoder_widths = 2 * self.latent_channels, self.decoder_block_out_channels or self.block_out_channels
        self.encoder = Encoder(self.in_channels, moments, self.block_out_channels, down, self.layers_per_block, *shared)
        self.decoder = Decoder(
            self.latent_channels,
            self.out_channels,
            decoder_widths,
            up,
            self.layers_per_block + 1,
            *shared,
            self.fold_upsampling,
        )
        if self.use_quant_conv:
            self.quant_conv = Conv(moments, moments, kernel_size=1, dtype=self.dtype)
        if self.use_post_quant_conv:
            self.post_quant_conv = Conv(self.latent_channels, self.latent_channels, kernel_size=1, dtype=self.dtype)

    @property
    def stride(self) -> int:
        """Pixels a latent position along height and width: 2^(levels - 1)."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def height(self) -> int:
        return self.sample_size[0] if isinstance(self.sample_size, Sequence) else self.sample_size

    @property
    def width(self) -> int:
        return self.sample_size[-1] if isinstance(self.sample_size, Sequence) else self.sample_size

    @property
    def channels(self) -> int:
        return self.in_channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels) of the latents of a picture of `sample_size`."""
        return -(-self.height // self.stride), -(-self.width // self.stride), self.latent_channels

    @property
    def classes(self) -> int:
        return 0

    @property
    def encodes(self) -> bool:
        return True

    @property
    def has_likelihood(self) -> bool:
        """Perceptual and adversarial losses bound none."""
        return False

    def __call__(self, images: Array, key: Array | None = None) -> Array:
        """Reconstructions: of the posterior's mode, or of a sample with a key."""
        posterior = self.encode(images)
        return self.decode(posterior.mode() if key is None else posterior.sample(key))

    def encode(
        self, images: Float[AnyArray, "batch height width channels"], labels: Int[Array, " batch"] | None = None
    ) -> DiagonalGaussian:
        """q(z | image)."""
        return DiagonalGaussian.from_moments(self.moments(images))

    @typechecked
    def moments(self, images: Float[AnyArray, "batch height width channels"]) -> Float[Array, "batch h w moments"]:
        """Mean and log variance of the posterior, channels side by side."""
        x = self.encoder(jnp.asarray(images))
        return _wide(self.quant_conv(x) if self.use_quant_conv else x)

    @typechecked
    def decode(
        self,
        latents: Float[AnyArray, "batch h w latents"],
        labels: Int[Array, " batch"] | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures of unscaled latents: whole, or their first `height` rows and `width` columns.

        Raises:
            UserError: larger than these latents give, or smaller by a stride or more.
        """
        sides = [positions * self.stride for positions in latents.shape[1:3]]
        wanted = height or sides[0], width or sides[1]
        if any(not side - self.stride < size <= side for side, size in zip(sides, wanted, strict=True)):
            painted, asked = ("{}x{}".format(*size) for size in (sides, wanted))
            raise UserError(f"the latents of an autoencoder have a size: these paint {painted}, not {asked}")
        return crop(self.project(self.decode_features(latents)), wanted)

    @typechecked
    def decode_features(
        self, latents: Float[AnyArray, "batch h w latents"]
    ) -> Float[Array, "batch height width width0"]:
        """What the decoder's last convolution gets; `project` does the rest of `decode`."""
        z = jnp.asarray(latents)
        z = self.post_quant_conv(z) if self.use_post_quant_conv else z
        return self.decoder.features(z)

    def project(self, features: Float[Array, "batch height width width0"]) -> Float[Array, "batch height width c"]:
        """The decoder's last convolution."""
        return _wide(self.decoder.conv_out(features))


def parameter_shapes(model: AutoencoderKL) -> dict[str, Any]:
    """The tree of parameters as shapes and types, without computing any."""
    image = jax.ShapeDtypeStruct((1, model.stride, model.stride, model.in_channels), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)["params"]


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _check(model: AutoencoderKL) -> None:
    """ValueError on what cannot be."""
    levels = len(model.block_out_channels)
    for name in ("in_channels", "out_channels", "layers_per_block", "latent_channels", "norm_num_groups"):
        if getattr(model, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(model, name)}")
    for name in ("block_out_channels", "decoder_block_out_channels"):
        widths = getattr(model, name)
        if widths is None:
            continue
        if len(widths) != levels or levels == 0:
            raise ValueError(f"{name} has {len(widths)} levels, block_out_channels {levels}")
        if any(width < 1 or width % model.norm_num_groups for width in widths):
            raise ValueError(f"{name} {tuple(widths)} must be multiples of norm_num_groups {model.norm_num_groups}")
    for name, known in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
        types = getattr(model, name)
        for kind in types:
            if kind not in known:
                raise ValueError(f"{name} has {kind!r}, not one of {', '.join(known)}")
        if types and len(types) != levels:
            raise ValueError(f"{name} has {len(types)} entries for {levels} levels of block_out_channels")
    sides = model.sample_size if isinstance(model.sample_size, Sequence) else (model.sample_size,)
    if not (1 <= len(sides) <= 2 and min(sides) >= 1):
        raise ValueError(f"sample_size is {model.sample_size}, not a side or (height, width) in pixels")
    if not 0 < abs(model.scaling_factor) < float("inf"):
        raise ValueError(f"scaling_factor cannot be {model.scaling_factor}")
    for name in ("latents_mean", "latents_std"):
        values = getattr(model, name)
        if values is not None and len(values) != model.latent_channels:
            raise ValueError(f"{name} has {len(values)} numbers for {model.latent_channels} latent_channels")
    if model.latents_std is not None and min(model.latents_std) <= 0:
        raise ValueError(f"latents_std {tuple(model.latents_std)} must be positive")
    if model.act_fn not in ACTIVATIONS:
        raise ValueError(f"act_fn is {model.act_fn!r}, not one of {', '.join(ACTIVATIONS)}")


@typechecked
def scale_latents(
    latents: Float[AnyArray, "*batch channels"], model: AutoencoderKL
) -> Float[AnyArray, "*batch channels"]:
    """Latents as a diffusion model sees them: (z - shift) * scaling, or (z - mean) / std * scaling a channel."""
    shift, factor = _shift_and_factor(model)
    return (latents - shift) * factor


@typechecked
def unscale_latents(
    latents: Float[AnyArray, "*batch channels"], model: AutoencoderKL
) -> Float[AnyArray, "*batch channels"]:
    """The inverse of `scale_latents`: what `decode` takes."""
    shift, factor = _shift_and_factor(model)
    return latents / factor + shift


def _shift_and_factor(model: AutoencoderKL) -> tuple[Any, Any]:
    if model.latents_mean is not None and model.latents_std is not None:
        mean, std = (np.asarray(values, np.float32) for values in (model.latents_mean, model.latents_std))
        return mean, np.float32(model.scaling_factor) / std
    return np.float32(model.shift_factor or 0.0), np.float32(model.scaling_factor)


def pad_to_stride(images: Array | np.ndarray, stride: int, mode: str = "edge") -> tuple[Any, tuple[int, int]]:
    """(pictures padded below and to the right to multiples of `stride`, (height, width) before).

    Args:
        mode: of numpy.pad: "edge" repeats the last row and column, "reflect" mirrors, "constant" is zeros.
    """
    height, width = images.shape[1:3]
    pad: Any = np.pad if isinstance(images, np.ndarray) else jnp.pad
    amounts = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
    return pad(images, amounts, mode=mode), (height, width)


def crop(images: Any, size: tuple[int, int]) -> Any:
    """The first `size` = (height, width) rows and columns: undoes `pad_to_stride` after decoding."""
    return images[:, : size[0], : size[1]]


def published_variants() -> dict[str, AutoencoderKL]:
    """The published shapes by name: sd, sdxl, sd3, flux, kl-f4, kl-f16 (weights are the user's)."""
    widths: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    no_quant: dict[str, Any] = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
    return {
        "sd": AutoencoderKL(**widths, sample_size=512),
        "sdxl": AutoencoderKL(**widths, sample_size=1024, scaling_factor=0.13025),
        "sd3": AutoencoderKL(**widths, **no_quant, sample_size=1024, scaling_factor=1.5305, shift_factor=0.0609),
        "flux": AutoencoderKL(**widths, **no_quant, sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159),
        "kl-f4": AutoencoderKL(block_out_channels=(128, 256, 512), layers_per_block=2, latent_channels=3),
        "kl-f16": AutoencoderKL(
            block_out_channels=(128, 128, 256, 256, 512),
            layers_per_block=2,
            latent_channels=16,
            down_block_types=(*("DownEncoderBlock2D",) * 4, "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 4),
        ),
    }
