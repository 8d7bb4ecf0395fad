"""Single pictures to .dfm files and back: `encode(image) -> bytes`, `decode(data) -> uint8 picture`.

The two functions import JAX at their first call, so that reading headers and `--help` stay quick.
"""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from jaxtyping import UInt8

from dfm.codec import container

__all__ = ["encode", "encode_batch", "decode", "is_reference_decode"]


def encode(image: UInt8[np.ndarray, "..."], **options: Any) -> bytes:
    """One uint8 picture, [H, W] or [H, W, 1 or 3], as the bytes of a .dfm file.

    Options (details in `dfm.codec.encoder.encode_batch`): one of `quality` (0 ... 100, default 75), `target_bytes` and
    `target_psnr`; `preset` ("default", "thesis"), `effort` (1 ... 9), `seed`, `precision`, `basis`, `widths`,
    `progress`.

    Raises:
        UserError: contradicting or impossible options.
    """
    return encode_batch([image], **options)[0]


def encode_batch(images: Sequence[UInt8[np.ndarray, "..."]], **options: Any) -> list[bytes]:
    """`encode` of several pictures; those that get the same net are fitted side by side, over all devices."""
    from dfm.codec import encoder

    return encoder.encode_batch(images, **options)


def decode(data: bytes) -> UInt8[np.ndarray, "height width channel"]:
    """The picture in a .dfm file: uint8 [H, W, 1 or 3].

    Two decodes on one machine are identical; other machines may differ by one level (`is_reference_decode` tells).

    Raises:
        UserError: not a .dfm file, damaged, or made by a newer version.
    """
    header, layers = container.read(data)
    from dfm.codec.weights import painting

    return painting.paint_file(header, layers)


def is_reference_decode(data: bytes, picture: UInt8[np.ndarray, "height width channel"]) -> bool:
    """Whether a decoded picture equals, pixel for pixel, the one that the encoder saw (by the file's CRC32)."""
    return container.read_header(data).pixel_checksum == crc32(np.ascontiguousarray(picture).tobytes())
