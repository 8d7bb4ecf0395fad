"""The .dfm file: a header, the coefficients of one net, and checksums. Bytes in, layers out; nothing here paints.

| bytes  | field                                                                                             |
|--------|---------------------------------------------------------------------------------------------------|
| 4      | magic, 89 44 46 4D: the first byte is not ASCII, so no text file starts like this                 |
| 1      | format version                                                                                    |
| 1      | flags: bit 0 colour, bit 1 basis "cas", bits 2-3 precision, others 0                              |
| 1-5 x2 | picture height, picture width (LEB128: seven bits a byte, low first, top bit means "more")        |
| 1      | number of hidden widths, then four bits for each (high half first; a last half byte is 0)         |
| 1      | input scale, in 64ths, minus 1                                                                    |
| 4      | CRC32 of the reference decode's pixels, little-endian, as the CRC below                           |
| rest   | payload: range-coded integers ("quantized") or little-endian floats in coefficient-vector order   |
| 4      | CRC32 of everything before                                                                        |

23 bytes besides the payload for six widths and a picture between 128 and 16,383 pixels a side.

The payload is described in dfm/codec/payload.py.

Every field is checked before it sizes anything, and a file can ask for no more than MAX_PIXELS_PER_BYTE and
MAX_COEFFICIENTS_PER_BYTE allow, so a small file is never a large allocation. All errors are UserError.
"""

import io
import struct
import zlib
from dataclasses import dataclass

from dfm.codec.weights import payload
from dfm.codec.weights.payload import BASES, FloatLayer, QuantizedLayer, dequantize, step_size
from dfm.errors import UserError

__all__ = ["Header", "QuantizedLayer", "FloatLayer", "dequantize", "step_size", "write", "read", "read_header"]

MAGIC = b"\x89DFM"
VERSION = 1
MAX_WIDTH = 12  # 2^12 frequency vectors
MAX_DEPTH = 64
MAX_PIXELS = 2**28
MAX_PIXELS_PER_BYTE = 4096  # 0.002 bits a pixel, below any picture worth decoding
MAX_COEFFICIENTS_PER_BYTE = 64  # 0.125 bits a coefficient: with fewer bits, a smaller net is the better file
INPUT_SCALE_UNIT = 64

