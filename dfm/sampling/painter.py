"""Latents to pictures and back, in batches of one size over all devices; `draw` is the sampler for large jobs."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, UInt8

from dfm.arrays import padded_batches, to_float, to_uint8
from dfm.errors import UserError
from dfm.priors.prior import Prior

if TYPE_CHECKING:
    from dfm.training.runs import Run

Pictures = UInt8[np.ndarray, "n height width channel"]

# Pictures of the model's own size at once, unless asked otherwise; larger paintings take fewer.
BATCH_SIZE = 64
MAXIMUM_SAMPLES = 2**32  # a sample's number is folded into its key as 32 bits


def draw(
    run: "Run",
    prior: Prior,
    seed: int,
    start: int,
    count: int,
    batch_size: int = BATCH_SIZE,
    *,
    temperature: float = 1.0,
    height: int | None = None,
    width: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[Pictures]:
    """Samples start, ..., start + count - 1 of the endless list that belongs to (run, prior, seed, temperature).

    Sample i depends on (seed, i) alone: batch size and devices change no pixel by more than float rounding, and a job
    may be cut into ranges.

    Args:
        batch_size: pictures at once; compiled for this size only, so the last batch is padded and then cut.
        temperature: factor of the latents' deviations, see `Prior.sample`.
        height, width: of the pictures; None: the model's own.
        devices: None: all of this process; as many of them take part as divide the batch size.

    Yields:
        uint8 batches of `batch_size` pictures, the last one of what is left.
    """
    if count < 0 or start < 0 or start + count > MAXIMUM_SAMPLES:
        raise UserError(f"samples {start} to {start + count} are outside 0 to {MAXIMUM_SAMPLES}")
    painter = Painter(run, height, width, batch_size, devices)
    return painter.paint_batches(painter.latent_batches(prior, seed, start, count, temperature), count)


class Painter:
    """Encodes and decodes with the parameters of a run.

    Attributes:
        height, width: of the pictures that it paints.
        batch_size: latents or pictures at once.
    """

    def __init__(
        self,
        run: "Run",
        height: int | None = None,
        width: int | None = None,
        batch_size: int | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.run = run
        self.height, self.width = height or run.model.height, width or run.model.width
        if batch_size is None:
            batch_size = max(1, BATCH_SIZE * run.model.height * run.model.width // (self.height * self.width))
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        mesh = Mesh(np.array(_dividing(devices, batch_size)), ("batch",))
        self._batched, self._everywhere = NamedSharding(mesh, jax.P("batch")), NamedSharding(mesh, jax.P())
        self._params = jax.device_put(run.params, self._everywhere)

    def latent_batches(
        self, prior: Prior, seed: int, start: int, count: int, temperature: float = 1.0
    ) -> Iterator[Float[Array, "batch d"]]:
        """Padded batches of samples start, ..., start + count - 1 of the prior's list for this seed."""
        prior, key = jax.device_put((prior, jax.random.key(seed)), self._everywhere)
        for first in range(0, count, self.batch_size):
            # uint64, then wrapped: the padding of the very last batch may run past the last number
            indices = (start + first + np.arange(self.batch_size, dtype=np.uint64)).astype(np.uint32)
            yield prior.sample_at(key, jax.device_put(indices, self._batched), temperature)

    def paint_batches(self, latents: Iterable[Array], count: int) -> Iterator[np.ndarray]:
        """uint8 pictures of padded batches of latents, without the padding; one batch ahead of the caller."""
        waiting: Array | None = None
        for batch in latents:
            # dispatched before the last one is fetched: copying and computing overlap
            painted = _paint(self.run.model, self._params, batch, self.height, self.width)
            if waiting is not None:
                yield to_uint8(waiting)
                count -= len(waiting)
            waiting = painted
        if waiting is not None:
            yield to_uint8(waiting)[:count]

    def paint(self, latents: Float[np.ndarray, "n d"]) -> Pictures:
        """Pictures of latents, all at once in the host's memory."""
        return np.concatenate(list(self.paint_pieces(latents)))

    def paint_pieces(self, latents: Float[np.ndarray, "n d"]) -> Iterator[Pictures]:
        """The same, a batch at a time."""
        batches = (batch for batch, _ in self._padded(np.asarray(latents, np.float32)))
        return self.paint_batches(batches, len(latents))

    def encode(self, pictures: Pictures) -> Float[np.ndarray, "n d"]:
        """Latents of pictures of the model's own size, by the run's encoder."""
        if not has_encoder(self.run):
            raise UserError("this run has a table of latents and no encoder")
        batches = self._padded(pictures)
        encoded = [np.asarray(_encode(self.run.model, self._params, batch))[:count] for batch, count in batches]
        return np.concatenate(encoded).astype(np.float32)

    def _padded(self, array: np.ndarray) -> Iterator[tuple[Array, int]]:
        """Batches of one size on the devices, and how many rows of each are no padding."""
        for batch, count in padded_batches(array, self.batch_size):
            yield jax.device_put(batch, self._batched), count


def has_encoder(run: "Run") -> bool:
    """Whether new pictures get their latents from an encoder, and not from a table."""
    return run.latents is None


def _dividing(devices: Sequence[jax.Device] | None, batch_size: int) -> list[jax.Device]:
    """As many of the devices as divide the batch."""
    devices = list(devices or jax.local_devices())
    return devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _paint(model: Any, params: dict, latents: Array, height: int, width: int) -> Array:
    return model.apply({"params": params}, latents, height, width, method="decode")


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: Any, params: dict, pictures: Array) -> Array:
    return model.apply({"params": params}, to_float(pictures), method="encode")
