"""A data set as the rest of the program sees it: uint8 pictures with labels, wherever the pixels come from.

Maps of codes (dfm/training/codes.py) are int32 and otherwise as pictures.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy.typing import ArrayLike

from dfm.data.fingerprint import Fingerprint, array_digest, sha256
from dfm.errors import UserError
from dfm.shapes import typechecked

Shape = tuple[int, int, int]


class Pictures(ABC):
    """Where pixels come from: an array, a folder, records of tensorflow-datasets."""

    shape: Shape | None  # (height, width, channels), or None where sizes differ
    channels: int
    note: str = ""  # what a user should know of how they are read

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def picture(self, row: int) -> UInt8[np.ndarray, "height width channel"]:
        """One, of its own size."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> UInt8[np.ndarray, "n height width channel"]:
        """Pictures of one size."""

    @abstractmethod
    def fingerprint(self, rows: np.ndarray | None) -> Fingerprint:
        """Of these rows (None: all): "contents", and "names" where they are files."""

    def damaged(self, rows: np.ndarray | None) -> list[str]:
        """One line on each picture that cannot be read."""
        return []


class ArrayPictures(Pictures):
    """Pictures of one size in one array, in memory or memory-mapped."""

    def __init__(self, array: np.ndarray):
        # asarray: a memmap pays for its bookkeeping at every index, a plain view of the same pages does not
        self.array = np.asarray(array)
        self.shape: Shape | None = (array.shape[1], array.shape[2], array.shape[3])
        self.channels: int = array.shape[3]

    def __len__(self) -> int:
        return len(self.array)

    def picture(self, row: int) -> np.ndarray:
        return np.array(self.array[row])

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows]

    def fingerprint(self, rows: np.ndarray | None) -> Fingerprint:
        return {"contents": array_digest(self.array, rows)}


class DecodedPictures(Pictures):
    """Pictures that are decoded whenever they are asked for; `picture` is the subclass's."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        return np.stack(decode_side_by_side(self.picture, rows.tolist()))

    def damaged(self, rows: np.ndarray | None) -> list[str]:
        numbers = list(range(len(self))) if rows is None else rows.tolist()
        return [line for line in decode_side_by_side(self._damage, numbers) if line]

    def _damage(self, row: int) -> str | None:
        try:
            self.picture(row)
        except UserError as error:
            return str(error)
        return None


class Dataset:
    """Pictures and labels of one split; uint8, but for the latents that a prior is trained on.

    Attributes:
        name, split: what was asked for.
        labels: int32 [N]; zeros where there are none.
        label_names: names of the labels 0, 1, ... where they are known, otherwise empty.
        shape: (height, width, channels), or None where sizes differ.
        channels: 1 or 3.
    """

    def __init__(
        self,
        name: str,
        split: str,
        parts: Sequence[Pictures],
        labels: np.ndarray,
        label_names: Sequence[str] = (),
        rows: np.ndarray | None = None,
    ):
        """parts: one source of pictures after the other; rows: which of them belong to it (None: all), as labels do."""
        starts = np.cumsum([0, *(len(part) for part in parts)])
        if len(labels) != (starts[-1] if rows is None else len(rows)):
            raise ValueError(f"{len(labels)} labels do not fit {starts[-1]} pictures and these rows")
        if len({part.channels for part in parts}) != 1:
            raise UserError(f"{name}: grey pictures in one split, colour in another; use one split")
        self.name, self.split, self.label_names = name, split, tuple(label_names)
        self.labels = np.asarray(labels, np.int32)
        self.channels = parts[0].channels
        shapes = {part.shape for part in parts}
        self.shape = shapes.pop() if len(shapes) == 1 else None
        self._parts, self._starts, self._rows = tuple(parts), starts, rows

    def __len__(self) -> int:
        return len(self.labels)

    def of_label(self, label: int) -> "Dataset":
        """The same pictures, but only those of one class."""
        rows = np.flatnonzero(self.labels == label)
        if len(rows) == 0:
            known = np.unique(self.labels)
            shown = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
            raise UserError(f"{self.name}: no picture of {self.split} has label {label} (labels: {shown})")
        rows = rows if self._rows is None else self._rows[rows]
        labels = np.full(len(rows), label, np.int32)
        return Dataset(self.name, self.split, self._parts, labels, self.label_names, rows)

    @typechecked
    def picture(self, example: int | np.integer) -> Shaped[np.ndarray, "height width channel"]:
        """One picture in its own size."""
        row = range(len(self))[example]  # its IndexError, and negative numbers from the end
        row = row if self._rows is None else int(self._rows[row])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part].picture(row - int(self._starts[part]))

    @typechecked
    def take(self, examples: ArrayLike) -> Shaped[np.ndarray, "n height width channel"]:
        """Pictures of one size, stacked. Where sizes differ there is only `picture`, and `Batches` with a crop."""
        if self.shape is None:
            raise UserError(f"{self.name}: its pictures differ in size; a crop makes them one size")
        rows = np.asarray(examples, np.int64)
        if self._rows is not None:
            rows = self._rows[rows]
        if len(self._parts) == 1:
            return self._parts[0].take(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self._starts[-1]:
            raise IndexError(f"examples {rows.min()} to {rows.max()} of {self._starts[-1]}")
        stacked = np.empty((len(rows), *self.shape), np.uint8)
        for part, start, stop in zip(self._parts, self._starts, self._starts[1:], strict=False):
            inside = (rows >= start) & (rows < stop)
            if inside.any():
                stacked[inside] = part.take(rows[inside] - start)
        return stacked

    @property
    def notes(self) -> list[str]:
        """What a user should know of how the pictures are read."""
        return [part.note for part in self._parts if part.note]

    def fingerprint(self) -> Fingerprint:
        """What identifies the pictures, their order and labels; see dfm/data/fingerprint.py for its cost."""
        found = [part.fingerprint(rows) for part, rows in self._rows_by_part()]
        keys = {key for one in found for key in one}
        joined = {key: sha256([one.get(key, "").encode() for one in found]) for key in sorted(keys)}
        return {"count": len(self), "labels": sha256([self.labels.data]), **joined}

    def damaged(self) -> list[str]:
        """One line on each picture that cannot be decoded: all of them are tried, on all cores."""
        return [line for part, rows in self._rows_by_part() for line in part.damaged(rows)]

    def _rows_by_part(self) -> Iterator[tuple[Pictures, np.ndarray | None]]:
        for part, start, stop in zip(self._parts, self._starts, self._starts[1:], strict=False):
            if self._rows is None:
                yield part, None
            else:
                yield part, self._rows[(self._rows >= start) & (self._rows < stop)] - start

    def pictures(self, examples: np.ndarray) -> list[np.ndarray]:
        """Pictures in their own sizes, decoded side by side."""
        return decode_side_by_side(self.picture, examples.tolist())


def decode_side_by_side(decode, items: list) -> list:
    """[decode(item) for item in items], on as many threads as there are cores: Pillow lets go of Python's lock."""
    return list(_workers().map(decode, items)) if len(items) > 1 else [decode(item) for item in items]


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="dfm-decode")
