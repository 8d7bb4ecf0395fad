"""Latents as a diffusion model sees them: of mean 0 and deviation 1, as the config of the autoencoder says.

    scaling_factor, shift_factor     (z - shift) scaling                                  SD, SDXL, SD3, FLUX.1
    latents_mean, latents_std        (z - mean) / std scaling, of each channel            Playground
    patch_size too                   the same on patches of latents as channels           FLUX.2

A patch of p x q latents of c channels is one position of c p q channels: channel by channel, row by row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.shapes import typechecked

AnyArray = Array | np.ndarray


@typechecked
def scale_latents(
    latents: Float[AnyArray, "*batch h w channels"], model: AutoencoderKL
) -> Float[AnyArray, "*batch patches_h patches_w patch_channels"]:
    """What a diffusion model sees of `latents`.

    Raises:
        ValueError: the model does not know its scale, or the latents do not divide into patches.
    """
    shift, factor = _shift_and_factor(model)
    return (patch(latents, model.patch_size or (1, 1)) - shift) * factor


@typechecked
def unscale_latents(
    latents: Float[AnyArray, "*batch patches_h patches_w patch_channels"], model: AutoencoderKL
) -> Float[AnyArray, "*batch h w channels"]:
    """The inverse of `scale_latents`: what `decode` takes."""
    shift, factor = _shift_and_factor(model)
    return unpatch(latents / factor + shift, model.patch_size or (1, 1))


@typechecked
def patch(latents: Float[AnyArray, "*batch h w c"], size: Sequence[int]) -> Float[AnyArray, "*batch rows columns d"]:
    """Patches of `size` = (p, q) latents as one position: [..., h, w, c] -> [..., h / p, w / q, c p q]."""
    *batch, height, width, channels = latents.shape
    rows, columns = size
    if height % rows or width % columns:
        raise ValueError(f"latents of {height}x{width} positions do not divide into patches of {rows}x{columns}")
    parts = latents.reshape(-1, height // rows, rows, width // columns, columns, channels)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(*batch, height // rows, width // columns, -1)


@typechecked
def unpatch(patches: Float[AnyArray, "*batch rows columns d"], size: Sequence[int]) -> Float[AnyArray, "*batch h w c"]:
    """The inverse of `patch`."""
    *batch, height, width, channels = patches.shape
    rows, columns = size
    parts = patches.reshape(-1, height, width, channels // (rows * columns), rows, columns)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(*batch, height * rows, width * columns, -1)


def _shift_and_factor(model: AutoencoderKL) -> tuple[Any, Any]:
    if model.scaling_factor is None:
        raise ValueError(
            "the scale of this autoencoder's latents is not known: give scaling_factor, and shift_factor where there "
            "is one, of the diffusion model (0.18215 is Stable Diffusion 1's alone)"
        )
    if model.latents_mean is not None and model.latents_std is not None:
        mean, std = (np.asarray(values, np.float32) for values in (model.latents_mean, model.latents_std))
        return mean, np.float32(model.scaling_factor) / std
    return np.float32(model.shift_factor or 0.0), np.float32(model.scaling_factor)
