"""Pictures to files: plans by quality or bytes, and the search for a PSNR, whatever the profile."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dfm.array_files import picture_digest
from dfm.codec import container
from dfm.codec.container import Header
from dfm.codec.profiles import Fitted, Picture, Profile, ProgressReport
from dfm.errors import UserError, counted
from dfm.metrics.picture_quality import psnr
from dfm.shapes import UInt8

MAX_FITS = 8  # of one search for a PSNR
DB_PER_OCTAVE = 2.5  # first guess: PSNR gained by twice the bytes
CLOSE_ENOUGH_DB = 0.15
FIRST_RATE = 0.5  # bits per pixel
SECANT_FITS = 3
MAX_OCTAVES = 20.0
LAST_PARTS = 12  # of the ladder: steps back from its end, where a PSNR is out of reach there


@dataclass(frozen=True)
class Encoded:
    """A file, the picture that it decodes to, and what the user should know of it, if anything."""

    data: bytes
    picture: Picture
    note: str | None = None


def encode_each(
    images: Sequence[UInt8[np.ndarray, "..."]],
    profile: Profile,
    *,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    progress: ProgressReport | None = None,
) -> Iterator[tuple[int, Encoded]]:
    """(number, file) of every picture, in the order in which they are finished; equal pictures are fitted once.

    Args:
        images: uint8 [H, W] or [H, W, C] with C = 1 or 3.
        quality, target_bytes, target_psnr, progress: as in `dfm.codec.encode_batch`.

    Raises:
        UserError: contradicting or impossible options, before any fit.
    """
    pictures = [checked(image) for image in images]
    if sum(target is not None for target in (quality, target_bytes, target_psnr)) > 1:
        raise UserError("give only one of quality, target_bytes and target_psnr")
    if target_psnr is not None and not 0 < target_psnr < math.inf:
        raise UserError(f"a PSNR of {target_psnr} dB is no target")
    alike = _alike(pictures)
    distinct = [pictures[numbers[0]] for numbers in alike]
    fits: Iterator[Fitted]
    notes: list[str | None] = [None] * len(distinct)
    if target_psnr is not None:
        ladders = [profile.ladder(picture.shape) for picture in distinct]
        fits = (
            _fit_to_psnr(place, picture, ladder, target_psnr, profile, progress)
            for place, (picture, ladder) in enumerate(zip(distinct, ladders, strict=True))
        )
    else:
        plans = [profile.plan(picture.shape, quality, target_bytes) for picture in distinct]
        notes = [plan.note for plan in plans]
        fits = profile.fit(distinct, plans, progress)
    return _finished(fits, alike, notes, profile)


def checked(image: np.ndarray) -> Picture:
    """The picture as [H, W, C]; UserError for what is none."""
    if image.dtype != np.uint8:
        raise UserError(f"pictures are uint8 arrays, not {image.dtype}")
    picture = image[..., None] if image.ndim == 2 else image
    if picture.ndim != 3 or picture.shape[-1] not in container.CHANNELS or picture.size == 0:
        raise UserError(f"pictures are [H, W] or [H, W, C] with 1 or 3 channels, not {list(image.shape)}")
    return picture


def _alike(pictures: Sequence[Picture]) -> list[list[int]]:
    """Numbers of the pictures that are equal, by first appearance."""
    groups: dict[bytes, list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault(picture_digest(picture), []).append(number)
    return list(groups.values())


def _finished(
    fits: Iterator[Fitted], alike: list[list[int]], notes: list[str | None], profile: Profile
) -> Iterator[tuple[int, Encoded]]:
    for fitted in fits:
        encoded = _file(fitted, notes[fitted.number], profile)
        for number in alike[fitted.number]:
            yield number, encoded


def _file(fitted: Fitted, note: str | None, profile: Profile) -> Encoded:
    """The finished file, with the checksum of its own decode."""
    height, width, channels = fitted.picture.shape
    header = Header(width, height, channels, profile.name, container.checksum(fitted.picture))
    return Encoded(container.write(header, profile.pack(fitted.content)), fitted.picture, note)


def _fit_to_psnr(
    number: int, picture: Picture, ladder: Sequence, target: float, profile: Profile, progress: ProgressReport | None
) -> Fitted:
    """The smallest fit found with at least `target` dB: secant steps along the ladder, then bisection."""
    bytes_at = np.array([plan.expected_bytes for plan in ladder])
    low, high = -1, len(ladder)  # plans known to miss, and to reach, the target
    best, reached, fits = None, -np.inf, 0
    most_fits = max(MAX_FITS, SECANT_FITS + len(ladder).bit_length())
    wanted = FIRST_RATE * picture.shape[0] * picture.shape[1] / 8
    while (inside := range(low + 1, high)) and (best is None or fits < MAX_FITS):
        if fits < SECANT_FITS:
            place = min(inside, key=lambda i: abs(math.log(bytes_at[i] / wanted)))
        else:
            place = inside[len(inside) // 2]
        (fitted,) = profile.fit([picture], [ladder[place]], _one_of(progress, fits, most_fits))
        decibels = psnr(fitted.picture, picture)
        reached, fits = max(reached, decibels), fits + 1
        if decibels < target:
            low = place
        else:
            high, best = place, fitted
            if decibels < target + CLOSE_ENOUGH_DB:
                break
        # a little high: missing costs another fit
        octaves = (target + CLOSE_ENOUGH_DB / 2 - decibels) / DB_PER_OCTAVE
        wanted = bytes_at[place] * 2.0 ** max(octaves, -MAX_OCTAVES)  # equal pictures have infinitely many dB
    # few steps make less of the last plans than of plans before them
    place, rising = len(ladder) - 1, True
    while best is None and rising and (place := place - max(1, len(ladder) // LAST_PARTS)) > 0:
        (fitted,) = profile.fit([picture], [ladder[place]], _one_of(progress, min(fits, most_fits - 1), most_fits))
        decibels, fits = psnr(fitted.picture, picture), fits + 1
        rising, reached = decibels > reached, max(reached, decibels)
        if decibels >= target:
            best = fitted
    if best is None:
        raise UserError(
            f"{target:g} dB is out of reach at this effort: {reached:.2f} dB was the best of {counted(fits, 'fit')} "
            f"of up to {bytes_at[-1]:.0f} bytes"
        )
    return Fitted(number, best.content, best.picture)


def _one_of(progress: ProgressReport | None, fits: int, most_fits: int) -> ProgressReport | None:
    """Progress of one fit within a search of so many at the most, all of as many steps: it never goes back."""
    if progress is None:
        return None
    return lambda done, total, decibels: progress(fits * total + done, most_fits * total, decibels)
