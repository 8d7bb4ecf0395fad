"""The payload of the latents profile: the networks and the grids, coarse to fine, in two sections.

| bytes | field                                                                                                  |
|-------|--------------------------------------------------------------------------------------------------------|
| 1     | number of grids, 1 ... 9, + 16 * the set of prior.py that the networks are differences from            |
| 4     | bytes of the coarse section, little-endian, as the CRC below                                           |
| 4     | CRC32 of the picture's shape, of the fields before, and of the coarse section                          |
|       | coarse section: one range-coded stream of the networks, then of the coarsest grid down to grid 2       |
| rest  | fine section: one range-coded stream of grid 1, then of grid 0                                         |

A preview at 1 / 2^k of the resolution, k >= 2, needs no more than the coarse section. Streams may end in zeros, which
say nothing: a file of few bytes and many pixels, or of many steps to decode one after the other, is filled up with
them (`least_bytes`), so that the time of a decode and of a preview is in proportion to what was read. All errors
are UserError.
"""

import functools
import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dfm.codec import container, entropy
from dfm.codec.latents import coding, context, painting, prior, quantization, shapes
from dfm.codec.latents.quantization import Quantized
from dfm.codec.latents.shapes import Layout
from dfm.errors import UserError
from dfm.shapes import Int, UInt8

MOST_STEPS = 2**20  # half a minute of one core
FREE_STEPS, STEPS_A_BYTE = 2**16, 64
COARSE_LEVEL = 2  # the coarse section ends behind this grid
START = "<BI"
START_BYTES = struct.calcsize(START) + 4  # and the checksum
FIXED_BYTES = 10  # start, checksum, and about half a byte at the end of either stream
Grid = Int[np.ndarray, "rows columns"]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Content:
    """What a payload holds: networks, and grids by level (0 the finest); of a preview, the coarse ones only.

    Where it was read from a file, `section_bytes` are the sections' lengths, and there are the bits of the networks and
    of each grid.
    """

    layout: Layout
    networks: Quantized
    grids: Mapping[int, Grid]
    section_bytes: tuple[int, ...] = field(default=(), compare=False)
    network_bits: float = field(default=0.0, compare=False)
    grid_bits: Mapping[int, float] = field(default_factory=dict, compare=False)

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
    layout, (coarse, fine) = content.layout, streams
    coarse = coarse.ljust(least_bytes(layout, COARSE_LEVEL), b"\0")
    fine = fine.ljust(least_bytes(layout) - len(coarse), b"\0")
    start = struct.pack(START, content.layout.grids + 16 * content.networks.prior, len(coarse))
    return start + checksum(content.layout, start, coarse) + coarse + fine


