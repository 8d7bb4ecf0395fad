"""All that a training changes, as one tree of arrays: what a step maps to the next, and what a checkpoint holds."""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dfm.training.optimizers import Optimizer

Params = dict[str, Any]
Batch = dict[str, Any]


class Objective(Protocol):
    """What a model is trained for (dfm/objectives)."""

    def init(self, key: Array) -> Params: ...

    def init_latents(self, key: Array, examples: int) -> Array | None: ...

    def __call__(
        self, params: Params, latents: Array | None, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatentTable:
    """One learnable latent for each training picture (Asadi 2022, Algorithm 2).

    Attributes:
        values: [examples, latent_size].
        opt_state: the optimizer's state of each row by itself, so that a row can be updated without the others.
    """

    values: Float[Array, "examples latent_size"]
    opt_state: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of a training after `step` steps.

    Attributes:
        step: number of steps done.
        key: of the whole run; a step uses fold_in(key, step).
        params: groups of parameters by name ("decoder", "encoder").
        ema_params: their moving average, or None where none is kept.
        opt_state: the optimizer's state of each group.
        latents: the table, or None where the model has an encoder.
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    params: Params
    ema_params: Params | None
    opt_state: Any
    latents: LatentTable | None


def initial_state(objective: Objective, optimizer: Optimizer, examples: int, seed: int, ema: bool) -> TrainState:
    """The state before the first step. `examples` is the number of training pictures: the length of a latent table."""
    params_key, latents_key, step_key = jax.random.split(jax.random.key(seed), 3)
    params = objective.init(params_key)
    values = objective.init_latents(latents_key, examples)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=step_key,
        params=params,
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
        opt_state=optimizer.init(params),
        latents=None if values is None else LatentTable(values, optimizer.init_rows(values)),
    )
