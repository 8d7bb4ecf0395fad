"""The steps of a training one after another: a batch from the host each, or several in one call of the devices.

A step of a small net takes an accelerator no longer than Python takes to hand over a batch and to start it (about a
millisecond). With `steps_per_call`, all pictures lie on the devices, which step by step gather those whose numbers they
are told, and the host looks at the results of many steps at once. The numbers are those of single steps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from dfm.data import Batches
from dfm.errors import UserError
from dfm.objectives.protocol import Metrics
from dfm.training.latent_cache import is_constant
from dfm.training.sharding import on_each_device, place_batch, split_over_devices
from dfm.training.state import TrainState

MOST_BYTES = 4 * 2**30  # of pictures that may lie on a device
Taken = tuple[TrainState, Metrics, int]  # the new state; metrics, [count] each; count of steps


class SingleSteps:
    """A batch of the host's a step, made ahead.

    Args:
        step: of dfm/training/step.py.
        batches: with `prefetch`.
        total: steps of the training; the first is that after `start` steps.
    """

    def __init__(self, step: Callable, batches: Any, phase: Callable[[int], str], mesh: Mesh, start: int, total: int):
        self._step = _on_mesh(step, mesh)
        self._stream, self._phase, self._mesh = batches.prefetch(start, total), phase, mesh

    def take(self, state: TrainState, done: int) -> Taken:
        """The step after `done` steps; UserError for a picture that is damaged."""
        state, metrics = self._step(state, place_batch(next(self._stream), self._mesh), self._phase(done))
        return state, metrics, 1

    def close(self) -> None:
        self._stream.close()


class StepsTogether:
    """`count` steps a call, on pictures that lie on the devices; fewer, one by one, in front of a boundary.

    Args:
        boundaries: multiples of these numbers of steps, and the last step, end a call.
    """

    def __init__(
        self,
        step: Callable,
        batches: Batches,
        phase: Callable[[int], str],
        mesh: Mesh,
        total: int,
        count: int,
        boundaries: list[int],
    ):
        check_together(batches)
        self._batches, self._phase, self._mesh = batches, phase, mesh
        self._total, self._count, self._boundaries = total, count, boundaries
        dataset = batches.dataset
        everything = dataset.take(np.arange(len(dataset))), dataset.labels
        self._pictures = jax.device_put(everything, on_each_device(mesh))
        self._one, self._many = _on_mesh(step, mesh), _on_mesh(_many(step, mesh), mesh)

    def take(self, state: TrainState, done: int) -> Taken:
        """The steps after `done` steps, up to `count`."""
        last = done + self._count
        room = min([self._total, *((done // every + 1) * every for every in self._boundaries)])
        phase = self._phase(done)
        if last > room or any(self._phase(step) != phase for step in range(done, last)):
            state, metrics = self._one(state, place_batch(self._batches.at(done), self._mesh), phase)
            return state, metrics, 1
        indices = np.stack([self._batches.examples(step) for step in range(done, last)])
        state, metrics = self._many(state, (*self._pictures, indices), phase)
        return state, metrics, self._count

    def close(self) -> None:
        """Nothing is left behind."""


def check_together(batches: Batches) -> None:
    """UserError where these pictures cannot lie on the devices."""
    if batches.process_count > 1 or not is_constant(batches):
        why = "there are several processes" if batches.process_count > 1 else "of dataset.crop or dataset.flip"
        raise UserError(f"config: steps_per_call above 1 takes pictures as they are from one process: {why}")
    size = len(batches.dataset) * int(np.prod(batches.picture_shape)) * batches.dataset.take(np.arange(1)).itemsize
    if size > MOST_BYTES:
        raise UserError(f"config: steps_per_call above 1 puts all {size / 2**30:.0f} GiB of pictures on each device")


def _many(step: Callable, mesh: Mesh) -> Callable:
    """step over the batches that rows of indices [count, batch] name."""

    def many(state: TrainState, data: tuple[Array, Array, Int[Array, "count batch"]], phase: str):
        images, labels, indices = data

        def one(state: TrainState, index: Int[Array, " batch"]) -> tuple[TrainState, Metrics]:
            batch = {"image": jnp.take(images, index, 0), "label": jnp.take(labels, index), "index": index}
            split = split_over_devices(mesh)
            return step(state, {name: jax.lax.with_sharding_constraint(x, split) for name, x in batch.items()}, phase)

        return jax.lax.scan(one, state, indices)

    return many


def _on_mesh(step: Callable, mesh: Mesh) -> Callable:
    """Compiled; the state that it is given is given up."""
    return jax.jit(step, donate_argnums=0, static_argnums=2, out_shardings=on_each_device(mesh))
