"""Pictures between their two forms, uint8 and float32 in [-1, 1]; many of them as one grid; batches and sides
that a model takes."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped, UInt8

from dfm.shapes import typechecked


def to_float(images: np.ndarray | jax.Array):
    """x / 127.5 - 1: uint8 [...] -> float32 [...] in [-1, 1]; NumPy stays NumPy, and a device's array on its device."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_uint8(images: np.ndarray | jax.Array) -> np.ndarray:
    """(x + 1) 127.5, rounded half to even and clipped: float [...] -> uint8 [...], the inverse of `to_float`."""
    scaled = (np.asarray(images, np.float32) + np.float32(1.0)) * np.float32(127.5)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


@typechecked
def grid(
    images: UInt8[np.ndarray, "n height width channels"], columns: int, margin: int = 1
) -> UInt8[np.ndarray, "grid_height grid_width channels"]:
    """The pictures as one, row by row, with `margin` white pixels between them; the last row may stay unfilled.

    Raises:
        ValueError: no pictures, or fewer than one column.
    """
    count, height, width, channels = images.shape
    if count == 0 or columns < 1:
        raise ValueError(f"a grid needs pictures and columns, not {count} in {columns}")
    columns = min(columns, count)
    rows = -(-count // columns)
    page = np.full((rows * (height + margin) - margin, columns * (width + margin) - margin, channels), 255, np.uint8)
    for position, image in enumerate(images):
        top, left = position // columns * (height + margin), position % columns * (width + margin)
        page[top : top + height, left : left + width] = image
    return page


def pad_batch(batch: Shaped[np.ndarray, "n ..."], size: int) -> Shaped[np.ndarray, "size ..."]:
    """The rows and then the last one again and again: one compilation serves all batches, the last one too."""
    if not 0 < len(batch) <= size:
        raise ValueError(f"a batch of {len(batch)} rows cannot be filled up to {size}")
    if len(batch) == size:
        return batch
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def padded_batches(array: Shaped[np.ndarray, "n ..."], size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of `size` rows, in order, each with the number of its rows that are no padding."""
    for first in range(0, len(array), size):
        batch = array[first : first + size]
        yield pad_batch(batch, size), len(batch)


def pad_to_stride(images: jax.Array | np.ndarray, stride: int, mode: str = "edge") -> tuple[Any, tuple[int, int]]:
    """(pictures padded below and to the right to multiples of `stride`, (height, width) before).

    Args:
        mode: of numpy.pad: "edge" repeats the last row and column, "reflect" mirrors, "constant" is zeros.
    """
    height, width = images.shape[1:3]
    pad: Any = np.pad if isinstance(images, np.ndarray) else jnp.pad
    amounts = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
    return pad(images, amounts, mode=mode), (height, width)


def crop(images: Any, size: tuple[int, int]) -> Any:
    """The first `size` = (height, width) rows and columns: undoes `pad_to_stride` after decoding."""
    return images[:, : size[0], : size[1]]
