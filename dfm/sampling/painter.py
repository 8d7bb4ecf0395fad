"""Latents to pictures and back, in batches of one size over all devices; `draw` is the sampler for large jobs."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from dfm.arrays import padded_batches, to_float, to_uint8
from dfm.errors import UserError
from dfm.models import latent_vectors
from dfm.models.protocol import Model
from dfm.priors.prior import Prior

if TYPE_CHECKING:
    from dfm.training.runs import Run

Pictures = UInt8[np.ndarray, "n height width channel"]
Labels = Int[np.ndarray, " n"] | int | None  # one for all, or one each

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
    labels: Labels = None,
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
        labels: classes of these samples, of a model or a prior that is conditioned on one: one for all, or one each.
        height, width: of the pictures; None: the model's own.
        devices: None: all of this process; as many of them take part as divide the batch size.

    Yields:
        uint8 batches of `batch_size` pictures, the last one of what is left.
    """
    if count < 0 or start < 0 or start + count > MAXIMUM_SAMPLES:
        raise UserError(f"samples {start} to {start + count} are outside 0 to {MAXIMUM_SAMPLES}")
    painter = Painter(run, height, width, batch_size, devices)
    latents = painter.latent_batches(prior, seed, start, count, temperature, labels)
    return painter.paint_batches(latents, count, painter.label_batches(labels, count))


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
        self._variables = jax.device_put(run.variables, self._everywhere)

    def latent_batches(
        self, prior: Prior, seed: int, start: int, count: int, temperature: float = 1.0, labels: Labels = None
    ) -> Iterator[Float[Array, "batch d"]]:
        """Padded batches of samples start, ..., start + count - 1 of the prior's list for this seed.

        The labels are for a prior that has classes; without them it draws its own.
        """
        prior, key = jax.device_put((prior, jax.random.key(seed)), self._everywhere)
        wanted = labels if prior.classes else None
        batches = itertools.repeat(None) if wanted is None else self._labels(wanted, count, prior.classes)
        for first, own in zip(range(0, count, self.batch_size), batches, strict=False):
            # uint64, then wrapped: the padding of the very last batch may run past the last number
            indices = (start + first + np.arange(self.batch_size, dtype=np.uint64)).astype(np.uint32)
            yield prior.sample_at(key, jax.device_put(indices, self._batched), temperature, own)

    def paint_batches(
        self, latents: Iterable[Array], count: int, labels: Iterable[Array | None] = itertools.repeat(None)
    ) -> Iterator[np.ndarray]:
        """uint8 pictures of padded batches of latents, without the padding; one batch ahead of the caller."""
        waiting: Array | None = None
        for batch, their_labels in zip(latents, labels, strict=False):
            # dispatched before the last one is fetched: copying and computing overlap
            painted = _paint(self.run.model, self._variables, batch, their_labels, self.height, self.width)
            if waiting is not None:
                yield to_uint8(waiting)
                count -= len(waiting)
            waiting = painted
        if waiting is not None:
            yield to_uint8(waiting)[:count]

    def paint(self, latents: Float[np.ndarray, "n d"], labels: Labels = None) -> Pictures:
        """Pictures of latents, all at once in the host's memory; labels are for a model that is conditioned on them."""
        return np.concatenate(list(self.paint_pieces(latents, labels)))

    def paint_pieces(self, latents: Float[np.ndarray, "n d"], labels: Labels = None) -> Iterator[Pictures]:
        """The same, a batch at a time."""
        batches = (batch for batch, _ in self._padded(np.asarray(latents, np.float32)))
        return self.paint_batches(batches, len(latents), self.label_batches(labels, len(latents)))

    def encode(self, pictures: Pictures, labels: Labels = None) -> Float[np.ndarray, "n d"]:
        """Latents of pictures of the model's own size, by the run's encoder."""
        model = self.run.model
        if not model.encodes:
            raise UserError("the model of this run has no encoder")
        batches = zip(self._padded(pictures), self.label_batches(labels, len(pictures)), strict=False)
        encoded = [
            np.asarray(_encode(model, self._variables, batch, their_labels))[:count]
            for (batch, count), their_labels in batches
        ]
        return np.concatenate(encoded).astype(np.float32)

    def label_batches(self, labels: Labels, count: int) -> Iterable[Array | None]:
        """Padded batches of labels beside those of latents; UserError where a conditional model has none."""
        classes = self.run.model.classes
        if not classes:
            return itertools.repeat(None)
        if labels is None:
            raise UserError(f"the model of this run is conditioned on a class: name one of 0 to {classes - 1}")
        return self._labels(labels, count, classes)

    def check_size(self) -> None:
        """UserError where the model does not paint pictures of this size: it is traced, and nothing is computed."""
        model, variables = self.run.model, self.run.variables
        if (self.height, self.width) != (model.height, model.width):
            latents = jnp.zeros((1, latent_vectors.latent_size(model)))
            labels = jnp.zeros(1, jnp.int32) if model.classes else None
            decode = functools.partial(latent_vectors.decode, model, height=self.height, width=self.width)
            jax.eval_shape(decode, variables, latents, labels)

    def _labels(self, labels: Labels, count: int, classes: int) -> Iterable[Array]:
        """Padded batches; UserError where there are others than 0 to classes - 1."""
        labels = np.broadcast_to(np.asarray(labels, np.int32), count)
        check_labels(labels, classes)
        return (batch for batch, _ in self._padded(labels))

    def _padded(self, array: np.ndarray) -> Iterator[tuple[Array, int]]:
        """Batches of one size on the devices, and how many rows of each are no padding."""
        for batch, count in padded_batches(array, self.batch_size):
            yield jax.device_put(batch, self._batched), count


def check_labels(labels: Int[np.ndarray, " n"], classes: int) -> None:
    """UserError where there are others than 0 to classes - 1."""
    for label in labels[(labels < 0) | (labels >= classes)]:
        raise UserError(f"the model has classes 0 to {classes - 1}, not {label}")


def _dividing(devices: Sequence[jax.Device] | None, batch_size: int) -> list[jax.Device]:
    """As many of the devices as divide the batch."""
    devices = list(devices or jax.local_devices())
    return devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _paint(model: Model, variables: dict, latents: Array, labels: Array | None, height: int, width: int) -> Array:
    return latent_vectors.decode(model, variables, latents, labels, height, width)


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: Model, variables: dict, pictures: Array, labels: Array | None) -> Array:
    return latent_vectors.encode(model, variables, to_float(pictures), labels)
