"""Previews: the picture at a quarter of its resolution or less, from the beginning of a file alone."""

from typing import BinaryIO

from dfm.codec import container
from dfm.codec.latents import payload
from dfm.codec.profiles import Picture
from dfm.errors import UserError

START_BYTES = 64  # header and beginning of the payload, with room to spare


def read_preview(stream: BinaryIO, factor: int) -> tuple[container.Header, Picture]:
    """Header, and the picture at 1 / `factor` of its resolution, a power of two from 4 on.

    No more of `stream` is read than its header and coarse section.

    Raises:
        UserError: no such preview, or a damaged beginning of the file.
    """
    level = factor.bit_length() - 1
    if factor < 2**payload.COARSE_LEVEL or factor != 2**level:
        raise UserError(f"a preview at 1/{factor} of the resolution: 4, 8, 16, ... are possible")
    start = stream.read(START_BYTES)
    header, first = container.read_start(start)
    if header.profile != "latents":
        raise UserError(f"a file of the profile {header.profile} has no preview")
    grids = payload.grid_count(start[first]) if first < len(start) else level + 1
    if level >= grids:
        raise UserError(f"a preview at 1/{factor} of the resolution: the file has only {grids} grids")
    try:
        end = first + payload.coarse_end(start[first:])
        data = start + stream.read(max(0, end - len(start)))
        content = payload.unpack_coarse(data[first:end], header.shape, level)
    except UserError as error:
        raise UserError(f"the .dfm file is damaged: {error}") from error
    return header, payload.paint(content, level)
