"""Named ways of measuring: numbers compare within one protocol only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dfm import registry

QUANTISATION = "uint8, round half to even"


def stretch(pictures: np.ndarray) -> np.ndarray:
    """Each picture's own minimum to 0 and maximum to 255, not rounded; a picture of one colour becomes 0."""
    x = pictures.astype(np.float32)
    axes = (1, 2, 3)
    lowest, highest = x.min(axes, keepdims=True), x.max(axes, keepdims=True)
    return (x - lowest) / np.maximum(highest - lowest, 1) * 255


def pad_to_32(pictures: np.ndarray) -> np.ndarray:
    """28x28 pictures with a frame of two black pixels; others as they are."""
    if pictures.shape[1:3] != (28, 28):
        return pictures
    return np.pad(pictures, [(0, 0), (2, 2), (2, 2), (0, 0)])


@dataclass(frozen=True)
class Protocol:
    """What is fixed beforehand.

    Attributes:
        samples, references: counts; None: as many as there are, or as --num_samples says.
        reference_split: the split that it is defined against; None: any, and the result names it.
        change_samples, change_references: what happens to pictures before the network.
        note: stands in every result.
    """

    samples: int | None = None
    references: int | None = None
    reference_split: str | None = None
    change_samples: Callable[[np.ndarray], np.ndarray] | None = None
    change_references: Callable[[np.ndarray], np.ndarray] | None = None
    note: str = ""


PROTOCOLS = {
    "fid-50k": Protocol(50_000),
    "fid-10k": Protocol(10_000),
    "fid-2k": Protocol(2_048),  # as many as there are features
    # The released code of Dai and Wipf 2019 (VAE 106.0, WAE 80.9, learned variance 76.7 on CIFAR-10)
    "dai-wipf-2019": Protocol(
        10_000,
        10_000,
        "test",
        change_samples=stretch,
        note="each sample stretched to 0..255 by its own minimum and maximum, real pictures left alone, 10,000 samples "
        "against 10,000 test pictures; here samples are rounded to 8 bits before the stretch",
    ),
    # Ghosh et al. 2020 (regularised autoencoders)
    "rae-2020": Protocol(
        10_000,
        10_000,
        "test",
        change_samples=pad_to_32,
        change_references=pad_to_32,
        note="10,000 samples against 10,000 test pictures, MNIST padded to 32x32; here samples are rounded to 8 bits "
        "where the paper's code cuts them off",
    ),
}


def find(name: str) -> Protocol:
    return registry.find("protocol", name, PROTOCOLS)
