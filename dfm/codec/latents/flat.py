"""Pictures of one colour: a payload of a few bytes, exact, and the least that any picture can come down to."""

import numpy as np

from dfm.codec import container
from dfm.codec.latents import payload, quantization, shapes
from dfm.codec.latents.payload import Content
from dfm.codec.latents.quantization import Quantized
from dfm.codec.profiles import Picture, Shape

COLOUR_EXPONENT = 10  # 1.0 is 1024, and levels are hit to an eighth


def flat_content(picture: Picture) -> Content:
    """The mean colour, rounded to whole levels."""
    layout = shapes.layout_of(picture.shape)
    integers = {name: np.zeros(shape, np.int64) for name, shape in shapes.array_shapes(layout).items()}
    exponents = {group: quantization.GROUPS[group][1] for group in quantization.groups(layout)}
    exponents |= {"bias": COLOUR_EXPONENT, "context_bias": 0}
    colour = np.rint(picture.reshape(-1, layout.channels).mean(0))
    integers["bias"] = np.rint(colour * 2**COLOUR_EXPONENT / 255).astype(np.int64)
    integers["context_bias_3"][1] = -5  # the narrowest distribution: zeros cost nothing
    grids = {level: np.zeros(shape, np.int64) for level, shape in enumerate(layout.grid_shapes)}
    return Content(layout, Quantized(exponents, integers), grids)


def flat_bytes(shape: Shape) -> int:
    """Bytes of the file of a picture of one colour, the most expensive of them."""
    white = np.broadcast_to(np.uint8(255), shape)
    return container.shared_bytes(shape) + len(payload.pack(flat_content(white))) + COLOUR_MARGIN


COLOUR_MARGIN = 2  # bytes by which the code of another colour may be longer
