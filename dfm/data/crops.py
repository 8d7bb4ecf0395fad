"""Random crops and mirror images, drawn for a position in the stream of examples: the same on any number of hosts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt64
from PIL import Image

from dfm.data.dataset import Shape
from dfm.shapes import typechecked


def random_words(key: np.ndarray, first: int, count: int) -> UInt64[np.ndarray, "count 4"]:
    """Four random words for each of the stream's positions first, ..., first + count - 1.

    Philox turns a counter into four words, so the counter is the position: word and position belong together,
    wherever a batch or a host begins.
    """
    return np.random.Philox(key=key, counter=first).random_raw(4 * count).reshape(count, 4)


@typechecked
def crop_all(
    pictures: UInt8[np.ndarray, "n height width channel"] | Sequence[UInt8[np.ndarray, "_ _ channel"]],
    shape: Shape,
    words: UInt64[np.ndarray, "n 4"],
    flip: bool,
) -> UInt8[np.ndarray, "n new_height new_width channel"]:
    """One window of `shape` from each picture, its place and mirroring drawn from its words."""
    height, width, _ = shape
    # floor(u * (places)) of the upper 32 bits; plain ints, because windows are cut one by one
    uniform = (words >> np.uint64(32)).tolist()
    windows = np.empty((len(pictures), *shape), np.uint8)
    for window, picture, (down, right, mirror, _) in zip(windows, pictures, uniform, strict=True):
        picture = enlarged(picture, height, width)
        top = down * (picture.shape[0] - height + 1) >> 32
        left = right * (picture.shape[1] - width + 1) >> 32
        window[...] = picture[top : top + height, left : left + width]
        if flip and mirror >> 31:
            window[...] = window[:, ::-1].copy()
    return windows


def enlarged(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture itself, or scaled up (bicubic, proportions kept) where a crop of this size would not fit."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    if scale <= 1:
        return picture
    new_height = max(height, round(picture.shape[0] * scale))
    new_width = max(width, round(picture.shape[1] * scale))
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    resized = np.asarray(image.resize((new_width, new_height), Image.Resampling.BICUBIC))
    return resized.reshape(new_height, new_width, -1)
