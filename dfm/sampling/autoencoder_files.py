"""Pictures through an AutoencoderKL: a picture file to an .npz of latents and back, one or a folder of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dfm.array_files import read_arrays, write_npz
from dfm.arrays import to_float, to_uint8
from dfm.errors import UserError, counted
from dfm.picture_files import Picture, load_picture, save_picture

if TYPE_CHECKING:
    from dfm.models.autoencoder_kl import AutoencoderKL

WHOLE_PIXELS = 2**20  # larger pictures go strip by strip, with the same result in less memory
TOLD = 5  # failures of a folder that are named


class FileCoder:
    """Picture files to files of latents and back; compiled once for each size, whatever the number of files.

    Args:
        multiple: pictures are padded (edges repeated) to multiples of this; None: of the model's stride. Pictures of
            sizes that pad to the same one share a compilation.

    Raises:
        UserError: `multiple` is none of the stride.
    """

    def __init__(self, model: "AutoencoderKL", params: Any, multiple: int | None = None):
        import jax

        if multiple is not None and multiple % model.stride:
            raise UserError(f"padding is to a multiple of the model's stride, {model.stride}, not to {multiple}")
        self.model, self.params = model, params
        # with a reflecting border, the least that encodes is two latents
        self.multiple = multiple or model.stride * (2 if model.padding_mode == "reflect" else 1)
        self._encode = jax.jit(lambda params, x: model.apply({"params": params}, x, method="encode"))
        self._decode = jax.jit(lambda params, z: model.apply({"params": params}, z, method="decode"))

    def encode_file(self, picture: str | Path, output: str | Path) -> str:
        """Writes `latents` (the posterior's mean, unscaled, [1, h, w, c]) with `height`, `width` and `stride`.

        Returns a line about it.
        """
        from dfm.arrays import pad_to_stride
        from dfm.models.tiled_autoencoder import tiled_encode

        model = self.model
        pixels = _with_channels(load_picture(picture), model.in_channels, picture)
        images, (height, width) = pad_to_stride(to_float(pixels)[None], self.multiple)
        if images.shape[1] * images.shape[2] > WHOLE_PIXELS:
            posterior = tiled_encode(model, self.params, images)
        else:
            posterior = self._encode(self.params, images)
        latents = np.asarray(posterior.mode())
        _check_finite(latents, f"{picture}: the encoder", model)
        sizes = {"height": height, "width": width, "stride": model.stride}
        write_npz(output, {"latents": latents, **{name: np.asarray(size) for name, size in sizes.items()}})
        return f"{output}: latents {' x '.join(map(str, latents.shape))} of {height} x {width} pixels"

    def decode_file(self, latents_file: str | Path, output: str | Path) -> str:
        """Writes the picture, at its stored size, of an .npz that `encode_file` or a diffusion model has made.

        Returns a line about it.
        """
        from dfm.arrays import crop
        from dfm.models.tiled_autoencoder import tiled_decode

        latents, size = read_latents(latents_file, self.model)
        if latents.shape[1] * latents.shape[2] * self.model.stride**2 > WHOLE_PIXELS:
            images = tiled_decode(self.model, self.params, latents)
        else:
            images = np.asarray(self._decode(self.params, latents))
        _check_finite(images, f"{latents_file}: the decoder", self.model)
        if images.shape[-1] not in (1, 3):
            raise UserError(f"pictures of {images.shape[-1]} channels cannot be written as {output}")
        save_picture(output, crop(to_uint8(images), size)[0])
        return f"{output}: {size[0]} x {size[1]} pixels (height x width)"


def _check_finite(values: np.ndarray, who: str, model: "AutoencoderKL") -> None:
    if not np.all(np.isfinite(values)):
        half = "; float16 overflows (force_upcast): use bfloat16 or float32" if str(model.dtype) == "float16" else ""
        raise UserError(f"{who} makes NaN or infinities of this{half}")


def pairs_of_folder(source: Path, output: Path, suffix: str) -> list[tuple[Path, Path]]:
    """(file to read, file to write) of each picture below a folder, or of each .npz where pictures are to be made.

    Args:
        suffix: of the files to write: .npz, or that of a picture.

    Raises:
        UserError: none there, or two that would become one file.
    """
    from dfm.data.folder import picture_paths

    encodes = suffix == ".npz"
    paths = list(picture_paths(source)) if encodes else sorted(source.rglob("*.npz"))
    if not paths:
        raise UserError(f"{source}: no {'pictures' if encodes else '.npz files'} in this folder")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, and a folder's files go to a folder")
    targets: dict[Path, Path] = {}
    for path in paths:
        target = output / path.relative_to(source).with_suffix(suffix)
        if target in targets:
            raise UserError(f"{targets[target]} and {path} would both become {target}: rename one")
        targets[target] = path
    return [(path, target) for target, path in targets.items()]


def convert_all(
    function: Callable[[Path, Path], str], pairs: Sequence[tuple[Path, Path]], say: Callable[[str], None]
) -> None:
    """Each file by itself, as soon as it is finished; what fails is left out and told at the end.

    Raises:
        UserError: after all the rest is done, with the first few of the files that failed.
    """
    failed = []
    for source, target in pairs:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            say(function(source, target))
        except UserError as error:
            failed.append(str(error))
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror})") from None
    if failed:
        more = f"; and {len(failed) - TOLD} others" if len(failed) > TOLD else ""
        raise UserError(f"{len(failed)} of {len(pairs)} files failed: {'; '.join(failed[:TOLD])}{more}")


def read_latents(path: str | Path, model: "AutoencoderKL") -> tuple[Float[np.ndarray, "1 h w c"], tuple[int, int]]:
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
        found = counted(latents.shape[-1], "channel")
        raise UserError(f"{path}: latents have {found}, and the model's {model.latent_channels}")
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


def _with_channels(pixels: Picture, channels: int, path: str | Path) -> Picture:
    """Grey pictures become RGB for a model of RGB; nothing else is guessed."""
    if pixels.shape[-1] == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] != channels:
        raise UserError(f"{path}: has {counted(pixels.shape[-1], 'channel')}, and the model is for {channels}")
    return pixels
