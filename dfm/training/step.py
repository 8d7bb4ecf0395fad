"""One step of training: (state, batch) -> (state, metrics), pure, on however many devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dfm.pictures import to_float
from dfm.training.optimizers import Optimizer
from dfm.training.state import Batch, LatentTable, Objective, Params, TrainState

Metrics = dict[str, Array]


def loss_and_gradients(
    objective: Objective, params: Params, rows: Array | None, batch: Batch, key: Array, compute_dtype: str = "float32"
) -> tuple[Metrics, Params, Array | None]:
    """(means over the batch of loss and metrics, gradients of the mean loss for the parameters, and for the rows).

    Args:
        rows: the latents of this batch's pictures, or None where the model has an encoder.
        batch: "image" is uint8 or float32; the objective gets float32 in [-1, 1].
        compute_dtype: what parameters and rows are cast to inside the loss; gradients are float32, as they are.
    """
    if batch["image"].dtype == jnp.uint8:
        batch = {**batch, "image": to_float(batch["image"])}

    def mean_loss(params: Params, rows: Array | None) -> tuple[Array, Metrics]:
        losses, metrics = objective(_cast(params, compute_dtype), _cast(rows, compute_dtype), batch, key)
        metrics = {"loss": losses, **metrics}
        means = {name: values.astype(jnp.float32).mean() for name, values in metrics.items()}
        return means["loss"], means

    gradients, means = jax.grad(mean_loss, argnums=(0, 1), has_aux=True)(params, rows)
    return means, *gradients


def make_step(
    objective: Objective, optimizer: Optimizer, ema_decay: float = 0.0, compute_dtype: str = "float32"
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step of this objective. Its metrics are means over the batch; norms of gradients and parameters join them.

    Nothing that is not finite stays unseen: it shows in the loss, a metric or a norm of the same step.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        table, index = state.latents, batch["index"]
        old_rows = None if table is None else table.values[index]
        metrics, gradients, row_gradients = loss_and_gradients(
            objective, state.params, old_rows, batch, key, compute_dtype
        )  # fmt: skip
        params, opt_state, norm = optimizer.update(gradients, state.opt_state, state.params, state.step)
        metrics |= {"gradient_norm": norm, "parameter_norm": optax.tree.norm(params)}
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
        return TrainState(state.step + 1, state.key, params, ema_params, opt_state, table), metrics

    return step


def moving_average(average: Params | None, params: Params, step: Array, decay: float) -> Params | None:
    """decay average + (1 - decay) params, where the decay rises as (1 + step) / (10 + step) at first.

    Otherwise the start would weigh exp(-steps (1 - decay)) in it: most of a run of a few thousand steps at 0.999.
    """
    if average is None:
        return None
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1.0 - now) * (p - a), average, params)


def _cast(tree: Any, dtype: str) -> Any:
    if dtype == "float32":
        return tree
    floating = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if floating(leaf) else leaf, tree)
