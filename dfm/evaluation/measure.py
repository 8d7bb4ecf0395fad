"""Pictures of a source -> count, moments, features and hash, over all processes; the expensive half of every metric."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from dfm.array_files import hash_pictures, picture_digest
from dfm.errors import UserError
from dfm.evaluation.sources import CHUNK, Source
from dfm.metrics.blas import single_threaded
from dfm.metrics.features import Extractor, rebatch
from dfm.metrics.moments import Moments

Report = Callable[[int], None]  # pictures done since the last call


@dataclass
class Measured:
    """A set of pictures as one feature network sees it.

    Attributes:
        sha256: of the set of pictures, whatever their order; None for statistics that came without.
        features: [count, size], in the order of the source, or None where nobody needs them.
        seconds: of painting or reading, and extracting; 0 where it came from a file.
    """

    id: str
    count: int | None
    moments: Moments
    sha256: str | None = None
    features: np.ndarray | None = field(default=None, repr=False)
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def share(count: int, process: int, processes: int) -> tuple[int, int]:
    """(start, stop) of one process' part of the pictures."""
    return count * process // processes, count * (process + 1) // processes


def measure(source: Source, extractor: Extractor, keep_features: bool, report: Report = lambda done: None) -> Measured:
    """Runs one network over a source, see `measure_all`."""
    return measure_all(source, {"it": extractor}, {"it"} if keep_features else (), report)["it"]


def measure_all(
    source: Source,
    extractors: Mapping[str, Extractor],
    keep_features: Collection[str] = (),
    report: Report = lambda done: None,
) -> dict[str, Measured]:
    """Runs networks over a source, whose pictures are made or read once; each process takes its share, all get all.

    Args:
        extractors: by any name; without any the pictures are gone through all the same.
        keep_features: names of those whose features are wanted beside their moments.
    """
    if source.count < 2 and extractors:
        raise UserError(f"{source.id}: {source.count} picture; a covariance needs at least 2")
    begin = time.perf_counter()
    start, stop = share(source.count, jax.process_index(), jax.process_count())
    parts = {name: _Part(extractor, name in keep_features, source.id) for name, extractor in extractors.items()}
    digests: list[bytes] = []
    largest = max((extractor.batch_size for extractor in extractors.values()), default=CHUNK)
    with single_threaded():  # the nets are busy with the next batch meanwhile
        for batch in rebatch(source.batches(start, stop), largest):
            for part in parts.values():
                part.add(batch)
            digests.extend(picture_digest(picture) for picture in batch)
            report(len(batch))
        for part in parts.values():
            part.collect()
    if len(digests) != stop - start:
        raise UserError(f"{source.id}: gave {len(digests)} pictures in place of {stop - start}")
    digests = gather_digests(digests)
    sha256, seconds = hash_pictures(digests), time.perf_counter() - begin
    found = {}
    for name, part in parts.items():
        moments, features = gather(part.moments, part.features)
        kept = features if name in keep_features else None
        found[name] = Measured(source.id, moments.count, moments, sha256, kept, seconds, list(source.warnings))
    return found


class _Part:
    """What one network makes of the pictures so far; a batch is computed while the next one is made."""

    def __init__(self, extractor: Extractor, keep: bool, name: str):
        self.moments = Moments.nothing(extractor.network.size)
        self._extractor, self._keep, self._name = extractor, keep, name
        self._kept: list[np.ndarray] = []
        self._waiting: Callable[[], np.ndarray] | None = None

    def add(self, batch: np.ndarray) -> None:
        for start in range(0, len(batch), self._extractor.batch_size):
            started = self._extractor.start(batch[start : start + self._extractor.batch_size])
            self.collect()
            self._waiting = started

    def collect(self) -> None:
        if self._waiting is None:
            return
        features, self._waiting = self._waiting(), None
        if not np.all(np.isfinite(features)):
            raise UserError(f"{self._name}: a feature is NaN or infinite: broken weights or pictures")
        self.moments = self.moments.merge(Moments.of(features))
        if self._keep:
            self._kept.append(features)

    @property
    def features(self) -> np.ndarray:
        return np.concatenate(self._kept) if self._kept else np.zeros((0, len(self.moments.mean)), np.float32)


def gather(moments: Moments, features: np.ndarray) -> tuple[Moments, np.ndarray]:
    """Moments merged and features put in order, over all processes; every process gets all of it."""
    if jax.process_count() == 1:
        return moments, features
    numbers = np.concatenate([[float(moments.count)], moments.mean, moments.scatter.ravel()])
    size, merged = len(moments.mean), Moments.nothing(len(moments.mean))
    for part in all_processes(numbers):
        merged = merged.merge(Moments(int(part[0]), part[1 : size + 1], part[size + 1 :].reshape(size, size)))
    parts = [np.frombuffer(part, np.float32).reshape(-1, size) for part in all_processes_bytes(features.tobytes())]
    return merged, np.concatenate(parts)


def gather_digests(digests: list[bytes]) -> list[bytes]:
    """Those of all processes, in order."""
    if jax.process_count() == 1:
        return digests
    width = len(digests[0]) if digests else 32
    joined = b"".join(all_processes_bytes(b"".join(digests)))
    return [joined[i : i + width] for i in range(0, len(joined), width)]


def gather_numbers(numbers: np.ndarray) -> np.ndarray:
    """One process' numbers, a picture each -> those of all."""
    if jax.process_count() == 1:
        return numbers
    parts = all_processes_bytes(np.asarray(numbers, np.float64).tobytes())
    return np.concatenate([np.frombuffer(part, np.float64) for part in parts])


def everywhere(holds: bool) -> bool:
    """Whether this holds in all processes."""
    if jax.process_count() == 1:
        return holds
    return all(part == b"yes" for part in all_processes_bytes(b"yes" if holds else b"no"))


def all_processes(array: np.ndarray) -> list[np.ndarray]:
    """The float64 arrays of one shape of all processes, in their order."""
    return [np.frombuffer(part, np.float64) for part in all_processes_bytes(np.float64(array).tobytes())]


def all_processes_bytes(data: bytes) -> list[bytes]:
    """What each process gave. As bytes, because JAX would round float64 to float32 on the way."""
    from jax.experimental.multihost_utils import process_allgather

    lengths: Any = process_allgather(np.int32(len(data)))
    padded = np.zeros(int(np.max(lengths)), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    gathered = np.asarray(process_allgather(padded))
    return [gathered[i, : int(length)].tobytes() for i, length in enumerate(np.ravel(lengths))]
