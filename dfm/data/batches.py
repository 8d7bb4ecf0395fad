"""Batches: a pure function of (seed, step), so that a run resumes exactly by asking for the next step.

The stream of examples is order(0), order(1), ... end to end, one permutation an epoch; batch s takes the stream's
positions [s B, (s + 1) B), and host p of P the p-th of its P equal parts.
"""

from collections.abc import Generator
from functools import lru_cache

import numpy as np
from jaxtyping import Int, Integer, Shaped

from dfm.data.crops import crop_all, random_words
from dfm.data.dataset import Dataset, Shape
from dfm.data.prefetch import read_ahead
from dfm.errors import UserError
from dfm.shapes import typechecked

# what a seed is used for: keeps the streams of random numbers apart
ORDER, CROP = 0, 1
AHEAD = 4  # batches that wait, made, for their step

Batch = dict[str, np.ndarray]


class Batches:
    """Shuffled batches of a data set.

    Args:
        dataset: the pictures.
        batch_size: of all hosts together.
        seed: of the order, crops and flips; at least 0.
        crop: (height, width) of a window at a random place. Larger than pictures of one fixed size: refused. Where
            sizes differ a crop is needed, and a picture smaller than it is scaled up until it fits.
        flip: mirrors half of the pictures left to right.
        process_index, process_count: this host and the number of hosts.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        crop: tuple[int, int] | None = None,
        flip: bool = False,
        process_index: int = 0,
        process_count: int = 1,
    ):
        _check(dataset, batch_size, seed, crop, process_count)
        if not 0 <= process_index < process_count:
            raise ValueError(f"process {process_index} of {process_count}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.crop = (int(crop[0]), int(crop[1])) if crop else None
        self.flip = flip
        self.process_index, self.process_count = process_index, process_count
        self.local_batch_size = batch_size // process_count
        self._crop_key = np.random.SeedSequence([seed, CROP]).generate_state(2, np.uint64)
        # kept, because a step needs an epoch's order or two, and so do thousands of steps after it
        self._permutation = lru_cache(maxsize=3)(self._make_permutation)
        self._order = lru_cache(maxsize=2)(self._make_order)

    @property
    def picture_shape(self) -> Shape:
        """(height, width, channels) of the pictures in a batch."""
        if self.crop is not None:
            return (*self.crop, self.dataset.channels)
        assert self.dataset.shape is not None  # _check saw to it
        return self.dataset.shape

    def at(self, step: int) -> Batch:
        """The batch of one step: {"image": uint8 [b, H, W, C], "label": int32 [b], "index": int32 [b]}.

        b is the part of this host; `index` says which examples of the data set they are.
        """
        examples = self.examples(step)
        first = step * self.batch_size + self.process_index * self.local_batch_size
        return {"image": self._images(examples, first), "label": self.dataset.labels[examples], "index": examples}

    def examples(self, step: int) -> Int[np.ndarray, " b"]:
        """Which examples the batch of one step holds, int32."""
        first = step * self.batch_size + self.process_index * self.local_batch_size
        return self._stream(first, first + self.local_batch_size).astype(np.int32)

    def prefetch(self, first_step: int, last_step: int) -> Generator[Batch, None, None]:
        """The batches of first_step, ..., last_step - 1, made ahead by a thread that ends with the iterator."""
        return read_ahead(self.at, range(first_step, last_step), AHEAD)

    @typechecked
    def order(self, epoch: int) -> Int[np.ndarray, "examples"]:
        """The order of one epoch, which holds each example once."""
        return self._order(epoch)

    def _stream(self, first: int, last: int) -> Int[np.ndarray, "positions"]:
        """The examples at the stream's positions [first, last); at most two epochs meet there, as B <= N."""
        epoch, start = divmod(first, len(self.dataset))
        stop = start + last - first
        here = self._order(epoch)[start:stop]
        missing = last - first - len(here)
        return np.concatenate([here, self._order(epoch + 1)[:missing]]) if missing else here

    def _make_permutation(self, epoch: int) -> np.ndarray:
        # ranks of raw random words: NumPy promises those to stay, and not what its shuffles make of them
        words = np.random.Philox(np.random.SeedSequence([self.seed, ORDER, epoch])).random_raw(len(self.dataset))
        return np.argsort(words, kind="stable")

    def _make_order(self, epoch: int) -> np.ndarray:
        """The epoch's permutation, mended where a batch straddles two epochs: it must not hold an example twice.

        A latent table takes updates by row, and two for one row would be one. The examples that the straddling batch
        took from the end of the epoch before move, in their order, to the end of the body, which is all but the last B.
        Those last B stay, so the end of an epoch is known without the order of the epoch before it.
        """
        permutation = self._permutation(epoch)
        count = len(permutation)
        taken = epoch * count % self.batch_size
        if taken == 0:
            return permutation
        is_taken = np.zeros(count, bool)
        is_taken[self._permutation(epoch - 1)[count - taken :]] = True
        body, end = permutation[: count - self.batch_size], permutation[count - self.batch_size :]
        late = is_taken[body]
        return np.concatenate([body[~late], body[late], end])

    @typechecked
    def _images(self, examples: Integer[np.ndarray, "b"], first: int) -> Shaped[np.ndarray, "b height width channel"]:
        if self.crop is None and not self.flip:
            return self.dataset.take(examples)
        fixed = self.dataset.shape is not None
        pictures = self.dataset.take(examples) if fixed else self.dataset.pictures(examples)
        words = random_words(self._crop_key, first, len(examples))
        return crop_all(pictures, self.picture_shape, words, self.flip)


def _check(dataset: Dataset, batch_size: int, seed: int, crop: tuple[int, int] | None, process_count: int) -> None:
    """One clear line for what cannot be batched."""
    count = len(dataset)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    if batch_size % process_count:
        raise UserError(f"batch_size {batch_size} is not divisible by {process_count} processes")
    if count % batch_size and count < 2 * batch_size:
        raise UserError(
            f"batch_size {batch_size} is too large for the {count:,} pictures of {dataset.name}, {dataset.split}: "
            f"at most {count // 2}, or all {count}"
        )
    if seed < 0:
        raise UserError(f"seed must be at least 0, not {seed}")
    if crop is None:
        if dataset.shape is None:
            raise UserError(f"{dataset.name}: its pictures differ in size; set a crop (height, width)")
        return
    if len(crop) != 2 or min(crop) < 1:
        raise UserError(f"crop must be two positive numbers (height, width), not {crop}")
    if dataset.shape is not None and (crop[0] > dataset.shape[0] or crop[1] > dataset.shape[1]):
        raise UserError(
            f"crop {crop[0]}x{crop[1]} is larger than the pictures of {dataset.name}, "
            f"{dataset.shape[0]}x{dataset.shape[1]} (height x width)"
        )
