"""Tiles that overlap and are blended, as diffusers' `enable_tiling` does it: for results that equal its results.

Every tile is normalised by its own statistics, so tones differ from tile to tile and from the whole picture;
dfm.models.tiled_autoencoder has no such seams and is to be preferred.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from dfm.models.autoencoder_kl import AutoencoderKL, check_images, check_latents
from dfm.models.distributions import DiagonalGaussian
from dfm.shapes import typechecked

OVERLAP = 0.25  # of a tile, with each neighbour


@typechecked
def blended_encode(
    model: AutoencoderKL, params: Any, images: Shaped[np.ndarray | Array, "batch height width channels"]
) -> DiagonalGaussian:
    """The posterior by tiles of `sample_size` pixels; pictures that are not larger stay whole."""
    check_images(model, images)
    tile, latent_tile = _tile_sizes(model)
    moments = _blended(functools.partial(_apply, model, "moments", params), images, tile, latent_tile)
    return DiagonalGaussian.from_moments(jax.numpy.asarray(moments))


@typechecked
def blended_decode(
    model: AutoencoderKL, params: Any, latents: Shaped[np.ndarray | Array, "batch h w latents"]
) -> Float[np.ndarray, "batch height width channels"]:
    """Pictures by tiles of `sample_size` pixels; latents of pictures that are not larger stay whole."""
    check_latents(model, latents)
    tile, latent_tile = _tile_sizes(model)
    return _blended(functools.partial(_apply, model, "decode", params), latents, latent_tile, tile)


def _tile_sizes(model: AutoencoderKL) -> tuple[int, int]:
    """Sides of a tile in pixels and in latents."""
    size = model.sample_size if isinstance(model.sample_size, int) else model.sample_size[0]
    if size < 2 * model.stride:
        raise ValueError(f"tiles of sample_size {size} are too small for a stride of {model.stride}")
    return size, size // model.stride


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(model: AutoencoderKL, method: str, params: Any, x: Array) -> Array:
    tile: Any = model.apply({"params": params}, x, method=method)
    return tile


def _blended(function: Callable[[Any], Array], x: Any, tile: int, out_tile: int) -> np.ndarray:
    """Tiles of side `tile` every 3/4 of it; what they become overlaps by a quarter of `out_tile`, blended linearly."""
    if max(x.shape[1:3]) <= tile:
        return np.asarray(function(x))
    step, blend = int(tile * (1 - OVERLAP)), int(out_tile * OVERLAP)
    rows: list[list[np.ndarray]] = []
    for top in range(0, x.shape[1], step):
        rows.append([])
        for left in range(0, x.shape[2], step):
            piece = np.array(function(x[:, top : top + tile, left : left + tile]))
            if len(rows) > 1:
                _blend(rows[-2][len(rows[-1])], piece, blend, axis=1)
            if rows[-1]:
                _blend(rows[-1][-1], piece, blend, axis=2)
            rows[-1].append(piece)
    kept = out_tile - blend
    return np.concatenate([np.concatenate([piece[:, :kept, :kept] for piece in row], axis=2) for row in rows], axis=1)


def _blend(before: np.ndarray, piece: np.ndarray, blend: int, axis: int) -> None:
    """Fades the end of `before` into the beginning of `piece`, in place: later neighbours see the faded one."""
    extent = min(blend, before.shape[axis], piece.shape[axis])
    if extent == 0:
        return
    shape = [extent if dimension == axis else 1 for dimension in range(4)]
    weight = (np.arange(extent) / extent).astype(piece.dtype).reshape(shape)
    end = np.take(before, range(before.shape[axis] - extent, before.shape[axis]), axis)
    begin = piece[:, :extent] if axis == 1 else piece[:, :, :extent]
    begin[...] = end * (1 - weight) + begin * weight
