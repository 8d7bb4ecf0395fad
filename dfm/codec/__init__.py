"""Single pictures to .dfm files and back: `encode(image) -> bytes`, `decode(data) -> uint8 picture`.

The functions import JAX at their first call, so that reading headers and `--help` stay quick.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dfm.codec import container
from dfm.codec.profiles import MAX_WORK, Profile, ProgressReport, make_profile
from dfm.errors import UserError
from dfm.shapes import UInt8

if TYPE_CHECKING:
    from dfm.codec.search import Encoded

__all__ = ["encode", "encode_batch", "encode_each", "decode", "describe", "is_reference_decode"]

DEFAULT_PROFILE = "auto"


def encode(image: UInt8[np.ndarray, "..."], **options: Any) -> bytes:
    """One uint8 picture, [H, W] or [H, W, 1 or 3], as the bytes of a .dfm file; options as in `encode_each`.

    Raises:
        UserError: contradicting or impossible options.
    """
    return encode_batch([image], **options)[0]


def encode_batch(images: Sequence[UInt8[np.ndarray, "..."]], **options: Any) -> list[bytes]:
    """`encode` of several pictures; those that get the same net are fitted side by side, over all devices."""
    files = {number: encoded.data for number, encoded in encode_each(images, **options)}
    return [files[number] for number in range(len(images))]


def encode_each(
    images: Sequence[UInt8[np.ndarray, "..."]],
    *,
    profile: str = DEFAULT_PROFILE,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    progress: ProgressReport | None = None,
    **options: Any,
) -> Iterator[tuple[int, "Encoded"]]:
    """(number, its file and the picture that the file decodes to) of every picture, as soon as each is finished.

    Args:
        images: uint8 [H, W] or [H, W, C] with C = 1 or 3. Equal pictures are fitted once and get equal files.
        profile: how pictures are coded, a name of `dfm.codec.profiles.PROFILES`, or "auto": for each picture the one
            that is better at its size and rate, see `dfm.codec.automatic`.
        quality: 0 ... 100 (default 75).
        target_bytes: the file is never larger.
        target_psnr: in dB; the file's picture is never worse.
        progress: called with (steps done, steps in all, PSNR in dB of the latest steps; NaN while compiling).
        options: the profile's own: those of `dfm.codec.weights.profile.weights_profile` or of
            `dfm.codec.latents.profile.latents_profile`; None stands for the default of each.

    Raises:
        UserError: contradicting or impossible options, before any fit.
    """
    given = {name: value for name, value in options.items() if value is not None}
    from dfm.codec import automatic, search

    targets: dict[str, Any] = {"quality": quality, "target_bytes": target_bytes, "target_psnr": target_psnr}
    if profile != automatic.NAME:
        return search.encode_each(images, make_profile(profile, given), **targets, progress=progress)
    return automatic.encode_each(images, given, targets, progress)


def decode(data: bytes, *, max_work: float | None = MAX_WORK) -> UInt8[np.ndarray, "height width channel"]:
    """The picture in a .dfm file: uint8 [H, W, 1 or 3].

    Two decodes on one machine are identical. Of the profile weights, other machines may differ by one level
    (`is_reference_decode` tells); of the profile latents, every machine paints the same.

    Args:
        max_work: the most multiplications that painting may take, None for any number: a small file can ask for hours.

    Raises:
        UserError: not a .dfm file, damaged, made by a newer version, or more work than `max_work`.
    """
    return _painted(*_open(data), max_work)


def decode_and_describe(
    data: bytes, *, max_work: float | None = MAX_WORK
) -> tuple[UInt8[np.ndarray, "height width channel"], dict[str, Any]]:
    """`decode` and `describe`, which read the file once together."""
    opened = _open(data)
    return _painted(*opened, max_work), _facts(data, *opened)


def describe(data: bytes) -> dict[str, Any]:
    """Facts of a .dfm file that JSON can hold, after a check of all of it; nothing is painted.

    Raises:
        UserError: as `decode`.
    """
    return _facts(data, *_open(data))


def _painted(header: container.Header, profile: Profile, content: Any, max_work: float | None) -> np.ndarray:
    work = profile.work(content, header.shape)
    if max_work is not None and work > max_work:
        raise UserError(
            f"to paint this file takes about {work:.1e} multiplications, and the limit is {max_work:.1e}: "
            "decode with --any-work, or max_work=None from Python, if it is to be painted all the same"
        )
    return profile.paint(content, header.shape)


def _facts(data: bytes, header: container.Header, profile: Profile, content: Any) -> dict[str, Any]:
    return {
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (header.width * header.height),
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "profile": header.profile,
        **profile.describe(content),
        "pixel_checksum": f"{header.pixel_checksum:08x}",
        "format_version": container.format_version(data),
    }


def is_reference_decode(data: bytes, picture: UInt8[np.ndarray, "height width channel"]) -> bool:
    """Whether a decoded picture equals, pixel for pixel, the one that the encoder saw (by the file's CRC32)."""
    return container.read(data)[0].pixel_checksum == container.checksum(picture)


def _open(data: bytes) -> tuple[container.Header, Profile, Any]:
    """Header, profile and the profile's content."""
    header, payload = container.read(data)
    profile = make_profile(header.profile, {})
    try:
        return header, profile, profile.unpack(payload, header.shape)
    except UserError as error:
        raise UserError(f"the .dfm file is damaged: {error}") from error
