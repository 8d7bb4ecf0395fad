"""The .dfm file: what files of all profiles share. Bytes in, header and payload out; nothing here paints.

| bytes  | field                                                                                             |
|--------|---------------------------------------------------------------------------------------------------|
| 4      | magic, 89 44 46 4D: the first byte is not ASCII, so no text file starts like this                 |
| 1      | format version, 2                                                                                 |
| 1      | bit 0 colour, bits 1-7 the profile's number (dfm/codec/profiles.py)                               |
| 1-5 x2 | picture height, picture width (LEB128: seven bits a byte, low first, top bit means "more")        |
| 4      | CRC32 of the reference decode's pixels, little-endian, as the CRC below                           |
| rest   | payload, the profile's own                                                                        |
| 4      | CRC32 of everything before                                                                        |

Version 1 knew the weights profile only. Its sixth byte was bit 0 colour and above it what is the first byte of that
profile's payload now; the payload's next fields (hidden widths and input scale) stood before the pixels' CRC. Files of
version 1 are read for ever, and no longer written.

Every field is checked before it sizes anything, and a file can ask for no more than `least_bytes` allows, so a small
file is never a large allocation. All errors are UserError.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from dfm.codec.profiles import PROFILE_NUMBERS, Shape
from dfm.errors import UserError
from dfm.registry import nearest
from dfm.shapes import UInt8

MAGIC = b"\x89DFM"
VERSION = 2
MAX_PIXELS = 2**28
MAX_PIXELS_PER_BYTE = 4096  # 0.002 bits a pixel, below any picture worth decoding
FREE_PIXELS = 2**20  # that any file may ask for: 3 MB
MAX_SHARED_BYTES = 24  # what `shared_bytes` can come to
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Header:
    """What every file says of its picture. Fields out of bounds raise UserError.

    `pixel_checksum` is `checksum` of the reference decode."""

    width: int
    height: int
    channels: int
    profile: str
    pixel_checksum: int

    def __post_init__(self) -> None:
        check(self.width >= 1 and self.height >= 1, f"the picture size {self.width} x {self.height} is empty")
        check(self.width * self.height <= MAX_PIXELS, f"{self.width} x {self.height} exceeds {MAX_PIXELS} pixels")
        check(self.channels in CHANNELS, f"{self.channels} channels: only 1 and 3 exist")
        check(
            self.profile in PROFILE_NUMBERS, f"unknown profile '{self.profile}'{nearest(self.profile, PROFILE_NUMBERS)}"
        )
        check(0 <= self.pixel_checksum < 2**32, f"pixel checksum {self.pixel_checksum} is no 32-bit number")

    @property
    def shape(self) -> Shape:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


def checksum(picture: UInt8[np.ndarray, "height width channel"]) -> int:
    """CRC32 of a picture's bytes, as it stands in files."""
    return zlib.crc32(np.ascontiguousarray(picture).tobytes())


def write(header: Header, payload: bytes) -> bytes:
    """The bytes of a .dfm file.

    Raises:
        UserError: the file would be too small for its pixels.
    """
    profile = PROFILE_NUMBERS[header.profile]
    body = MAGIC + bytes([VERSION, CHANNELS.index(header.channels) | profile << 1])
    body += _pack_varint(header.height) + _pack_varint(header.width) + struct.pack("<I", header.pixel_checksum)
    body += payload
    _check_density(header, len(body) + 4)
    return body + struct.pack("<I", zlib.crc32(body))


def read(data: bytes) -> tuple[Header, bytes]:
    """Header and payload of a file whose magic, version, checksum, fields and density are all in order."""
    data = bytes(data)
    version = format_version(data)
    body, (found,) = data[:-4], struct.unpack("<I", data[-4:])
    check(zlib.crc32(body) == found, "the .dfm file is damaged or incomplete (its checksum does not match)")
    try:
        check(version >= 1, "there is no format 0")
        fields = io.BytesIO(body[5:])
        header, payload = _parse_version_1(fields) if version == 1 else _parse(fields)
        _check_density(header, len(data))
    except UserError as error:
        raise UserError(f"the .dfm file is damaged: {error}") from error
    return header, payload