PRECISIONS = ("quantized", *payload.FLOAT_TYPES)
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Header:
    """What a decoder must know besides the coefficients. Fields out of bounds raise UserError.

    `input_scale` multiplies pixel coordinates in [0, 1]; `pixel_checksum` is the CRC32 of the reference decode's uint8
    pixels."""

    width: int
    height: int
    channels: int
    widths: tuple[int, ...]
    basis: str
    precision: str
    input_scale: float
    pixel_checksum: int

    def __post_init__(self) -> None:
        _check(self.width >= 1 and self.height >= 1, f"the picture size {self.width} x {self.height} is empty")
        _check(self.width * self.height <= MAX_PIXELS, f"{self.width} x {self.height} exceeds {MAX_PIXELS} pixels")
        _check(self.channels in CHANNELS, f"{self.channels} channels: only 1 and 3 exist")
        _check(1 <= len(self.widths) <= MAX_DEPTH, f"{len(self.widths)} hidden widths, outside 1 ... {MAX_DEPTH}")
        _check(all(1 <= w <= MAX_WIDTH for w in self.widths), f"widths {self.widths} outside 1 ... {MAX_WIDTH}")
        _check(self.basis in BASES, f"unknown basis {self.basis!r}; known: {', '.join(BASES)}")
        _check(self.precision in PRECISIONS, f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        units = self.input_scale * INPUT_SCALE_UNIT
        _check(units in range(1, 257), f"input scale {self.input_scale} is no multiple of 1/64 between 1/64 and 4")
        _check(0 <= self.pixel_checksum < 2**32, f"pixel checksum {self.pixel_checksum} is no 32-bit number")

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """(inputs m, outputs n) of each layer; its coefficient arrays are [2^m, n]."""
        sizes = (2, *self.widths, self.channels)
        return list(zip(sizes[:-1], sizes[1:], strict=True))

    @property
    def coefficient_count(self) -> int:
        """All coefficients, those of sin at k = 0 included, as the thesis counts them."""
        return sum(len(BASES[self.basis]) * 2**inputs * outputs for inputs, outputs in self.layer_sizes)


def write(header: Header, layers: list[QuantizedLayer] | list[FloatLayer]) -> bytes:
    """The bytes of a .dfm file. Coefficients of sin at k = 0 are dropped: they never matter, and are read back as 0."""
    packed = payload.pack(layers, header.layer_sizes, header.basis, header.precision)
    body = _pack_header(header) + packed
    _check_density(header, len(body) + 4)
    return body + struct.pack("<I", zlib.crc32(body))


def read(data: bytes) -> tuple[Header, list[QuantizedLayer] | list[FloatLayer]]:
    """Header and layers, coefficients as they were given to `write`; any damage raises UserError."""
    header, packed = _open(data)
    try:
        return header, payload.unpack(packed, header.layer_sizes, header.basis, header.precision)
    except UserError as error:
        raise UserError(f"the .dfm file is damaged: {error}") from error


def read_header(data: bytes) -> Header:
    """The header alone, after the same checks of checksum and bounds."""
    return _open(data)[0]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _check_density(header: Header, file_bytes: int) -> None:
    for name, amount, per_byte in [
        ("pixels", header.width * header.height, MAX_PIXELS_PER_BYTE),
        ("coefficients", header.coefficient_count, MAX_COEFFICIENTS_PER_BYTE),
    ]:
        limit = per_byte * file_bytes
        _check(amount <= limit, f"{amount} {name} are too many for a file of {file_bytes} bytes, the limit is {limit}")


def _pack_header(header: Header) -> bytes:
    flags = CHANNELS.index(header.channels) | list(BASES).index(header.basis) << 1
    flags |= PRECISIONS.index(header.precision) << 2
    halves = [*header.widths, *[0] * (len(header.widths) % 2)]
    pairs = zip(halves[::2], halves[1::2], strict=True)
    return b"".join(
        [
            MAGIC,
            bytes([VERSION, flags]),
            _pack_varint(header.height),
            _pack_varint(header.width),
            bytes([len(header.widths), *(high << 4 | low for high, low in pairs)]),
            bytes([int(header.input_scale * INPUT_SCALE_UNIT) - 1]),
            struct.pack("<I", header.pixel_checksum),
        ]
    )


def _pack_varint(value: int) -> bytes:
    packed = bytearray()
    while value >= 128:
        packed.append(value & 127 | 128)
        value >>= 7
    return bytes([*packed, value])


def _open(data: bytes) -> tuple[Header, bytes]:
    """Header and payload of a file whose magic, version, checksum, fields and density are all in order."""
    data = bytes(data)
    _check(data[:4] == MAGIC, "not a .dfm file")
    _check(len(data) >= 10, "the .dfm file is incomplete")
    newer = f"the .dfm file was made by a newer version (format {data[4]}; this version reads up to {VERSION})"
    _check(data[4] <= VERSION, newer)
    body, (checksum,) = data[:-4], struct.unpack("<I", data[-4:])
    _check(zlib.crc32(body) == checksum, "the .dfm file is damaged or incomplete (its checksum does not match)")
    try:
        _check(data[4] >= 1, "there is no format 0")
        header, packed = _parse_header(body)
        _check_density(header, len(data))
    except UserError as error:
        raise UserError(f"the .dfm file is damaged: {error}") from error
    return header, packed


def _parse_header(body: bytes) -> tuple[Header, bytes]:
    """Header and what follows it."""
    fields = io.BytesIO(body[5:])
    (flags,) = _take(fields, 1)
    precision = flags >> 2
    _check(precision < len(PRECISIONS), f"unknown flags {flags:#04x}")
    height, width = _take_varint(fields), _take_varint(fields)
    (depth,) = _take(fields, 1)
    _check(depth <= MAX_DEPTH, f"{depth} hidden widths, outside 1 ... {MAX_DEPTH}")
    halves = [half for byte in _take(fields, (depth + 1) // 2) for half in (byte >> 4, byte & 15)]
    _check(not any(halves[depth:]), "the last half byte of the widths is not 0")
    (scale_byte,) = _take(fields, 1)
    (pixel_checksum,) = struct.unpack("<I", _take(fields, 4))
    header = Header(
        width=width,
        height=height,
        channels=CHANNELS[flags & 1],
        widths=tuple(halves[:depth]),
        basis=list(BASES)[flags >> 1 & 1],
        precision=PRECISIONS[precision],
        input_scale=(scale_byte + 1) / INPUT_SCALE_UNIT,
        pixel_checksum=pixel_checksum,
    )
    return header, fields.read()


def _take(fields: io.BytesIO, count: int) -> bytes:
    taken = fields.read(count)
    _check(len(taken) == count, "the header is incomplete")
    return taken


def _take_varint(fields: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 35, 7):
        (byte,) = _take(fields, 1)
        value |= (byte & 127) << shift
        if byte < 128:
            _check(byte > 0 or shift == 0, "a size has needless leading zeros")
            return value
    raise UserError("a size has more than five bytes")
