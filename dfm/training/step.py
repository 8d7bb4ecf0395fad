"""One step of training: (state, batch) -> (state, metrics), pure, on however many devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dfm.arrays import to_float
from dfm.objectives.protocol import LATENTS, Batch, Metrics, Objective, Params, group_of
from dfm.training.optimizers import Optimizer
from dfm.training.state import LatentTable, TrainState


def with_floats(batch: Batch) -> Batch:
    """The batch with pictures as float32 in [-1, 1]."""
    return {**batch, "image": to_float(batch["image"])} if batch["image"].dtype == jnp.uint8 else batch


def make_step(
    objective: Objective,
    optimizer: Optimizer,
    ema_decay: float = 0.0,
    compute_dtype: str = "float32",
    accumulation_steps: int = 1,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The step of this objective. Its metrics are means over the batch; norms of gradients and parameters join them.

    Nothing that is not finite stays unseen: it shows in the loss, a metric or a norm of the same step.

    Args:
        accumulation_steps: the batch is worked off in as many parts, of which gradients and metrics are the means.

    Returns:
        step(state, batch, phase); the phase is `objective.phase(step)`, a static argument under jit. None: that of 0.
    """

    def step(state: TrainState, batch: Batch, phase: str | None = None) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        table, index = state.latents, batch["index"]
        old_rows = None if table is None else table.values[index]

        def part(statistics: Any, rows: Array | None, batch: Batch, key: Array):
            now = objective.phase(0) if phase is None else phase
            return objective.gradients(state.params, statistics, with_floats(batch), key, now, compute_dtype, rows)

        metrics, gradients, statistics = accumulate(part, accumulation_steps, state.statistics, old_rows, batch, key)
        row_gradients = gradients.pop(LATENTS, None)
        params, opt_state = state.params, state.opt_state
        for player, names in players(objective, gradients).items():
            own = {name: gradients[name] for name in names}
            params, opt_state, norm = optimizer.update(own, opt_state, params, state.step)
            metrics[f"{player}gradient_norm"] = norm
        metrics["parameter_norm"] = optax.tree.norm(params)
        if table is not None and old_rows is not None:
            # rows of other pictures stay untouched, bit for bit: values and moments (the updates are lazy)
            row_state = jax.tree.map(lambda leaf: leaf[index], table.opt_state)
            rows, row_state = optimizer.update_rows(row_gradients, row_state, old_rows, state.step)
            metrics["latent_gradient_norm"] = optax.tree.norm(row_gradients)
            metrics["latent_norm"] = optax.tree.norm(rows)
            table = LatentTable(
                table.values.at[index].set(rows),
                jax.tree.map(lambda leaf, new: leaf.at[index].set(new), table.opt_state, row_state),
            )
        ema_params = moving_average(state.ema_params, params, state.step, ema_decay)
        return TrainState(state.step + 1, state.key, params, ema_params, opt_state, table, statistics), metrics

    return step


def players(objective: Objective, gradients: Params) -> dict[str, list[str]]:
    """The groups of each player, by the prefix of its metrics: norms, and clipping, are of each player by itself."""
    found: dict[str, list[str]] = {}
    for name in gradients:
        found.setdefault(group_of(objective, name).player, []).append(name)
    return found


def accumulate(part: Callable, count: int, statistics: Any, rows: Array | None, batch: Batch, key: Array):
    """part(statistics, rows, batch, key) over `count` parts of the batch, one after another: means, last statistics.

    A Python loop: inside of lax.scan, XLA's CPU backend computes the gradients of convolutions by a naive loop.
    """
    if count == 1:
        return part(statistics, rows, batch, key)
    total: Any = None
    found_rows = []
    for i in range(count):
        # every count-th example, so that each device gives an equal share of its own; only when the last part is done
        piece = jax.tree.map(lambda leaf: leaf[i::count], (rows, batch))  # noqa: B023
        piece, total = jax.lax.optimization_barrier((piece, total))
        metrics, gradients, statistics = part(statistics, *piece, jax.random.fold_in(key, i))
        metrics, gradients = jax.tree.map(lambda leaf: leaf / count, (metrics, gradients))
        if rows is not None:
            found_rows.append(gradients.pop(LATENTS))
        mine = metrics, gradients
        total = mine if total is None else jax.tree.map(jnp.add, total, mine)
    metrics, gradients = total
    if rows is not None:
        gradients = {**gradients, LATENTS: jnp.stack(found_rows, axis=1).reshape(rows.shape)}
    return metrics, gradients, statistics


def moving_average(average: Params | None, params: Params, step: Array, decay: float) -> Params | None:
    """decay average + (1 - decay) params, where the decay rises as (1 + step) / (10 + step) at first.

    Otherwise the start would weigh exp(-steps (1 - decay)) in it: most of a run of a few thousand steps at 0.999.
    """
    if average is None:
        return None
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1.0 - now) * (p - a), average, {name: params[name] for name in average})
