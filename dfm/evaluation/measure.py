"""Pictures of a source -> count, moments, features and hash, over all processes; the expensive half of every metric."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from dfm.array_files import hash_pictures, picture_digest
from dfm.errors import UserError
from dfm.evaluation.sources import Source
from dfm.metrics.blas import single_threaded
from dfm.metrics.features import Extractor
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
    """Runs the network over a source; each process takes its share, and all of them get the whole."""
    if source.count < 2:
        raise UserError(f"{source.id}: {source.count} picture; a covariance needs at least 2")
    begin = time.perf_counter()
    start, stop = share(source.count, jax.process_index(), jax.process_count())
    moments, kept = Moments.nothing(extractor.network.size), []
    digests: list[bytes] = []

    def hashed() -> Iterator[np.ndarray]:
        for batch in source.batches(start, stop):
            digests.extend(picture_digest(picture) for picture in batch)
            yield batch

    with single_threaded():  # the net is busy with the next batch meanwhile
        for features in extractor(hashed()):
            if not np.all(np.isfinite(features)):
                raise UserError(f"{source.id}: a feature is NaN or infinite: broken weights or pictures")
            moments = moments.merge(Moments.of(features))
            if keep_features:
                kept.append(features)
            report(len(features))
    if len(digests) != stop - start:
        raise UserError(f"{source.id}: gave {len(digests)} pictures in place of {stop - start}")
    own = np.concatenate(kept) if kept else np.zeros((0, extractor.network.size), np.float32)
    moments, digests, features = gather(moments, digests, own)
    return Measured(
        id=source.id,
        count=moments.count,
        moments=moments,
        sha256=hash_pictures(digests),
        features=features if keep_features else None,
        seconds=time.perf_counter() - begin,
        warnings=list(source.warnings),
    )


def gather(moments: Moments, digests: list[bytes], features: np.ndarray) -> tuple[Moments, list[bytes], np.ndarray]:
    """Moments merged, digests and features put in order, over all processes; every process gets all of it."""
    if jax.process_count() == 1:
        return moments, digests, features
    numbers = np.concatenate([[float(moments.count)], moments.mean, moments.scatter.ravel()])
    size, merged = len(moments.mean), Moments.nothing(len(moments.mean))
    for part in all_processes(numbers):
        merged = merged.merge(Moments(int(part[0]), part[1 : size + 1], part[size + 1 :].reshape(size, size)))
    joined = b"".join(all_processes_bytes(b"".join(digests)))
    width = len(digests[0]) if digests else 32
    parts = [np.frombuffer(part, np.float32).reshape(-1, size) for part in all_processes_bytes(features.tobytes())]
    return merged, [joined[i : i + width] for i in range(0, len(joined), width)], np.concatenate(parts)


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
