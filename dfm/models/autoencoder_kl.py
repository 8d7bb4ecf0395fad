"""AutoencoderKL: the continuous, KL-regularised autoencoder of latent diffusion (Rombach et al. 2022), in Flax.

The architecture, its names and its config keys are those of diffusers' AutoencoderKL, so weights go both ways
(dfm/convert.py). Fully convolutional: any height and width; those that `stride` divides come back at their size, for
the others dfm/arrays.py has `pad_to_stride` and `crop`. At `sample_size` it is a model of dfm/models/protocol.py.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Shaped

from dfm.arrays import crop
from dfm.errors import UserError, counted
from dfm.models.blocks import ACTIVATIONS, PADDING_MODES, Decoder, Encoder, Style
from dfm.models.distributions import DiagonalGaussian
from dfm.models.layers import Conv
from dfm.registry import check_value
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
        act_fn: of the resnet blocks; capital letters are as small ones.
        norm_num_groups: of every group norm; divides all widths.
        sample_size: side of the training's pictures in pixels, or (height, width); sets the tiles of blended tiling,
            and what `height`, `width` and `latent_shape` say.
        scaling_factor, shift_factor, latents_mean, latents_std, patch_size: see `latent_scaling`; a scaling_factor of
            None is not known.
        force_upcast: the weights overflow in float16; nothing here depends on it.
        use_quant_conv, use_post_quant_conv: 1x1 convolutions between encoder, posterior and decoder.
        mid_block_add_attention: attention in the middle of encoder and decoder.
        decoder_block_out_channels: widths of the decoder where they are not the encoder's.
        padding_mode: "zeros", or "reflect" where convolutions see the picture's mirror image outside of it.
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
    scaling_factor: float | None = None
    shift_factor: float | None = None
    latents_mean: Sequence[float] | None = None
    latents_std: Sequence[float] | None = None
    patch_size: Sequence[int] | None = None
    force_upcast: bool | None = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    decoder_block_out_channels: Sequence[int] | None = None
    padding_mode: str = "zeros"
    dtype: Any = None
    remat: bool = False
    fold_upsampling: bool = True
    other_keys: str = "{}"

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    def setup(self):
        style = Style(
            self.norm_num_groups, self.act_fn.lower(), self.dtype, self.remat, self.fold_upsampling, self.padding_mode
        )
        levels, layers, attends = len(self.block_out_channels), self.layers_per_block, self.mid_block_add_attention
        down = [DOWN_BLOCKS[name] for name in self.down_block_types] or [False] * levels
        up = [UP_BLOCKS[name] for name in self.up_block_types] or [False] * levels
        moments, decoder_widths = 2 * self.latent_channels, self.decoder_block_out_channels or self.block_out_channels
        self.encoder = Encoder(self.in_channels, moments, self.block_out_channels, down, layers, style, attends)
        self.decoder = Decoder(self.latent_channels, self.out_channels, decoder_widths, up, layers + 1, style, attends)
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
        self, images: Shaped[AnyArray, "batch height width channels"], labels: Int[Array, " batch"] | None = None
    ) -> DiagonalGaussian:
        """q(z | image)."""
        return DiagonalGaussian.from_moments(self.moments(images))

    @typechecked
    def moments(self, images: Shaped[AnyArray, "batch height width channels"]) -> Float[Array, "batch h w moments"]:
        """Mean and log variance of the posterior, channels side by side.

        Raises:
            ValueError: integers, other channels than the model's, or pictures smaller than one latent.
        """
        check_images(self, images)
        x = self.encoder(jnp.asarray(images))
        return _wide(self.quant_conv(x) if self.use_quant_conv else x)

    @typechecked
    def decode(
        self,
        latents: Shaped[AnyArray, "batch h w latents"],
        labels: Int[Array, " batch"] | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Pictures of unscaled latents: whole, or their first `height` rows and `width` columns.

        Raises:
            ValueError: as in `decode_features`.
            UserError: larger than these latents give, or smaller by a stride or more.
        """
        check_latents(self, latents)
        sides = [positions * self.stride for positions in latents.shape[1:3]]
        wanted = height or sides[0], width or sides[1]
        if any(not side - self.stride < size <= side for side, size in zip(sides, wanted, strict=True)):
            painted, asked = ("{}x{}".format(*size) for size in (sides, wanted))
            raise UserError(f"the latents of an autoencoder have a size: these paint {painted}, not {asked}")
        return crop(self.project(self.decode_features(latents)), wanted)

    @typechecked
    def decode_features(
        self, latents: Shaped[AnyArray, "batch h w latents"]
    ) -> Float[Array, "batch height width width0"]:
        """What the decoder's last convolution gets; `project` does the rest of `decode`.

        Raises:
            ValueError: latents that are integers or of another number of channels.
        """
        check_latents(self, latents)
        z = jnp.asarray(latents)
        z = self.post_quant_conv(z) if self.use_post_quant_conv else z
        return self.decoder.features(z)

    def project(self, features: Float[Array, "batch height width width0"]) -> Float[Array, "batch height width c"]:
        """The decoder's last convolution."""
        return _wide(self.decoder.conv_out(features))