def read_start(data: bytes) -> tuple[Header, int]:
    """The header of a file that may be cut off behind it, and where the payload begins. Its checksum is not looked at.

    For payloads whose first part has a checksum of its own, which covers the picture's shape."""
    check(format_version(data) == VERSION, "files of the first format have no preview")
    fields = io.BytesIO(data[5:])
    header, _ = _parse(fields, whole=False)
    return header, 5 + fields.tell()


def format_version(data: bytes) -> int:
    """The version of a file that starts like one."""
    check(data[:4] == MAGIC, "not a .dfm file")
    check(len(data) >= 10, "the .dfm file is incomplete")
    newer = f"the .dfm file was made by a newer version (format {data[4]}; this version reads up to {VERSION})"
    check(data[4] <= VERSION, newer)
    return data[4]


def shared_bytes(shape: Shape) -> int:
    """Bytes of a file besides its payload."""
    height, width, _ = shape
    return len(MAGIC) + 2 + len(_pack_varint(height)) + len(_pack_varint(width)) + 8


def least_bytes(shape: Shape) -> int:
    """The smallest file that may hold so many pixels."""
    height, width, _ = shape
    return max(0, -(-(height * width - FREE_PIXELS) // MAX_PIXELS_PER_BYTE))


def check(condition: bool, message: str) -> None:
    """UserError with this message unless the condition holds."""
    if not condition:
        raise UserError(message)


def take(fields: io.BytesIO, count: int) -> bytes:
    """The next `count` bytes of a header; UserError where there are fewer."""
    taken = fields.read(count)
    check(len(taken) == count, "the header is incomplete")
    return taken


def _check_density(header: Header, file_bytes: int) -> None:
    least = least_bytes(header.shape)
    pixels = header.width * header.height
    check(file_bytes >= least, f"{pixels} pixels are too many for a file of {file_bytes} bytes: {least} at least")


def _parse(fields: io.BytesIO, whole: bool = True) -> tuple[Header, bytes]:
    """Header and payload of what follows the version; the payload is left unread unless `whole`."""
    (flags,) = take(fields, 1)
    names = [name for name, number in PROFILE_NUMBERS.items() if number == flags >> 1]
    check(bool(names), f"it has profile {flags >> 1}, which this version does not know")
    height, width = _take_varint(fields), _take_varint(fields)
    (pixel_checksum,) = struct.unpack("<I", take(fields, 4))
    return Header(width, height, CHANNELS[flags & 1], names[0], pixel_checksum), fields.read() if whole else b""


def _parse_version_1(fields: io.BytesIO) -> tuple[Header, bytes]:
    """Header and payload, the payload's bytes in the order of version 2."""
    (flags,) = take(fields, 1)
    height, width = _take_varint(fields), _take_varint(fields)
    depth = take(fields, 1)
    widths_and_scale = take(fields, (depth[0] + 1) // 2 + 1)
    (pixel_checksum,) = struct.unpack("<I", take(fields, 4))
    header = Header(width, height, CHANNELS[flags & 1], "weights", pixel_checksum)
    return header, bytes([flags >> 1]) + depth + widths_and_scale + fields.read()


def _pack_varint(value: int) -> bytes:
    packed = bytearray()
    while value >= 128:
        packed.append(value & 127 | 128)
        value >>= 7
    return bytes([*packed, value])


def _take_varint(fields: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 35, 7):
        (byte,) = take(fields, 1)
        value |= (byte & 127) << shift
        if byte < 128:
            check(byte > 0 or shift == 0, "a size has needless leading zeros")
            return value
    raise UserError("a size has more than five bytes")
