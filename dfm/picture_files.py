"""Pictures in and out: files of many kinds <-> uint8 arrays [height, width, channel] with one or three channels.

The path "-" means standard input or output. What a user can mend raises UserError, in one line that names the path.
"""

import contextlib
import io
import os
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, UnidentifiedImageError

from dfm.errors import UserError, one_line
from dfm.files import write_atomically
from dfm.picture_colour import Note, to_srgb
from dfm.shapes import UInt8, typechecked

Picture = UInt8[np.ndarray, "height width channel"]

# named, because Pillow's longer list starts other programs (EPS) and takes almost any bytes for a picture (TGA)
READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "JPEG2000", "TIFF", "GIF", "BMP", "PPM")
PICTURE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".jp2", ".j2k", ".tif", ".tiff"),
    *(".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm"),
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# what is read besides the pixels: transparency, colours, orientation, and whether it is an animation
PNG_CHUNKS_READ = (b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"acTL", b"fcTL", b"fdAT")

# suffix -> Pillow's format and options; a decoded picture stays as it is, but for JPEG, which cannot keep it
WRITABLE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}

# EXIF tag 0x0112 -> what makes the picture upright
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_picture(path: str | os.PathLike, background: str | None = None, note: Note = lambda text: None) -> Picture:
    """A picture file as uint8 sRGB [height, width, channel]: one channel for grey, three for everything else.

    EXIF orientation is applied; colours with a profile become sRGB (dfm/picture_colour.py); palettes and CMYK become
    RGB, 1-bit becomes grey, fully opaque alpha is dropped.
    Refused: real transparency without a background, more than 8 bits a channel, animations, damaged files, and sizes
    at which Pillow warns of a decompression bomb.

    Args:
        path: file, or "-" for standard input.
        background: colour in Pillow's words (white, #rrggbb) that shows where a picture is transparent.
        note: is told, in one line, of what was changed on the way.
    """
    name = _name(path)
    colour = None if background is None else parse_colour(background)
    with _opened(path) as image:
        image.load()
        return _to_array(image, name, colour, lambda text: note(f"{name}: {text}"))


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture file, upright, by its header: refuses at once what `load_picture` would, but for
    damage behind the header and for transparency."""
    with _opened(path) as image:
        lies_on_its_side = _orientation(image) in (5, 6, 7, 8)
        return (image.width, image.height) if lies_on_its_side else (image.height, image.width)


def parse_colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue of an opaque colour in Pillow's words: a name such as white, #rrggbb, rgb(255, 255, 255)."""
    try:
        red, green, blue, *opacity = ImageColor.getrgb(text)
    except ValueError:
        raise UserError(f"{text!r} is no colour: give a name such as white, or #rrggbb") from None
    if opacity:
        raise UserError(f"{text!r} is no colour of a background: it must be opaque, #rrggbb")
    return red, green, blue


@typechecked
def as_grey(array: Picture) -> UInt8[np.ndarray, "height width new_channel"]:
    """One channel where the three are equal everywhere; other pictures come back unchanged."""
    same = array.shape[-1] == 3 and (array[..., :1] == array[..., 1:]).all()
    return np.ascontiguousarray(array[..., :1]) if same else array


@typechecked
def save_picture(path: str | os.PathLike, array: Picture, overwrite: bool = True) -> None:
    """Writes a picture in the format of the path's suffix (none, or "-": PNG), as `write_atomically` does."""
    write_atomically(path, encode_picture(path, array), overwrite)


