"""The codecs everybody has, through Pillow: JPEG, WebP and AVIF, as encoders to real bytes with a quality axis.

Options are fixed and stated, because a baseline is only as strong as its options: Pillow's default JPEG (4:2:0, fixed
Huffman tables) is the anchor of the literature and a weak one, `jpeg-opt` is what the same format can do.
"""

import dataclasses
import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from dfm.errors import UserError
from dfm.shapes import UInt8

Picture = UInt8[np.ndarray, "height width channel"]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One file format with one set of options.

    Attributes:
        name: its key in `CODECS`.
        format: Pillow's name of the format.
        description: the options in words, for results and plots.
        lowest_quality, highest_quality: ends of the quality axis, higher is better.
        options: turns (quality, grey) into the arguments of `Image.save`.
        keeps_grey: whether one-channel pictures are stored as such; otherwise they travel as R = G = B.
        library: what `PIL.features` calls the encoder, whose version the bytes depend on.
    """

    name: str
    format: str
    description: str
    lowest_quality: int
    highest_quality: int
    options: Callable[[int, bool], dict]
    keeps_grey: bool
    library: str

    def encode(self, image: Picture, quality: int) -> bytes:
        """The picture, uint8 [H, W] or [H, W, C] with one or three channels, as the bytes of a file.

        Raises:
            UserError: the quality is off the axis, the picture is too large for the format, or it has neither one
                nor three channels.
        """
        if not self.lowest_quality <= quality <= self.highest_quality:
            raise UserError(
                f"{self.name} quality must be {self.lowest_quality} to {self.highest_quality}, not {quality}"
            )
        picture, grey = _to_pillow(image)
        if not self.keeps_grey:
            picture = picture.convert("RGB")
        stream = io.BytesIO()
        try:
            picture.save(stream, format=self.format, **self.options(quality, grey))
        except (OSError, ValueError) as error:  # WebP ends at 16,383 pixels a side, the others somewhat later
            raise UserError(f"{self.name} cannot hold {picture.width}x{picture.height} pixels ({error})") from None
        return stream.getvalue()

    def decode(self, data: bytes, channels: int | None = None) -> Picture:
        """Pixels of a file, uint8 [H, W, C]. `channels` 1 gives the luma of formats that store grey as RGB."""
        picture = Image.open(io.BytesIO(data), formats=[self.format])
        if channels is None:
            channels = 1 if picture.mode == "L" else 3
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(picture.height, picture.width, channels)

    def library_version(self) -> str | None:
        """Version of the encoder inside Pillow."""
        return features.version(self.library)


def _to_pillow(image: np.ndarray) -> tuple[Image.Image, bool]:
    """(Pillow picture, is it grey)."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise UserError(f"a picture is a uint8 array [height, width, channel], not {image.dtype} {list(image.shape)}")
    if image.ndim == 2 or image.shape[-1] == 1:
        return Image.fromarray(np.ascontiguousarray(image.reshape(image.shape[:2]))), True
    if image.shape[-1] == 3:
        return Image.fromarray(np.ascontiguousarray(image)), False
    raise UserError(f"a picture has 1 or 3 channels here, not {image.shape[-1]}: flatten transparency first")


_JPEG = Baseline(
    "jpeg",
    "JPEG",
    "JPEG, Pillow's default options (baseline, 4:2:0, fixed Huffman tables)",
    1,
    100,
    lambda quality, grey: {"quality": quality},
    True,
    "libjpeg_turbo",
)
_JPEG_OPTIMISED = Baseline(
    "jpeg-opt",
    "JPEG",
    "JPEG, optimised Huffman tables, progressive, 4:4:4",
    1,
    100,
    lambda quality, grey: {"quality": quality, "optimize": True, "progressive": True, "subsampling": "4:4:4"},
    True,
    "libjpeg_turbo",
)
_WEBP = Baseline(
    "webp",
    "WEBP",
    "WebP, lossy, method 6 (slowest, smallest)",
    0,
    100,
    lambda quality, grey: {"quality": quality, "method": 6},
    False,
    "webp",
)
# tune=psnr: the library's default aims at the eye, and every table here is in PSNR (CompressAI's AV1 does the same).
_AVIF = Baseline(
    "avif",
    "AVIF",
    "AVIF, libaom speed 4, 4:4:4 (4:0:0 for grey), tune=psnr",
    0,
    100,
    lambda quality, grey: {
        "quality": quality,
        "speed": 4,
        "subsampling": "4:0:0" if grey else "4:4:4",
        "advanced": {"tune": "psnr"},
    },
    False,
    "avif",
)

CODECS = {codec.name: codec for codec in (_JPEG, _JPEG_OPTIMISED, _WEBP, _AVIF)}


def encode_to_size(codec: Baseline | str, image: Picture, target_bytes: int) -> bytes:
    """The file of the largest quality that is at most `target_bytes` long, by bisection.

    File length grows with quality but for ripples of a few bytes, so the quality found may miss the largest fitting
    one by such a ripple; the length never exceeds the target. When even the lowest quality is too long, its file is
    returned with a warning: the caller compares lengths and says so.
    """
    codec = CODECS[codec] if isinstance(codec, str) else codec
    low, high = codec.lowest_quality, codec.highest_quality
    best = codec.encode(image, low)
    if len(best) > target_bytes:
        warnings.warn(
            f"{codec.name} cannot make this picture smaller than {len(best):,} bytes (quality {low}); "
            f"{target_bytes:,} were asked for",
            stacklevel=2,
        )
        return best
    while low < high:
        middle = (low + high + 1) // 2
        data = codec.encode(image, middle)
        if len(data) <= target_bytes:
            low, best = middle, data
        else:
            high = middle - 1
    return best