def _wide(x: Array) -> Array:
    """float32 or wider; a result of float16 that is not finite is told by a warning, when it has been computed."""
    if x.dtype == jnp.float16:
        jax.debug.callback(_warn_of_overflow, jnp.all(jnp.isfinite(x)))
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _warn_of_overflow(finite: Any) -> None:
    if not finite:
        warnings.warn(
            "float16 overflowed in this autoencoder: its results hold NaN or infinities; compute in bfloat16 or "
            "float32 (a config.json with force_upcast says so beforehand)",
            RuntimeWarning,
            stacklevel=2,
        )


def check_images(model: AutoencoderKL, images: AnyArray) -> None:
    """ValueError on what is not a batch of pictures in [-1, 1] that `model` encodes, as far as a shape shows it."""
    _check_batch("pictures", images, model.in_channels, "[-1, 1], such as dfm.arrays.to_float makes of uint8")
    least = model.stride * (2 if model.padding_mode == "reflect" else 1)
    if min(images.shape[1:3]) < least:
        height, width = images.shape[1:3]
        raise ValueError(
            f"pictures of {height}x{width} pixels are smaller than the least that the model encodes, {least}x{least}; "
            "dfm.arrays.pad_to_stride fills them up"
        )


def check_latents(model: AutoencoderKL, latents: AnyArray) -> None:
    """ValueError on what is not a batch of latents that `model` decodes, as far as a shape shows it."""
    _check_batch("latents", latents, model.latent_channels, "as the encoder gives them")
    least = 2 if model.padding_mode == "reflect" else 1
    if min(latents.shape[1:3]) < least:
        raise ValueError(f"latents of {latents.shape[1]}x{latents.shape[2]} positions: at least {least}x{least} decode")


def _check_batch(what: str, x: AnyArray, channels: int, kind: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"{what} are [batch, height, width, channels], not {list(x.shape)}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{what} are {x.dtype}: floats are needed, {kind}")
    if x.shape[-1] != channels:
        raise ValueError(f"{what} have {counted(x.shape[-1], 'channel')}, and the model's have {channels}")


def parameter_shapes(model: AutoencoderKL) -> dict[str, Any]:
    """The tree of parameters as shapes and types, without computing any."""
    side = 2 * model.stride  # the least that every model encodes
    image = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)["params"]


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
            check_value(f"an entry of {name}", kind, known)
        if types and len(types) != levels:
            raise ValueError(f"{name} has {len(types)} entries for {levels} levels of block_out_channels")
    sides = model.sample_size if isinstance(model.sample_size, Sequence) else (model.sample_size,)
    if not (1 <= len(sides) <= 2 and min(sides) >= 1):
        raise ValueError(f"sample_size is {model.sample_size}, not a side or (height, width) in pixels")
    check_value("act_fn", model.act_fn.lower(), ACTIVATIONS)
    check_value("padding_mode", model.padding_mode, PADDING_MODES)
    _check_scale(model)


def _check_scale(model: AutoencoderKL) -> None:
    if model.scaling_factor is not None and not 0 < abs(model.scaling_factor) < float("inf"):
        raise ValueError(f"scaling_factor cannot be {model.scaling_factor}")
    if model.patch_size is not None and (len(model.patch_size) != 2 or min(model.patch_size) < 1):
        raise ValueError(f"patch_size is {tuple(model.patch_size)}, not (height, width) in latents")
    count = model.latent_channels * math.prod(model.patch_size or ())
    for name in ("latents_mean", "latents_std"):
        values = getattr(model, name)
        if values is not None and len(values) != count:
            of_patches = f" in patches of {tuple(model.patch_size)}" if model.patch_size else ""
            raise ValueError(
                f"{name} has {len(values)} numbers for {model.latent_channels} latent_channels{of_patches}"
            )
    if model.latents_std is not None and min(model.latents_std) <= 0:
        raise ValueError(f"latents_std {tuple(model.latents_std)} must be positive")
