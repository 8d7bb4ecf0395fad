"""What a step of a training costs, by XLA's analysis of its loss and gradient: nothing is computed."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dfm.models import fourier_kernels
from dfm.objectives.protocol import Objective


def gradient_operations(objective: Objective, batch_size: int, examples: int = 1) -> float:
    """Floating-point operations of loss and gradient of one batch, the optimizer's left out.

    Additions and multiplications count one each (a product of matrices two an entry of the sum), and so does every
    transcendental function, whatever it takes. XLA counts the body of a loop once, so nothing is looped over here:
    painted pictures go through in one piece, as on an accelerator.

    Args:
        examples: pictures of the training, where their latents are a table.
    """
    model = objective.model
    image = jax.ShapeDtypeStruct((batch_size, model.height, model.width, model.channels), jnp.float32)
    number = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    batch = {"image": image, "label": number, "index": number}
    key = jax.random.key(0)
    params, statistics = jax.eval_shape(objective.init, key), jax.eval_shape(objective.init_statistics, key)
    table = jax.eval_shape(lambda key: objective.init_latents(key, max(examples, batch_size)), key)

    def gradients(params: Any, statistics: Any, table: Array | None, batch: Any) -> Any:
        rows, key = None if table is None else table[:batch_size], jax.random.key(0)
        return objective.gradients(params, statistics, batch, key, objective.phase(0), rows=rows)

    with _in_one_piece():
        return program_operations(gradients, params, statistics, table, batch)


def program_operations(function: Callable, *arguments: Any) -> float:
    """Floating-point operations and transcendental functions of one call, arguments by their shapes.

    Of the program as a CPU would get it, before it is optimised: the same number on every machine.
    """
    with _on_cpu():
        analysis: Any = jax.jit(function).lower(*arguments).cost_analysis()
    return float(analysis["flops"]) + float(analysis.get("transcendentals", 0.0))


def _on_cpu() -> Any:
    """Not every accelerator's client analyses programs."""
    try:
        return jax.default_device(jax.devices("cpu")[0])
    except RuntimeError:  # a process that was told of its accelerator alone (JAX_PLATFORMS)
        return contextlib.nullcontext()


@contextlib.contextmanager
def _in_one_piece() -> Iterator[None]:
    """Within, a CPU paints whole batches at once."""
    before = fourier_kernels.CHUNK_POINTS
    fourier_kernels.CHUNK_POINTS = sys.maxsize
    try:
        yield
    finally:
        fourier_kernels.CHUNK_POINTS = before
