"""The posterior's moments of every training picture, computed once: for trainings in which the encoder is frozen."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dfm.array_files import hash_parameters
from dfm.arrays import pad_batch, pad_to_stride, to_float
from dfm.command_line import say
from dfm.data import Batches, Dataset
from dfm.data.batches import AHEAD, Batch
from dfm.data.prefetch import read_ahead
from dfm.data.prepared import writing
from dfm.errors import UserError
from dfm.objectives.protocol import Params
from dfm.progress import Progress
from dfm.training.latent_scale import pictures_at_once


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


def cached(batches: Batches, model: Any, encoder: Params, folder: Path) -> CachedBatches:
    """The batches with moments, from `folder`/moments-<hash>.npy where an earlier start has left it.

    Args:
        model: has a method `moments`, of pictures.
        encoder: the parameters that it needs (`Objective.frozen_encoder`).

    The file is a memory map, [examples, height / f, width / f, 2 latent_channels] float32: a 24th of what pictures
    as float32 would take at f = 8 with four channels. Its name holds a hash of all that the moments depend on:
    pictures, parameters of the encoder, and the model's settings. A new one takes the place of those of other names.
    """
    dataset = batches.dataset
    path = folder / f"moments-{_key(dataset, model, encoder)}.npy"
    encode = jax.jit(lambda images: model.apply({"params": encoder}, images, method="moments"))
    first = pad_to_stride(dataset.take(np.arange(1)), model.stride)[0]
    shape = (len(dataset), *jax.eval_shape(encode, to_float(first)).shape[1:])
    found = _open(path, shape)
    how = "taken from"
    if found is None:
        how = "encoded once, kept in"
        for other in folder.glob("moments-*.npy"):  # of other pictures or another encoder: this run has no use for it
            other.unlink(missing_ok=True)
        _encode_all(dataset, encode, model.stride, path, shape)
        found = _open(path, shape)
    if found is None:
        raise UserError(f"{path}: cannot be read back after it was written")
    say(f"dfm.train: moments of the frozen encoder {how} {path} ({found.nbytes / 1e6:,.1f} MB)")
    return CachedBatches(batches, found)


def _key(dataset: Dataset, model: Any, encoder: Params) -> str:
    names = [field.name for field in dataclasses.fields(model) if field.name not in ("parent", "name")]
    settings = {name: getattr(model, name) for name in names}
    parts = (hash_parameters(encoder), json.dumps(dataset.fingerprint(), sort_keys=True), repr(settings))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The memory map; None where there is none of this shape, whatever else is there."""
    try:
        moments = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    matches = isinstance(moments, np.ndarray) and moments.shape == shape and moments.dtype == np.float32
    return moments if matches else None


def _encode_all(dataset: Dataset, encode: Callable, stride: int, path: Path, shape: tuple[int, ...]) -> None:
    """Writes the file; as many pictures go through the encoder at once as their pixels allow."""
    height, width, _ = dataset.take(np.arange(1)).shape[1:]
    size, count = pictures_at_once(height, width), len(dataset)
    starts = range(0, count, size)
    with writing(path, shape, np.float32) as moments, Progress(len(starts), "encoding", "batch") as progress:
        for start in progress.over(starts):
            rows = np.arange(start, min(start + size, count))
            images = pad_to_stride(to_float(pad_batch(dataset.take(rows), size)), stride)[0]
            moments[rows] = np.asarray(encode(images))[: len(rows)]
