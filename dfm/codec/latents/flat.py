"""Pictures of one colour: a payload of a few bytes, exact, and the least that any picture can come down to."""

import math

import numpy as np

from dfm.codec import container
from dfm.codec.latents import payload, quantization, shapes, tables
from dfm.codec.latents.payload import Content
from dfm.codec.latents.quantization import Quantized
from dfm.codec.latents.shapes import Layout
from dfm.codec.profiles import Picture, Shape, mean_colour
from dfm.shapes import UInt8

COLOUR_EXPONENT = 10  # 1.0 is 1024, and levels are hit to an eighth


def flat_content(picture: Picture) -> Content:
    """The mean colour, rounded to whole levels."""
    return _content(shapes.layout_of(picture.shape), mean_colour(picture))


def _content(layout: Layout, colour: UInt8[np.ndarray, "channels"]) -> Content:
    integers = {name: np.zeros(shape, np.int64) for name, shape in shapes.array_shapes(layout).items()}
    exponents = {group: quantization.GROUPS[group][1] for group in quantization.groups(layout)}
    exponents |= {"bias": COLOUR_EXPONENT, "context_output": 0}
    integers["bias"] = np.rint(colour * 2.0**COLOUR_EXPONENT / 255).astype(np.int64)
    integers["context_bias_3"][1] = tables.LOG2_SMALLEST  # the narrowest distribution: zeros cost nothing
    grids = {level: np.zeros(shape, np.int64) for level, shape in enumerate(layout.grid_shapes)}
    return Content(layout, Quantized(exponents, integers), grids)


def flat_bytes(shape: Shape) -> int:
    """Bytes that are enough for the file of any picture of one colour."""
    layout = shapes.layout_of(shape)
    # networks are all that it says, and they depend on the number of grids alone
    small = _content(Layout(1, 1, layout.channels, layout.grids), np.full(layout.channels, 255, np.uint8))
    zeros = math.ceil(layout.latents * ZERO_BITS / 8)
    streams = len(payload.pack(small)) - payload.START_BYTES + COLOUR_MARGIN + zeros
    coarse = payload.least_bytes(layout, payload.COARSE_LEVEL)
    return container.shared_bytes(shape) + payload.START_BYTES + max(streams + coarse, payload.least_bytes(layout))


ZERO_BITS = 4e-6  # of a latent that is certain: other symbols have a count of one
COLOUR_MARGIN = 2  # bytes by which the code of another colour may be longer
