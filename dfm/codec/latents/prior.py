"""What the networks of a file are coded as differences from: sets that were fitted jointly over many pictures.

A file names its set by a number. Set 0 is empty but for bicubic upsampling; the others lie in prior.npy beside this
file, are made by scripts/fit_latent_prior.py, and are part of the format: neither changed nor renumbered. They were
fitted with colour and GRIDS grids; for other pictures entries are left out, repeated, or averaged over colours.
The pictures are validation photographs of ImageNet (for non-commercial research; the repository holds none of them).
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dfm.codec.latents import shapes
from dfm.codec.latents.fixed_point import WEIGHT_BITS
from dfm.codec.latents.shapes import Layout
from dfm.shapes import Int

FILE = Path(__file__).with_name("prior.npy")
RATE_WEIGHTS = (1e-2, 1.2e-3, 3.5e-4)  # at which set 1, 2, ... was fitted
COUNT = len(RATE_WEIGHTS)
EMPTY = 0
GRIDS = 7
BICUBIC = (-144, 1072, 3600, -432)  # half a step up, Keys' kernel with a = -3/4, WEIGHT_BITS fractional bits
FREE = ("bias",)  # arrays of which nothing is known before

Integers = Mapping[str, Int[np.ndarray, "..."]]


@functools.cache
def _sets() -> Int[np.ndarray, "sets parameters"]:
    """One a row: all arrays but FREE in the order of shapes.py, WEIGHT_BITS fractional bits."""
    return np.load(FILE)


def nearest(rate_weight: float) -> int:
    """The set that was fitted at about this weight of the rate."""
    distances = [abs(math.log(weight / rate_weight)) for weight in RATE_WEIGHTS]
    return 1 + distances.index(min(distances))


def sets_hash() -> str:
    """SHA-256 of all sets as little-endian 16-bit numbers."""
    return hashlib.sha256(_sets().astype("<i2").tobytes()).hexdigest()


def fitted_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a set's arrays, in the order of the file."""
    known = shapes.array_shapes(Layout(1, 1, 3, GRIDS))
    return {name: shape for name, shape in known.items() if name not in FREE}


@functools.cache
def integers(grids: int, channels: int, number: int) -> Integers:
    """All arrays of the networks in set `number`, WEIGHT_BITS fractional bits; not to be written to."""
    known = shapes.array_shapes(Layout(1, 1, channels, grids))
    if number == EMPTY:
        arrays = {name: np.zeros(shape, np.int64) for name, shape in known.items()}
        if "upsampling" in arrays:
            arrays["upsampling"] += np.array(BICUBIC)
        return arrays
    row, fitted = _sets()[number - 1].astype(np.int64), {}
    for name, shape in fitted_shapes().items():
        fitted[name], row = row[: math.prod(shape)].reshape(shape), row[math.prod(shape) :]
    arrays = {name: np.zeros(shape, np.int64) for name, shape in known.items()}
    for name in known:
        if name not in FREE:
            arrays[name] = _of_channels(name, _of_grids(name, fitted[name], grids), channels)
    return arrays


def _of_grids(name: str, array: np.ndarray, grids: int) -> np.ndarray:
    """The finest `grids` of GRIDS grids; further ones are resampled as the coarsest, and add nothing to the picture."""
    fewer = min(grids, GRIDS)
    missing = grids - fewer
    if name in ("grid_scale", "input_scale"):
        return np.pad(array[:fewer], (0, missing), mode="edge")
    if name == "upsampling":
        return np.pad(array[: fewer - 1], ((0, missing), (0, 0)), mode="edge")
    if name in ("linear", "hidden_weights"):
        return np.pad(array[:, :fewer], ((0, 0), (0, missing)))
    if name == "single":
        parts = [np.pad(part[:, :fewer], ((0, 0), (0, missing))) for part in np.split(array, 2, axis=1)]
        return np.concatenate(parts, 1)
    if name in ("pair_cos", "pair_sin"):
        places = {pair: place for place, pair in enumerate(shapes.frequency_pairs(GRIDS))}
        columns = [
            array[:, places[pair]] if pair in places else 0 * array[:, 0] for pair in shapes.frequency_pairs(grids)
        ]
        return np.stack(columns, 1)
    return array


def _of_channels(name: str, array: np.ndarray, channels: int) -> np.ndarray:
    """For grey: what the mean of the colours is, where they are all the same."""
    if channels == 3 or name.startswith(("context", "grid", "hidden", "input", "upsampling")):
        return array
    if name in ("filter_1", "filter_2"):
        array = array.sum(1, keepdims=True)
    return array.sum(0, keepdims=True) // 3


def values(grids: int, channels: int, number: int) -> dict[str, np.ndarray]:
    """`integers` as float32."""
    known = integers(grids, channels, number)
    return {name: (array * 2.0**-WEIGHT_BITS).astype(np.float32) for name, array in known.items()}
