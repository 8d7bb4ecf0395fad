"""Pictures that a program has: an array, batches one after the other, or a function that makes them."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dfm.errors import UserError
from dfm.evaluation.sources import CHUNK, ArraySource, Shape, Source, checked_pictures, open_source

Batch = UInt8[np.ndarray, "n height width channel"]
Given = str | Path | np.ndarray | Source | Iterable[Batch] | Callable[[int, int], Batch]


class FunctionSource:
    """Pictures first, ..., first + count - 1 by `function(first, count)`: whatever the range, picture i is the same."""

    def __init__(self, id: str, function: Callable[[int, int], Batch], count: int):
        self.id, self.count, self._function = id, count, function
        self.warnings: list[str] = []
        self.labels: np.ndarray | None = None
        self.shape: Shape = checked_pictures(np.asarray(function(0, 1)), id).shape[1:]

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, CHUNK):
            wanted = min(CHUNK, stop - first)
            batch = checked_pictures(np.asarray(self._function(first, wanted)), self.id)
            if batch.shape != (wanted, *self.shape):
                raise UserError(f"{self.id}: gave {list(batch.shape)} in place of {[wanted, *self.shape]}")
            yield batch


class BatchSource:
    """The first `count` pictures of an iterator, which goes by once: nothing is held but a batch."""

    def __init__(self, id: str, batches: Iterable[Batch], count: int):
        self.id, self.count, self._batches = id, count, iter(batches)
        self.warnings: list[str] = []
        self.labels: np.ndarray | None = None
        self._first = next(self._checked(), None)
        if self._first is None:
            raise UserError(f"{id}: no pictures")
        self.shape: Shape = self._first.shape[1:]

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        if self._first is None:
            raise UserError(f"{self.id}: an iterator goes by once; give an array, or a function and a count")
        position, batch, self._first = 0, self._first, None
        while True:
            part = batch[max(0, start - position) : stop - position]
            if len(part):
                yield part
            position += len(batch)
            if position >= stop:
                return
            following = next(self._checked(), None)
            if following is None:
                return
            if following.shape[1:] != self.shape:
                raise UserError(f"{self.id}: a batch of {list(following.shape)} after pictures of {list(self.shape)}")
            batch = following

    def _checked(self) -> Iterator[np.ndarray]:
        return (checked_pictures(np.asarray(batch), self.id) for batch in self._batches)


def check_count(what: str, count: int | None) -> None:
    """UserError for a number of samples, references, ... below 1; None is any number."""
    if count is not None and count < 1:
        raise UserError(f"the number of {what} must be at least 1, not {count}")


def as_source(given: Given, name: str, count: int | None = None, **opening: Any) -> Source:
    """What was given as a source of pictures.

    Args:
        given: what `open_source` opens (a path or a data set's name); an array, uint8 [N, H, W, C]; an iterator of such
            batches; a function (first, count) -> such a batch; or a source.
        count: how many pictures an iterator or a function is asked for. An iterator without it is read to its end
            first and its pictures are held; a function needs it.
        opening: further arguments of `open_source`.
    """
    check_count(name, count)
    if isinstance(given, str | Path):
        return open_source(str(given), **opening)
    if isinstance(given, np.ndarray) or hasattr(given, "__array__"):
        return ArraySource(name, checked_pictures(np.asarray(given), name))
    if hasattr(given, "batches") and hasattr(given, "shape"):
        return given  # type: ignore[return-value]
    if callable(given):
        if count is None:
            raise UserError(f"{name}: a function that makes pictures needs a count")
        return FunctionSource(name, given, count)
    if count is not None:
        return BatchSource(name, given, count)
    collected = [checked_pictures(np.asarray(batch), name) for batch in given]
    if not collected:
        raise UserError(f"{name}: no pictures")
    return ArraySource(name, np.concatenate(collected))
