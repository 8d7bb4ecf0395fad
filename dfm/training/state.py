"""All that a training changes, as one tree of arrays: what a step maps to the next, and what a checkpoint holds."""

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dfm.training.optimizers import Optimizer

TRAINING_ONLY = ("discriminator", "log_variance")  # groups of parameters that no finished model has

Params = dict[str, Any]
Batch = dict[str, Any]


class Objective(Protocol):
    """What a model is trained for (dfm/objectives): one loss a picture."""

    def init(self, key: Array) -> Params: ...

    def init_latents(self, key: Array, examples: int) -> Array | None: ...

    def __call__(
        self, params: Params, latents: Array | None, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]: ...


@runtime_checkable
class GradientObjective(Protocol):
    """What several players train for, each with a loss of its own: it gives gradients in place of a loss.

    `phase(step)` says what the step after `step` steps does; each phase is compiled by itself. `frozen_groups` are
    groups of parameters without gradients. `init_statistics` and what `gradients` returns last: what it averages.
    """

    @property
    def frozen_groups(self) -> tuple[str, ...]: ...

    @property
    def needs_lpips(self) -> bool: ...

    def check_pictures(self, shape: tuple[int, int, int]) -> None: ...

    def init(self, key: Array) -> Params: ...

    def init_latents(self, key: Array, examples: int) -> Array | None: ...

    def init_statistics(self) -> Any: ...

    def phase(self, step: int) -> str: ...

    def gradients(
        self, params: Params, statistics: Any, batch: Batch, key: Array, phase: str, compute_dtype: str
    ) -> tuple[dict[str, Array], Params, Any]: ...


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
        ema_params: moving average of the groups that learn and outlive the training, or None where none is kept.
        opt_state: the optimizer's state of each group that learns.
        latents: the table, or None where the model has an encoder.
        statistics: what the objective averages over steps (a discriminator's batch norms), or None.
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


def initial_state(
    objective: Objective | GradientObjective, optimizer: Optimizer, examples: int, seed: int, ema: bool
) -> TrainState:
    """The state before the first step. `examples` is the number of training pictures: the length of a latent table."""
    params_key, latents_key, step_key = jax.random.split(jax.random.key(seed), 3)
    params = objective.init(params_key)
    values = objective.init_latents(latents_key, examples)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=step_key,
        params=params,
        ema_params=jax.tree.map(jnp.copy, averaged(params, optimizer)) if ema else None,
        opt_state=optimizer.init(params),
        latents=None if values is None else LatentTable(values, optimizer.init_rows(values)),
        statistics=objective.init_statistics() if isinstance(objective, GradientObjective) else None,
    )


def averaged(params: Params, optimizer: Optimizer) -> Params:
    """The groups of which a moving average is kept: those that learn, and are of use after the training."""
    return {name: params[name] for name in params if name in optimizer.groups and name not in TRAINING_ONLY}
