"""A source's pictures as a model gives them back, and how each compares with its original while it passes by."""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int

from dfm.errors import UserError
from dfm.evaluation.metric import PairMeasure
from dfm.evaluation.sources import DatasetSource, Shape, Source, Subset
from dfm.progress import duration
from dfm.sampling.inversion import check_invertible, invert
from dfm.sampling.run_data import ENCODER, INVERSION, TABLE, RunData

TRIED_STEPS = 5  # of the inversion whose time is taken
FEW = 64  # pictures whose inversion needs no estimate, and whose time is taken


class Reconstructions:
    """The pictures of a source by the model's encoder, its table of latents, or by inversion.

    Attributes:
        how: where latents come from, see `RunData.latents_by`.

    Raises:
        UserError: pictures that the model does not make, or whose latents are not to be had.
    """

    def __init__(
        self, data: RunData, source: Source, invert_steps: int, note: Callable[[str], None] = lambda line: None
    ):
        model = data.run.model
        self.shape: Shape = (model.height, model.width, model.channels)
        if source.shape != self.shape:
            wanted, found = (" x ".join(map(str, shape)) for shape in (self.shape, source.shape))
            raise UserError(f"{source.id}: pictures are {found}, and the model makes {wanted}")
        self.data, self.source, self.invert_steps, self._note = data, source, invert_steps, note
        self.count, self.warnings, self.labels = source.count, list(source.warnings), source.labels
        self.how = data.latents_by(of_training=data.latents_are_stored and _is_training(data, source))
        if self.how == INVERSION:
            check_invertible(model)
        self.id = f"reconstructions of {source.id}"

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        return (reconstructions for _, reconstructions in self.pairs(start, stop))

    def pairs(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(originals, reconstructions), a batch at a time; none of them is kept."""
        painter, position = self.data.painter, start
        for originals in self.source.batches(start, stop):
            labels = None if self.labels is None else self.labels[position : position + len(originals)]
            yield originals, painter.paint(self._latents(originals, position, labels), labels)
            position += len(originals)

    def _latents(
        self, originals: np.ndarray, position: int, labels: Int[np.ndarray, " n"] | None
    ) -> Float[np.ndarray, "n d"]:
        if self.how == ENCODER:
            return self.data.painter.encode(originals, labels)
        if self.how == TABLE:
            rows = self.source.rows[position : position + len(originals)]  # type: ignore[attr-defined]
            return self.data.latents_of_training(rows)
        if position == 0 and self.count > FEW and self.invert_steps > 0:
            self._note(self._estimate(originals))
        return invert(self.data, originals, steps=self.invert_steps).latents

    def _estimate(self, originals: np.ndarray) -> str:
        """What the inversion of all pictures will take, from a few steps of some."""
        some = originals[:FEW]
        invert(self.data, some, steps=1)  # compiles
        begin = time.perf_counter()
        invert(self.data, some, steps=TRIED_STEPS)
        seconds = (time.perf_counter() - begin) / TRIED_STEPS / len(some) * self.invert_steps * self.count
        return (
            f"{self.id}: no encoder, so the latents of {self.count:,} pictures are optimised for {self.invert_steps} "
            f"steps each, in about {duration(seconds)} hours; a smaller num_references or invert_steps helps"
        )


class Compared:
    """Reconstructions that are measured against their originals as they pass by; nothing is held but the numbers."""

    def __init__(self, source: Reconstructions, measures: Mapping[str, PairMeasure]):
        self.source, self.measures = source, measures
        self.id, self.count, self.shape, self.warnings = source.id, source.count, source.shape, source.warnings
        self.labels = source.labels
        self._numbers: dict[str, list[np.ndarray]] = {name: [] for name in measures}

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for originals, reconstructions in self.source.pairs(start, stop):
            for name, measure in self.measures.items():
                self._numbers[name].append(measure.function(originals, reconstructions))
            yield reconstructions

    def numbers(self, name: str) -> Float[np.ndarray, " n"]:
        """Of the pictures that have passed."""
        return np.concatenate(self._numbers[name]) if self._numbers[name] else np.zeros(0)


def _is_training(data: RunData, source: Source) -> bool:
    """Whether these are pictures that the table has latents of."""
    inner = source.source if isinstance(source, Subset) else source
    if not isinstance(inner, DatasetSource):
        return False
    mine = data.run.config["dataset"]
    theirs = inner.dataset
    same = (theirs.name, theirs.split, inner.label) == (mine["name"], mine["split"], mine.get("label", -1))
    if same and theirs.name == mine["name"] and inner.count != len(data.train):
        raise UserError(f"{inner.id}: not the data of the training (see data_dir)")
    return same
