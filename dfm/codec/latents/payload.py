"""The payload of the latents profile: the networks and the grids, coarse to fine, in two sections.

| bytes | field                                                                                                  |
|-------|--------------------------------------------------------------------------------------------------------|
| 1     | number of grids, 1 ... 9                                                                               |
| 4     | bytes of the coarse section, little-endian, as the CRC below                                           |
| 4     | CRC32 of the picture's shape, of the fields before, and of the coarse section                          |
|       | coarse section: one range-coded stream of the networks, then of the coarsest grid down to grid 2       |
| rest  | fine section: one range-coded stream of grid 1, then of grid 0                                         |

A preview at 1 / 2^k of the resolution, k >= 2, needs no more than the coarse section. Streams may end in zeros, which
say nothing: a file of few bytes and many pixels is filled up with them. All errors are UserError.
"""

import functools
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dfm.codec import entropy
from dfm.codec.latents import coding, context, painting, quantization, shapes
from dfm.codec.latents.quantization import Quantized
from dfm.codec.latents.shapes import Layout
from dfm.errors import UserError

COARSE_LEVEL = 2  # the coarse section ends behind this grid
START = "<BI"
CHECKSUM_BYTES = 4
FIXED_BYTES = 10  # start, checksum, and about half a byte at the end of either stream
Grid = Int[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class Content:
    """What a payload holds: networks, and grids by level (0 the finest); of a preview, the coarse ones only.

    `section_bytes` are the lengths of the sections, where it was read from a file.
    """

    layout: Layout
    networks: Quantized
    grids: Mapping[int, Grid]
    section_bytes: tuple[int, ...] = field(default=(), compare=False)

    @functools.cached_property
    def integers(self) -> Mapping[str, Int[np.ndarray, "..."]]:
        """The networks' arrays in fixed point."""
        return quantization.fixed_point(self.networks, self.layout)


def sections(grids: int) -> tuple[list[int], list[int]]:
    """Levels of the coarse and of the fine section, in the order of the file."""
    fine_levels = min(COARSE_LEVEL, grids - 1)
    return list(range(grids - 1, fine_levels - 1, -1)), list(range(fine_levels - 1, -1, -1))


def pack(content: Content) -> bytes:
    """The payload."""
    model = context.context(content.integers)
    streams = []
    for number, levels in enumerate(sections(content.layout.grids)):
        encoder = entropy.Encoder()
        if number == 0:
            quantization.put(encoder, content.networks, content.layout)
        for level in levels:
            coding.encode_grid(encoder, model, level, content.grids[level], content.grids.get(level + 1))
        streams.append(encoder.finish())
    coarse, fine = streams
    start = struct.pack(START, content.layout.grids, len(coarse))
    return start + checksum(content.layout, start, coarse) + coarse + fine


def unpack(payload: bytes, shape: tuple[int, int, int]) -> Content:
    """All of the payload."""
    layout, coarse, fine = _open(payload, shape)
    decoder = entropy.Decoder(coarse, mirrored=False)
    networks = quantization.get(decoder, layout)
    model = context.context(quantization.fixed_point(networks, layout))
    grids: dict[int, Grid] = {}
    for stream, levels in zip((decoder, entropy.Decoder(fine, mirrored=False)), sections(layout.grids), strict=True):
        _get_grids(stream, levels, model, layout, grids)
    return Content(layout, networks, grids, (len(coarse), len(fine)))


def unpack_coarse(payload: bytes, shape: tuple[int, int, int], level: int) -> Content:
    """Networks and the grids down to `level` >= COARSE_LEVEL, from a payload that may end behind its coarse section."""
    layout, coarse, _ = _open(payload, shape)
    _check(COARSE_LEVEL <= level < layout.grids, f"there is no preview at 1/{2**level} of this picture's resolution")
    decoder = entropy.Decoder(coarse, mirrored=False)
    networks = quantization.get(decoder, layout)
    model = context.context(quantization.fixed_point(networks, layout))
    grids: dict[int, Grid] = {}
    _get_grids(decoder, range(layout.grids - 1, level - 1, -1), model, layout, grids)
    return Content(layout, networks, grids, (len(coarse),))


def paint(content: Content, first: int = 0) -> UInt8[np.ndarray, "height width channels"]:
    """The picture, or the preview at 1 / 2^first of its resolution."""
    grids = [content.grids[level] for level in range(first, content.layout.grids)]
    return painting.paint(content.integers, grids, first)


def describe(content: Content) -> dict[str, Any]:
    """Facts for `dfm info`; the bytes of the parts are code lengths, and sum to those of the sections."""
    model = context.context(content.integers)
    levels = range(content.layout.grids)
    bits = {
        level: coding.code_lengths(model, level, content.grids[level], content.grids.get(level + 1)) for level in levels
    }
    parameters = shapes.parameter_count(content.layout)
    return {
        "parameters": parameters,
        "grids": [list(shape) for shape in content.layout.grid_shapes],
        "network_bytes": round(quantization.bits(content.networks, content.layout) / 8, 1),
        "grid_bytes": [round(bits[level] / 8, 1) for level in levels],
        "multiplications_per_pixel": round(shapes.multiplications_per_pixel(content.layout)),
    }


def estimated_bytes(content: Content) -> float:
    """Bytes of the payload by code lengths: for searches, without coding."""
    model = context.context(content.integers)
    bits = quantization.bits(content.networks, content.layout)
    for level, grid in content.grids.items():
        bits += coding.code_lengths(model, level, grid, content.grids.get(level + 1))
    return bits / 8 + FIXED_BYTES


def checksum(layout: Layout, start: bytes, coarse: bytes) -> bytes:
    """Of the shape, the fields before, and the coarse section."""
    said = ",".join(map(str, layout[:3])).encode()
    return zlib.crc32(said + start + coarse).to_bytes(4, "little")


def _open(payload: bytes, shape: tuple[int, int, int]) -> tuple[Layout, bytes, bytes]:
    """Layout, coarse and fine section, after a check of the coarse one."""
    size = struct.calcsize(START)
    _check(len(payload) >= size + CHECKSUM_BYTES, "the file ends before its coarse section")
    grids, length = struct.unpack(START, payload[:size])
    most = shapes.most_grids(*shape[:2])
    _check(1 <= grids <= most, f"{grids} grids, outside 1 ... {most}")
    layout = Layout(*shape, grids)
    first = size + CHECKSUM_BYTES
    coarse = payload[first : first + length]
    _check(len(coarse) == length, "the file ends within its coarse section")
    found = payload[size:first]
    _check(found == checksum(layout, payload[:size], coarse), "the coarse section's checksum does not match")
    return layout, coarse, payload[first + length :]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _get_grids(
    decoder: entropy.Decoder, levels: Any, model: context.Context, layout: Layout, grids: dict[int, Grid]
) -> None:
    for level in levels:
        grids[level] = coding.decode_grid(decoder, model, level, layout.grid_shapes[level], grids.get(level + 1))
