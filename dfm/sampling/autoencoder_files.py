"""Single pictures through an AutoencoderKL: a picture file to an .npz of latents and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dfm.array_files import read_arrays, write_npz
from dfm.arrays import to_float, to_uint8
from dfm.errors import UserError
from dfm.picture_files import Picture, load_picture, save_picture

if TYPE_CHECKING:
    from dfm.models.autoencoder_kl import AutoencoderKL

WHOLE_PIXELS = 2**20  # larger pictures go strip by strip, with the same result in less memory


def encode_file(model: "AutoencoderKL", params: Any, picture: str, output: str, multiple: int | None = None) -> str:
    """Writes `latents` (the posterior's mean, unscaled, [1, h, w, c]) with `height`, `width` and `stride`.

    Returns a line about it.

    Args:
        multiple: the picture is padded (edges repeated) to multiples of this; None: of the model's stride. Pictures of
            sizes that pad to the same one share a compilation.
    """
    import jax

    from dfm.models.autoencoder_kl import pad_to_stride
    from dfm.models.tiled_autoencoder import tiled_encode

    if multiple is not None and multiple % model.stride:
        raise UserError(f"--pad_to must be a multiple of the model's stride, {model.stride}, not {multiple}")
    pixels = _with_channels(load_picture(picture), model.in_channels, picture)
    images, (height, width) = pad_to_stride(to_float(pixels)[None], multiple or model.stride)
    if images.shape[1] * images.shape[2] > WHOLE_PIXELS:
        latents = np.asarray(tiled_encode(model, params, images).mode())
    else:
        encode: Any = jax.jit(lambda params, x: model.apply({"params": params}, x, method="encode"))
        latents = np.asarray(encode(params, images).mode())
    sizes = {"height": height, "width": width, "stride": model.stride}
    write_npz(output, {"latents": latents, **{name: np.asarray(size) for name, size in sizes.items()}})
    return f"{output}: latents {' x '.join(map(str, latents.shape))} of {height} x {width} pixels"


def decode_file(model: "AutoencoderKL", params: Any, latents_file: str, output: str) -> str:
    """Writes the picture of an .npz that `encode_file` or a diffusion model has made; returns a line about it."""
    import jax

    from dfm.models.autoencoder_kl import crop
    from dfm.models.tiled_autoencoder import tiled_decode

    latents, size = read_latents(latents_file, model)
    if latents.shape[1] * latents.shape[2] * model.stride**2 > WHOLE_PIXELS:
        images = tiled_decode(model, params, latents)
    else:
        images = jax.jit(lambda params, z: model.apply({"params": params}, z, method="decode"))(params, latents)
    if not np.all(np.isfinite(np.asarray(images))):
        raise UserError(f"{latents_file}: the decoder makes NaN or infinities of these latents")
    if images.shape[-1] not in (1, 3):
        raise UserError(f"pictures of {images.shape[-1]} channels cannot be written as {output}")
    save_picture(output, crop(to_uint8(images), size)[0])
    return f"{output}: {size[0]} x {size[1]} pixels (height x width)"


def read_latents(path: str, model: "AutoencoderKL") -> tuple[Float[np.ndarray, "1 h w c"], tuple[int, int]]:
    """(latents, (height, width) of the picture) of an .npz.

    Raises:
        UserError: no such file, not these arrays, or latents of another model.
    """
    arrays = read_arrays(path)
    missing = [name for name in ("latents", "height", "width") if name not in arrays]
    if missing:
        raise UserError(f"{path}: holds no {missing[0]}: not the latents of a picture")
    latents = arrays["latents"]
    if latents.ndim != 4 or len(latents) != 1 or 0 in latents.shape or latents.dtype.kind != "f":
        raise UserError(
            f"{path}: latents must be floats [1, h, w, channels], not {latents.dtype} {list(latents.shape)}"
        )
    if latents.shape[-1] != model.latent_channels:
        raise UserError(f"{path}: latents have {latents.shape[-1]} channels, and the model's {model.latent_channels}")
    with np.errstate(over="ignore"):
        latents = latents.astype(np.float32)
    if not np.all(np.isfinite(latents)):
        raise UserError(f"{path}: latents hold NaN or infinities (in float32)")
    try:
        size = int(arrays["height"]), int(arrays["width"])
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: height and width must be numbers") from None
    stride = arrays.get("stride", model.stride)
    if not np.array_equal(stride, model.stride):
        raise UserError(f"{path}: latents of a model of stride {stride}, and this one's is {model.stride}")
    for side, positions in zip(size, latents.shape[1:3], strict=True):
        if not 1 <= side <= positions * model.stride:
            raise UserError(f"{path}: {size[0]} x {size[1]} pixels do not come of latents {list(latents.shape)}")
    return latents, size


def _with_channels(pixels: Picture, channels: int, path: str) -> Picture:
    """Grey pictures become RGB for a model of RGB; nothing else is guessed."""
    if pixels.shape[-1] == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] != channels:
        raise UserError(f"{path}: has {pixels.shape[-1]} channels, and the model is for {channels}")
    return pixels
