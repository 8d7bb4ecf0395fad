"""All that a training changes, as one tree of arrays: what a step maps to the next, and what a checkpoint holds."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dfm.objectives.protocol import Objective, Params, group_of
from dfm.training.optimizers import Optimizer


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
        params: groups of parameters by name ("decoder", "encoder", "discriminator").
        ema_params: moving average of the groups that the objective declares, or None where none is kept.
        opt_state: the optimizer's state of each group that learns.
        latents: the table, or None where there is none.
        statistics: what the objective averages over steps (running batch norms, a codebook), or None.
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    params: Params
    ema_params: Params | None
    opt_state: Any
    latents: LatentTable | None
    statistics: Any = None

    def tree(self) -> dict[str, Any]:
        """As a checkpoint holds it: without `statistics` where there are none, as in checkpoints older than them."""
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in whole.items() if name != "statistics" or part is not None}


def initial_state(objective: Objective, optimizer: Optimizer, examples: int, seed: int, ema: bool) -> TrainState:
    """The state before the first step. `examples` is the number of training pictures: the length of a latent table."""
    params_key, latents_key, step_key = jax.random.split(jax.random.key(seed), 3)
    params = objective.init(params_key)
    values = objective.init_latents(latents_key, examples)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=step_key,
        params=params,
        ema_params=jax.tree.map(jnp.copy, averaged(objective, params)) if ema else None,
        opt_state=optimizer.init(params),
        latents=None if values is None else LatentTable(values, optimizer.init_rows(values)),
        statistics=objective.init_statistics(params_key),
    )


def averaged(objective: Objective, params: Params) -> Params:
    """The groups of which a moving average is kept."""
    return {name: params[name] for name in params if group_of(objective, name).averaged}


def model_statistics(objective: Objective, statistics: Any) -> dict[str, Any]:
    """Those of the statistics that are collections of the model's variables."""
    return {name: statistics[name] for name in objective.model_statistics} if statistics else {}
