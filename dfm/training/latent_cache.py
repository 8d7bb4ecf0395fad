"""The posterior's moments of every training picture, computed once: for trainings in which the encoder is frozen."""

from collections.abc import Callable, Generator
from pathlib import Path

import jax
import numpy as np

from dfm.array_files import hash_parameters
from dfm.arrays import pad_batch, to_float
from dfm.data import Batches
from dfm.data.batches import AHEAD, Batch
from dfm.data.prefetch import read_ahead
from dfm.data.prepared import writing
from dfm.models.autoencoder_kl import AutoencoderKL, pad_to_stride
from dfm.objectives.protocol import Params
from dfm.progress import Progress

CHUNK = 64


def is_constant(batches: Batches) -> bool:
    """Whether a picture is the same in every epoch: nothing random, neither window nor mirror, stands in front."""
    shape = batches.dataset.shape
    return shape is not None and not batches.flip and batches.crop in (None, shape[:2])


class CachedBatches:
    """Batches with "moments" beside each picture, so that no step runs the encoder."""

    def __init__(self, batches: Batches, moments: np.ndarray):
        self._batches, self.moments = batches, moments

    def at(self, step: int) -> Batch:
        batch = self._batches.at(step)
        return {**batch, "moments": np.asarray(self.moments[batch["index"]])}

    def prefetch(self, first_step: int, last_step: int) -> Generator[Batch, None, None]:
        return read_ahead(self.at, range(first_step, last_step), AHEAD)


def cached(batches: Batches, model: AutoencoderKL, params: Params, folder: Path) -> CachedBatches:
    """The batches with moments, from `folder`/moments-<checksum>.npy where an earlier start has left it.

    The file is a memory map, [examples, height / f, width / f, 2 latent_channels] float32: a 24th of what pictures
    as float32 would take at f = 8 with four channels. Its name holds a checksum of the encoder's parameters.
    """
    encoder = {name: values for name, values in params.items() if name in ("encoder", "quant_conv")}
    path = folder / f"moments-{hash_parameters(encoder)[:16]}.npy"
    count = len(batches.dataset)
    encode = jax.jit(lambda images: model.apply({"params": encoder}, images, method="moments"))
    if not path.exists():
        first = pad_to_stride(batches.dataset.take(np.arange(1)), model.stride)[0]
        shape = jax.eval_shape(encode, to_float(first)).shape[1:]
        total = len(range(0, count, CHUNK))
        with writing(path, (count, *shape), np.float32) as moments, Progress(total, "encoding", "batch") as progress:
            for start in progress.over(range(0, count, CHUNK)):
                rows = np.arange(start, min(start + CHUNK, count))
                moments[rows] = _encode(encode, batches.dataset.take(rows), model.stride)
    return CachedBatches(batches, np.load(path, mmap_mode="r"))


def _encode(encode: Callable, images: np.ndarray, stride: int) -> np.ndarray:
    padded = pad_batch(images, CHUNK)
    return np.asarray(encode(to_float(pad_to_stride(padded, stride)[0])))[: len(images)]
