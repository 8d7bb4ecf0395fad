"""Colours of a picture file to sRGB: by its ICC profile, PNG's gAMA and cHRM, or a camera's mark for Adobe RGB."""

import contextlib
import io
import struct
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageCms

Note = Callable[[str], None]

# CIE xy of white, red, green, blue: the order of PNG's cHRM
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256  # Adobe RGB (1998) color image encoding, 4.3.1.2
D50 = (0.9642, 1.0, 0.8249)  # white of ICC's connection space
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # ICC's parametric curve of type 3
# libpng's PNG_GAMMA_THRESHOLD: programs write gAMA 0.45455 into sRGB pictures, and all viewers take it as that
GAMMA_TOLERANCE = 0.05
SAME_LEVELS = 1  # a profile that moves no colour further is sRGB, stored in other words


def to_srgb(image: Image.Image, source: Image.Image, note: Note) -> Image.Image:
    """The image, of mode L, LA, RGB, RGBA or CMYK, in sRGB; CMYK becomes RGB where a profile says how.

    Converted relative to white, with black point compensation. Pixels stay as they are where nothing says what they
    mean, where it says sRGB, and (with a note) where a profile is damaged or of another kind of picture.

    Args:
        image: pixels, perhaps turned or freed from a palette.
        source: the image as it was opened, which knows what the file says.
        note: is told, in words that may follow the name of the file, of a conversion or of a damaged profile.
    """
    profile = _profile(source)
    if profile is None:
        return image
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(opened).split()) or "an unnamed profile"
        convert = _converter(opened, image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        note("its colour profile is damaged or not one of such a picture: read as sRGB")
        return image
    if convert is None:
        return image
    note(f"colours converted from {name} to sRGB")
    return convert(image)


def _profile(source: Image.Image) -> bytes | None:
    """What the file says of its colours, as an ICC profile; PNG's order of precedence."""
    if profile := source.info.get("icc_profile"):
        return profile
    if source.format == "PNG" and "srgb" not in source.info:
        gamma, chromaticities = source.info.get("gamma"), source.info.get("chromaticity")
        if gamma or chromaticities:
            curve = SRGB_CURVE if not gamma or abs(2.2 * gamma - 1) < GAMMA_TOLERANCE else (1 / gamma,)
            with contextlib.suppress(np.linalg.LinAlgError, ValueError, ZeroDivisionError, struct.error):
                return make_profile("PNG's gAMA and cHRM", curve, chromaticities or SRGB_CHROMATICITIES)
    # cameras write no profile: DCF 2.0 says by this mark that a photograph is in Adobe RGB
    with contextlib.suppress(Exception):  # damaged metadata around sound pixels
        if source.getexif().get_ifd(0xA005).get(1) == "R03":
            return make_profile("Adobe RGB, by its EXIF mark", (ADOBE_GAMMA,), ADOBE_CHROMATICITIES)
    return None


def _converter(profile: ImageCms.ImageCmsProfile, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """What converts an image of this mode; None: nothing has to be. ValueError: the profile is of other pictures."""
    kind = profile.profile.xcolor_space.strip()
    if mode == "CMYK" and kind == "CMYK":
        return lambda image: _transform(profile, "CMYK")(image)
    if mode in ("RGB", "RGBA") and kind == "RGB":
        transform = _transform(profile, "RGB")
        return None if _is_identity(transform) else lambda image: _keeping_alpha(image, transform)
    if mode in ("L", "LA") and kind in ("GRAY", "RGB"):
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        # unoptimised: 256 colours cost nothing, and tables of tables are two levels off near black
        transform = _transform(profile, "L" if kind == "GRAY" else "RGB", ImageCms.Flags.NOOPTIMIZE)
        table = np.asarray(transform(ramp if kind == "GRAY" else ramp.convert("RGB")))[0, :, 1]
        if np.abs(table.astype(int) - np.arange(256)).max() <= SAME_LEVELS:
            return None
        return lambda image: _keeping_alpha(image, lambda grey: grey.point(table.tolist()))
    raise ValueError(f"a profile of {kind} for a picture of {mode}")


def _transform(
    profile: ImageCms.ImageCmsProfile, mode: str, flags: ImageCms.Flags = ImageCms.Flags.NONE
) -> Callable[[Image.Image], Image.Image]:
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | flags,
    )

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # it is so only where asked to work in place
        return converted

    return convert


def _is_identity(transform: Callable[[Image.Image], Image.Image]) -> bool:
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
    moved = np.asarray(transform(Image.fromarray(cube))).astype(int) - cube
    return np.abs(moved).max() <= SAME_LEVELS


def _keeping_alpha(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return convert(image)
    converted = convert(image.convert(image.mode[:-1]))
    converted.putalpha(image.getchannel("A"))
    return converted


def make_profile(name: str, curve: Sequence[float], chromaticities: Sequence[float]) -> bytes:
    """An ICC profile (version 4) of an RGB space.

    Args:
        name: its description.
        curve: value -> light: (gamma,), or the five numbers of ICC's parametric curve of type 3.
        chromaticities: CIE xy of white, red, green, blue.
    """
    to_xyz = _adapted_to_d50(np.asarray(chromaticities, float).reshape(4, 2))
    text = name.encode("utf-16-be")
    description = b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(text), 28) + text
    light = b"para" + struct.pack(f">4xHxx{len(curve)}i", {1: 0, 5: 3}[len(curve)], *map(_fixed, curve))
    tags = {b"desc": description, b"wtpt": _xyz(D50)}
    for letter, column in zip(b"rgb", to_xyz.T, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(column)
        tags[bytes([letter]) + b"TRC"] = light
    body, entries, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        entries += struct.pack(">4sII", tag, offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x", offset + len(body), 4 << 24, b"mntr", b"RGB ", b"XYZ ", b"acsp", _xyz(D50)[8:]
    )
    return header + struct.pack(">I", len(tags)) + entries + body


def _adapted_to_d50(xy: np.ndarray) -> np.ndarray:
    """Light in red, green, blue -> XYZ, seen under D50 (Bradford)."""
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in xy)
    columns = np.stack(primaries, axis=1)
    to_xyz = columns * np.linalg.solve(columns, white)
    adaptation = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD)
    return adaptation @ to_xyz


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *map(_fixed, values))


def _fixed(value: float) -> int:
    """ICC's s15Fixed16Number."""
    return round(float(value) * 65536)
