"""How well a model gives pictures back: PSNR, SSIM, MS-SSIM and LPIPS a picture, and the pictures for rFID."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from dfm.arrays import pad_batch
from dfm.errors import UserError
from dfm.evaluation.measure import all_processes_bytes, share
from dfm.evaluation.metrics import Value
from dfm.evaluation.sources import CHUNK, DatasetSource, Shape, Source, Subset
from dfm.metrics.lpips import Lpips, input_size
from dfm.metrics.picture_quality import MS_SSIM_SMALLEST_SIDE, SSIM_WINDOW, ms_ssim, psnr, ssim

if TYPE_CHECKING:
    from dfm.sampling import RunData

LPIPS_BATCH = 64


class ReconstructionSource:
    """The pictures of a source as the model paints them, from its encoder, its table of latents, or by inversion.

    Attributes:
        how: "encoder"; "table" for pictures of the training of a run that has a table; "inversion" for others.
    """

    def __init__(self, data: "RunData", source: Source, invert_steps: int, report: Callable[[int], None] | None = None):
        model = data.run.model
        self.shape: Shape = (model.height, model.width, model.channels)
        if source.shape != self.shape:
            wanted, found = (" x ".join(map(str, shape)) for shape in (self.shape, source.shape))
            raise UserError(f"{source.id}: pictures are {found}, and the model paints {wanted}")
        self.data, self.source, self.invert_steps, self._report = data, source, invert_steps, report
        self.count, self.warnings = source.count, list(source.warnings)
        self.how = "encoder" if not data.latents_are_stored else "table" if _is_training(data, source) else "inversion"
        self.id = f"reconstructions of {source.id}"
        self._painted: dict[tuple[int, int], np.ndarray] = {}

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Painted once and kept: both rFID and the pairs want them."""
        if (start, stop) not in self._painted:
            self._painted[start, stop] = self._paint(start, stop)
        pictures = self._painted[start, stop]
        for first in range(0, len(pictures), CHUNK):
            yield pictures[first : first + CHUNK]

    def _paint(self, start: int, stop: int) -> np.ndarray:
        from dfm.sampling import invert

        painter, painted = self.data.painter, []
        if self.how == "table":
            rows = self.source.rows[start:stop]  # type: ignore[attr-defined]  # _is_training has seen to it
            if self._report:
                self._report(stop - start)
            return painter.paint(self.data.latents_of_training(rows))
        for pictures in self.source.batches(start, stop):
            if self.how == "encoder":
                latents = painter.encode(pictures)
            else:
                latents = invert(self.data, pictures, steps=self.invert_steps).latents
            painted.append(painter.paint(latents))
            if self._report:
                self._report(len(pictures))
        return np.concatenate(painted)

    def pairs(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(original, reconstruction) one by one."""
        originals, painted = (itertools.chain.from_iterable(part.batches(start, stop)) for part in (self.source, self))
        return zip(originals, painted, strict=True)


def _is_training(data: "RunData", source: Source) -> bool:
    """Whether these are pictures that the table has latents of."""
    inner = source.source if isinstance(source, Subset) else source
    if not isinstance(inner, DatasetSource):
        return False
    mine = data.run.config["dataset"]
    theirs = inner.dataset
    same = (theirs.name, theirs.split, inner.label) == (mine["name"], mine["split"], mine.get("label", -1))
    if same and theirs.name == mine["name"] and inner.count != len(data.train):
        raise UserError(f"{inner.id}: not the data of the training (see --data_dir)")
    return same


def quality(source: ReconstructionSource, names: Sequence[str], lpips: Lpips | None) -> dict[str, Value]:
    """Means over pictures, with their standard deviations; null where a picture is too small for a metric."""
    start, stop = share(source.count, jax.process_index(), jax.process_count())
    functions = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}
    smallest = {"psnr": 1, "ssim": SSIM_WINDOW, "ms_ssim": MS_SSIM_SMALLEST_SIDE}
    wanted = [name for name in functions if name in names]
    side = min(source.shape[:2])
    rows = [
        [float(functions[name](*pair) or 0.0) if side >= smallest[name] else math.nan for name in wanted]
        for pair in source.pairs(start, stop)
    ]
    values = {name: _mean(_gathered(column)) for name, column in zip(wanted, np.array(rows).T, strict=True)}
    if "psnr" in values:
        values["psnr"].details["psnr_of_mean_mse"] = _psnr_of_mean(_gathered(np.array(rows)[:, wanted.index("psnr")]))
    if lpips is not None and "lpips" in names:
        values["lpips"] = _mean(_gathered(_lpips_of_pairs(source, lpips, start, stop)))
        values["lpips"].details.update(
            {"net": lpips.name, "weights_sha256": lpips.sha256, "input_size": list(input_size(*source.shape[:2]))}
        )
    return values


def _mean(values: np.ndarray) -> Value:
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return Value(None)
    details = {"infinite": int(np.isinf(values).sum())} if len(finite) < len(values) else {}
    return Value(float(finite.mean()), float(finite.std()), "pictures", details)


def _psnr_of_mean(decibels: np.ndarray) -> float | None:
    error = np.mean(255**2 * 10 ** (-decibels / 10))
    return 10 * math.log10(255**2 / error) if error > 0 else None


def _lpips_of_pairs(source: ReconstructionSource, lpips: Lpips, start: int, stop: int) -> np.ndarray:
    distance = jax.jit(lambda a, b: lpips(a, b))
    found, pairs = [], list(source.pairs(start, stop))
    for first in range(0, len(pairs), LPIPS_BATCH):
        some = pairs[first : first + LPIPS_BATCH]
        a, b = (jnp.asarray(pad_batch(np.stack(pictures), LPIPS_BATCH)) for pictures in zip(*some, strict=True))
        found.append(np.asarray(distance(a, b))[: len(some)])
    return np.concatenate(found).astype(np.float64)


def _gathered(column: np.ndarray) -> np.ndarray:
    """One process' numbers -> those of all."""
    if jax.process_count() == 1:
        return column
    parts = all_processes_bytes(np.asarray(column, np.float64).tobytes())
    return np.concatenate([np.frombuffer(part, np.float64) for part in parts])