@typechecked
def encode_picture(path: str | os.PathLike, array: Picture) -> bytes:
    """The bytes of a picture file in the format of the path's suffix."""
    format_name, options = picture_format(path)
    buffer = io.BytesIO()
    try:
        _to_image(array).save(buffer, format_name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written as {format_name} ({one_line(error)})") from None
    return buffer.getvalue()


def picture_format(path: str | os.PathLike) -> tuple[str, dict[str, Any]]:
    """Pillow's name of the format for this path and the options to save with; UserError for an unknown suffix."""
    suffix = Path(path).suffix.lower() or ".png"
    if suffix not in WRITABLE_FORMATS:
        raise UserError(f"{path}: cannot write pictures of kind '{suffix}' (writable: {', '.join(WRITABLE_FORMATS)})")
    return WRITABLE_FORMATS[suffix]


@typechecked
def downscale(array: Picture, longest_side: int) -> UInt8[np.ndarray, "new_height new_width channel"]:
    """Shrinks to this longest side in pixels (Lanczos), keeping proportions; smaller pictures come back unchanged."""
    height, width, _ = array.shape
    scale = longest_side / max(height, width)
    if scale >= 1:
        return array
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    resized = np.array(_to_image(array).resize((new_width, new_height), Image.Resampling.LANCZOS))
    return resized.reshape(new_height, new_width, -1)


@typechecked
def central_crop(array: Picture, size: int) -> UInt8[np.ndarray, "new_height new_width channel"]:
    """The central square of `size` pixels; a side shorter than that stays whole."""
    height, width, _ = array.shape
    top, left = max(0, height - size) // 2, max(0, width - size) // 2
    return array[top : top + size, left : left + size]


def _read_bytes(path: str | os.PathLike, name: str) -> bytes:
    try:
        data = sys.stdin.buffer.read() if os.fspath(path) == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, not a picture") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from None
    if not data:
        raise UserError(f"{name}: is empty")
    return data


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The image of a file, of which only the header is read yet; whatever goes wrong in the block is a UserError."""
    name = _name(path)
    data = _without_needless_chunks(_read_bytes(path, name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata around sound pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
                _refuse_unsupported(image, data, name)
                yield image
    except UserError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(READABLE_FORMATS)
        raise UserError(f"{name}: not a picture, or damaged from its first bytes on (readable: {known})") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down first") from None
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
        raise UserError(f"{name}: damaged or truncated picture ({one_line(error)})") from None


def _name(path: str | os.PathLike) -> str:
    return "standard input" if os.fspath(path) == "-" else os.fspath(path)


def _without_needless_chunks(data: bytes) -> bytes:
    """A PNG without its texts, and without chunks besides the pixels whose checksum is wrong, as libpng reads it.

    Pillow refuses the whole picture over a text of more than a megabyte, or over such a checksum.
    """
    if not data.startswith(PNG_SIGNATURE):
        return data
    kept, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        kind, checksum = data[start + 4 : start + 8], data[end - 4 : end]
        is_ancillary = bool(kind[0] & 32)
        sound = zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(checksum, "big")
        if not is_ancillary or (kind in PNG_CHUNKS_READ and sound) or end > len(data):
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _refuse_unsupported(image: Image.Image, data: bytes, name: str) -> None:
    # MPO is a photograph with a preview or depth map behind it: the first picture is the one that everybody shows
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise UserError(f"{name}: holds {frames} pictures (animation or pages); extract one of them first")
    if _bits_per_channel(image, data) > 8:
        raise UserError(f"{name}: has more than 8 bits per channel, which is not supported; convert it to 8 bits first")


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    """Bit depth from the file itself, because Pillow cuts 16-bit RGB to 8 bits without a word."""
    stored = 8
    if image.format == "PNG":
        stored = data[24]  # IHDR is always first: 8 signature, 4 length, 4 name, 4 width, 4 height
    elif image.format == "TIFF":
        stored = max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    elif image.format == "PPM":
        decoder_arguments = image.tile[0].args  # type: ignore[attr-defined]
        if isinstance(decoder_arguments, tuple) and isinstance(decoder_arguments[-1], int):
            stored = decoder_arguments[-1].bit_length()  # of the largest value
    elif image.format == "JPEG2000" and (size_marker := data.find(b"\xff\x4f\xff\x51")) >= 0:
        stored = (data[size_marker + 42] & 0x7F) + 1  # Ssiz of the first component
    elif image.format == "AVIF" and (configuration := data.find(b"av1C")) >= 0:
        stored = 10 if data[configuration + 6] & 0x40 else 8  # high_bitdepth
    by_mode = {"I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
    return max(stored, by_mode)


def _orientation(image: Image.Image) -> int:
    # not ImageOps.exif_transpose: it fails on damaged metadata around sound pixels
    with contextlib.suppress(Exception):
        return image.getexif().get(0x0112, 1)
    return 1


def _to_array(source: Image.Image, name: str, background: tuple[int, int, int] | None, note: Note) -> Picture:
    image, orientation = source, _orientation(source)
    if orientation in ORIENTATIONS:
        image = image.transpose(ORIENTATIONS[orientation])
    if source.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image = to_srgb(image, source, note)
    if source.has_transparency_data:
        image = _flat(image, name, background)
    if image.mode == "CMYK":
        image = image.convert("RGB")
    return np.array(image).reshape(image.height, image.width, -1)


def _flat(image: Image.Image, name: str, background: tuple[int, int, int] | None) -> Image.Image:
    """A picture of mode LA or RGBA without its alpha."""
    opaque = "L" if image.mode == "LA" else "RGB"
    if image.getextrema()[-1][0] == 255:  # type: ignore[index]
        return image.convert(opaque)
    if background is None:
        raise UserError(
            f"{name}: has transparent pixels, which are not supported; flatten it onto a background first, with "
            "--background=white where there is this option, or with ImageMagick: "
            "magick IN.png -background white -flatten OUT.png"
        )
    if len(set(background)) > 1:
        opaque = "RGB"
    flat = Image.alpha_composite(Image.new("RGBA", image.size, background), image.convert("RGBA"))
    return flat.convert("RGB").getchannel("G") if opaque == "L" else flat.convert("RGB")


def _to_image(array: Picture) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