def least_bytes(layout: Layout, last_level: int = 0) -> int:
    """Of the streams of the grids down to `last_level`, from its pixels and from the steps that they take."""
    grids = layout.grid_shapes[min(last_level, layout.grids - 1) :]
    steps = sum(shapes.sequential_steps(*shape) for shape in grids)
    pixels = container.least_bytes((*grids[0], layout.channels))
    if last_level == 0:  # the container counts its own bytes as well
        pixels -= container.shared_bytes(layout[:3]) + START_BYTES
    return max(pixels, -(-(steps - FREE_STEPS) // STEPS_A_BYTE), 0)


def unpack(payload: bytes, shape: Shape) -> Content:
    """All of the payload."""
    layout, number, *streams = _open(payload, shape)
    _check(sum(map(len, streams)) >= least_bytes(layout), "too few bytes for so many pixels")
    return _content(layout, number, streams, 0)


def unpack_coarse(payload: bytes, shape: Shape, level: int) -> Content:
    """Networks and the grids down to `level` >= COARSE_LEVEL, from a payload that may end behind its coarse section."""
    layout, number, coarse, _ = _open(payload, shape)
    _check(COARSE_LEVEL <= level < layout.grids, f"there is no preview at 1/{2**level} of this picture's resolution")
    return _content(layout, number, [coarse], level)


def grid_count(first_byte: int) -> int:
    """The number of grids, from the first byte of a payload, which holds the set of networks too."""
    return first_byte % 16


def coarse_end(start: bytes) -> int:
    """Bytes of a payload up to the end of its coarse section, from its first START_BYTES."""
    _check(len(start) >= START_BYTES, "the file ends before its coarse section")
    return START_BYTES + struct.unpack(START, start[: struct.calcsize(START)])[1]


def _content(layout: Layout, number: int, streams: Sequence[bytes], last_level: int) -> Content:
    """Networks (differences from set `number`) and grids of the sections, down to `last_level`."""
    decoders = [entropy.Decoder(stream, mirrored=False) for stream in streams]
    networks, network_bits = quantization.get(decoders[0], layout, number)
    model = context.context(quantization.fixed_point(networks, layout))
    grids: dict[int, Grid] = {}
    bits = {}
    for decoder, levels in zip(decoders, sections(layout.grids), strict=False):
        for level in levels:
            if level >= last_level:
                shape, coarse = layout.grid_shapes[level], grids.get(level + 1)
                grids[level], bits[level] = coding.decode_grid(decoder, model, level, shape, coarse)
    return Content(layout, networks, grids, tuple(map(len, streams)), network_bits, bits)


def paint(content: Content, first: int = 0) -> UInt8[np.ndarray, "height width channels"]:
    """The picture, or the preview at 1 / 2^first of its resolution."""
    grids = [content.grids[level] for level in range(first, content.layout.grids)]
    return painting.paint(content.integers, grids, first)


def describe(content: Content) -> dict[str, Any]:
    """Facts for `dfm info` of a content that was read. The bytes of header, networks and grids sum to the file's.

    Those of networks and grids are code lengths; what is left of the streams, and zeros, count as header."""
    coded = content.network_bits / 8 + sum(content.grid_bits.values()) / 8
    fixed = container.shared_bytes(content.layout[:3]) + START_BYTES
    return {
        "parameters": shapes.parameter_count(content.layout),
        "prior": content.networks.prior,
        "grids": [list(shape) for shape in content.layout.grid_shapes],
        "header_bytes": round(fixed + sum(content.section_bytes) - coded, 1),
        "network_bytes": round(content.network_bits / 8, 1),
        "grid_bytes": [round(content.grid_bits[level] / 8, 1) for level in range(content.layout.grids)],
        "multiplications_per_pixel": round(shapes.multiplications_per_pixel(content.layout)),
    }


def content_sha256(content: Content) -> str:
    """Of all integers: steps, networks and grids, in the order of the file, as little-endian 64-bit numbers."""
    digest = hashlib.sha256()
    for group, names in quantization.groups(content.layout).items():
        digest.update(content.networks.exponents[group].to_bytes(1, "little"))
        for name in names:
            digest.update(content.networks.integers[name].astype("<i8").tobytes())
    for level in reversed(range(content.layout.grids)):
        digest.update(content.grids[level].astype("<i8").tobytes())
    return digest.hexdigest()


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


def _open(payload: bytes, shape: Shape) -> tuple[Layout, int, bytes, bytes]:
    """Layout, set of networks, coarse and fine section, after a check of the coarse one."""
    end = coarse_end(payload)
    said = payload[: struct.calcsize(START)]
    number, grids = said[0] // 16, grid_count(said[0])
    most = shapes.most_grids(*shape[:2])
    _check(1 <= grids <= most, f"{grids} grids, outside 1 ... {most}")
    _check(number <= prior.COUNT, f"set {number} of networks is not known: {prior.COUNT} are")
    layout, coarse = Layout(*shape, grids), payload[START_BYTES:end]
    _check(layout.steps <= MOST_STEPS, f"{shape[1]} x {shape[0]} pixels take too many steps")
    _check(len(coarse) >= least_bytes(layout, COARSE_LEVEL), "too few bytes for so many pixels")
    _check(len(payload) >= end, "the file ends within its coarse section")
    found = payload[len(said) : START_BYTES]
    _check(found == checksum(layout, said, coarse), "the coarse section's checksum does not match")
    return layout, number, coarse, payload[end:]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
