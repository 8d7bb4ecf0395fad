"""Latents of new pictures: z optimised for each picture with the decoder frozen, from several starts at once."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dfm import registry
from dfm.arrays import padded_batches, to_float
from dfm.errors import UserError
from dfm.metrics.picture_quality import FLOAT_PEAK, decibels
from dfm.models import latent_vectors
from dfm.models.protocol import Model
from dfm.sampling.painter import Pictures
from dfm.sampling.run_data import ENCODER, RunData

STEPS = 300
STARTS = 4
LEARNING_RATE = 0.1  # in standard deviations of the training latents, where the cosine schedule of Adam begins
ROWS = 64  # latents optimised at once, all starts of a picture counted
REPORT_EVERY = 10

Progress = Callable[[int, int, float], None]


class Inversion(NamedTuple):
    """What was found; mean squared errors over pixels and channels, on the scale [-1, 1]."""

    latents: Float[np.ndarray, "n d"]
    mse: Float[np.ndarray, " n"]
    start_mse: Float[np.ndarray, " n"]  # of the best start


class State(NamedTuple):
    """Where the rows are, and the best place that each has been at."""

    z: Float[Array, "rows d"]
    opt_state: Any
    best_z: Float[Array, "rows d"]
    best_loss: Float[Array, " rows"]


def invert(
    data: RunData,
    pictures: Pictures,
    *,
    steps: int = STEPS,
    starts: int = STARTS,
    optimizer: str = "adam",
    progress: Progress | None = None,
) -> Inversion:
    """The latent that paints each picture best, by its mean squared error alone.

    Starts are what the encoder says, where there is one, or else the mean latent; then the latents of the nearest
    training pictures, or draws from N(0, I), the same for all, where training pictures have none. Every start runs
    through all steps, and the best latent met on the way is kept. A picture's result does not depend on the other
    pictures, but for float rounding.

    Args:
        steps: of the optimiser; 0 gives the best start.
        starts: for each picture.
        optimizer: "adam" (a step costs one gradient) or "lbfgs" (several, by its line search, and worth more).
        progress: called with steps done, steps in all, and the PSNR in dB so far of the group at work.
    """
    if steps < 0 or starts < 1 or len(pictures) == 0:
        raise UserError(f"no inversion of {len(pictures)} pictures with {steps} steps from {starts} starts")
    registry.check("optimizer", optimizer, OPTIMIZERS)
    check_invertible(data.run.model)
    group = min(len(pictures), max(1, ROWS // starts))
    groups = -(-len(pictures) // group)
    found = []
    for number, (padded, count) in enumerate(padded_batches(pictures, group)):

        def report(done: int, decibels: float, before: int = number * steps) -> None:
            if progress is not None:
                progress(before + done, groups * steps, decibels)

        result = _invert_group(data, padded, _starts(data, padded, starts), optimizer, steps, report)
        found.append([part[:count] for part in result])
    return Inversion(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def check_invertible(model: Model) -> None:
    """UserError where latents are not found by inversion."""
    if model.classes:
        raise UserError("the model of this run is conditioned on a class: its latents are not found by inversion")


def _starts(data: RunData, pictures: Pictures, count: int) -> Float[np.ndarray, "n count d"]:
    if not data.training_has_latents:
        drawn = np.random.default_rng(0).normal(size=(count, latent_vectors.latent_size(data.run.model)))
        drawn[0] = 0
        return np.broadcast_to(drawn.astype(np.float32), (len(pictures), *drawn.shape))
    if data.latents_by(of_training=False) == ENCODER:
        first = data.painter.encode(pictures)
    else:
        mean = data.training_latents.mean(0)
        first = np.broadcast_to(mean, (len(pictures), len(mean)))
    first = first[:, None].astype(np.float32)
    if count == 1:
        return first
    nearest = data.nearest_in_training(pictures, min(count - 1, len(data.train)))
    others = data.latents_of_training(nearest.reshape(-1)).reshape(*nearest.shape, -1)
    return np.concatenate([first, others], 1)


def _invert_group(
    data: RunData,
    pictures: Pictures,
    starts: Float[np.ndarray, "n starts d"],
    optimizer: str,
    steps: int,
    report: Callable[[int, float], None],
) -> list[np.ndarray]:
    """The fields of `Inversion` for pictures that are optimised side by side."""
    count = starts.shape[1]
    targets = jnp.repeat(to_float(jnp.asarray(pictures)), count, axis=0)
    model, variables = data.run.model, data.run.variables
    state = _first_state(model, optimizer, variables, jnp.asarray(starts.reshape(-1, starts.shape[-1])), targets)
    start_mse = np.asarray(state.best_loss).reshape(-1, count).min(1)
    for step in range(steps):
        learning_rate = LEARNING_RATE * data.latent_scale * 0.5 * (1 + math.cos(math.pi * step / steps))
        state = _step(model, optimizer, variables, state, targets, learning_rate)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            report(step + 1, decibels(float(np.asarray(state.best_loss).reshape(-1, count).min(1).mean()), FLOAT_PEAK))
    state = _finish(model, variables, state, targets)
    losses = np.asarray(state.best_loss).reshape(-1, count)
    best = np.where(np.isfinite(losses), losses, np.inf).argmin(1)
    rows = np.arange(len(pictures))
    return [np.asarray(state.best_z).reshape(len(pictures), count, -1)[rows, best], losses[rows, best], start_mse]


OPTIMIZERS = ("adam", "lbfgs")


def _losses(model: Model, variables: dict, z: Float[Array, "rows d"], targets: Array) -> Float[Array, " rows"]:
    painted = latent_vectors.decode(model, variables, z)
    return jnp.square(painted - targets).mean((1, 2, 3))


def _row_loss(model: Model, variables: dict, z: Float[Array, " d"], target: Array) -> Float[Array, ""]:
    return _losses(model, variables, z[None], target[None])[0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _first_state(model: Model, optimizer: str, variables: dict, z: Array, targets: Array) -> State:
    # Adam works on each number by itself, so that all rows may share one state
    opt_state = optax.scale_by_adam().init(z) if optimizer == "adam" else jax.vmap(optax.lbfgs().init)(z)
    return State(z, opt_state, z, _losses(model, variables, z, targets))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(model: Model, optimizer: str, variables: dict, state: State, targets: Array, learning_rate: Array) -> State:
    """One step of every row; L-BFGS ignores the learning rate, as it finds its own by a line search."""
    step = _adam_step if optimizer == "adam" else _lbfgs_step
    losses, updates, opt_state = step(model, variables, state, targets)
    updates = -learning_rate * updates if optimizer == "adam" else updates
    return _keep_best(state, losses)._replace(z=state.z + updates, opt_state=opt_state)


def _adam_step(model: Model, variables: dict, state: State, targets: Array) -> tuple[Array, Array, Any]:
    """Losses, directions, and the optimiser's state: rows side by side, as in training."""

    def total(z: Array) -> tuple[Array, Array]:
        losses = _losses(model, variables, z, targets)
        return losses.sum(), losses  # the sum, so that no row feels the others

    (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(state.z)
    updates, opt_state = optax.scale_by_adam().update(gradient, state.opt_state)
    return losses, updates, opt_state


def _lbfgs_step(model: Model, variables: dict, state: State, targets: Array) -> tuple[Array, Array, Any]:
    """The same, each row a problem of its own with a line search of its own."""

    def row_step(z: Array, opt_state: Any, target: Array) -> tuple[Array, Array, Any]:
        def value_fn(z: Array) -> Array:
            return _row_loss(model, variables, z, target)

        loss, gradient = jax.value_and_grad(value_fn)(z)
        updates, opt_state = optax.lbfgs().update(gradient, opt_state, z, value=loss, grad=gradient, value_fn=value_fn)
        return loss, updates, opt_state

    return jax.vmap(row_step)(state.z, state.opt_state, targets)


@functools.partial(jax.jit, static_argnums=0)
def _finish(model: Model, variables: dict, state: State, targets: Array) -> State:
    """A step measures the latents that it is given; this measures those that the last step has made."""
    return _keep_best(state, _losses(model, variables, state.z, targets))


def _keep_best(state: State, losses: Float[Array, " rows"]) -> State:
    better = losses < state.best_loss  # false for a NaN
    best_z = jnp.where(better[:, None], state.z, state.best_z)
    return state._replace(best_z=best_z, best_loss=jnp.where(better, losses, state.best_loss))
