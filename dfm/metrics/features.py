"""Feature networks and the one way to run them: batches of pictures in, float32 features out, in order.

The last batch is padded and its padding cut off again, so no picture is dropped and one program serves all batches.
Batches are split over this process' devices; several processes extract their own pictures and merge moments later.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dfm.arrays import pad_batch

# A jit option of XLA's CPU backend (jaxlib 0.10): convolutions leave the fusion that makes them half as fast.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
DEVICE_BATCH = {"cpu": 32}
ACCELERATOR_BATCH = 256


@dataclass(frozen=True)
class FeatureNetwork:
    """A net whose features are compared, and what a result must say about it."""

    name: str
    distance: str  # what its Frechet distance is called: `fid` for one net only
    size: int  # features a picture
    params: Any = field(repr=False)
    apply: Callable[[Any, jax.Array], jax.Array] = field(repr=False)  # pictures [n, h, w, c] in 0..255 -> [n, size]
    sha256: str
    resize: str  # names of the steps before the net
    scale: str
    logits: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)  # of features, for IS
    head_sha256: str | None = None
    multiply_adds: int | None = None  # a picture
    side: int | None = None  # of the only pictures that it takes, in pixels; None: any

    def describe(self) -> dict[str, Any]:
        return {"extractor": self.name, "extractor_sha256": self.sha256, "resize": self.resize, "scale": self.scale}


class Extractor:
    """A feature network compiled for one batch size on some devices of this process."""

    def __init__(self, network: FeatureNetwork, batch_size: int | None = None, devices: list[Any] | None = None):
        devices = devices or jax.local_devices()
        platform = devices[0].platform
        wanted = batch_size or DEVICE_BATCH.get(platform, ACCELERATOR_BATCH) * len(devices)
        self.network = network
        self.batch_size = -(-wanted // len(devices)) * len(devices)  # every device gets as many
        mesh = jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)
        self._split = NamedSharding(mesh, PartitionSpec("batch"))
        self._params = jax.device_put(network.params, NamedSharding(mesh, PartitionSpec()))
        options = cpu_options() if platform == "cpu" else None
        self._apply = jax.jit(network.apply, compiler_options=options)

    def start(self, batch: np.ndarray) -> Callable[[], np.ndarray]:
        """Begins with at most `batch_size` pictures; what is returned waits for their features, [n, size]."""
        padded = jax.device_put(pad_batch(batch, self.batch_size), self._split)
        features, count = self._apply(self._params, padded), len(batch)
        return lambda: np.asarray(features, np.float32)[:count]

    def __call__(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Features [n, size] of batches of any length, n at most `batch_size`; one batch is computed ahead."""
        waiting: Callable[[], np.ndarray] | None = None
        for batch in rebatch(batches, self.batch_size):
            started = self.start(batch)
            if waiting:
                yield waiting()
            waiting = started
        if waiting:
            yield waiting()


def rebatch(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same pictures in batches of `size`; the last may be shorter."""
    held: list[np.ndarray] = []
    count = 0
    for batch in batches:
        while len(batch):
            part, batch = batch[: size - count], batch[size - count :]
            held.append(part)
            count += len(part)
            if count == size:
                yield np.concatenate(held) if len(held) > 1 else held[0]
                held, count = [], 0
    if held:
        yield np.concatenate(held)


@functools.cache
def cpu_options() -> dict[str, str] | None:
    """Options for `jax.jit` on a CPU, or None where this jaxlib does not know them."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=CPU_OPTIONS).lower(np.float32(0)).compile()
    except Exception:  # jaxlib raises different kinds from version to version
        return None
    return CPU_OPTIONS
