"""How much a function can stretch a small step: its local Lipschitz constant, the Jacobian's largest singular value."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dfm.shapes import typechecked

ITERATIONS = 20
Function = Callable[[Array], Array]


@typechecked
def local_lipschitz(
    function: Function, points: Float[Array, "batch *inputs"], key: Key[Array, ""], iterations: int = ITERATIONS
) -> Float[Array, " batch"]:
    """max |J v| / |v| at each point, J the Jacobian of `function`, by power iteration on J^T J: v <- J^T J v / |...|.

    ||f(z + d) - f(z)|| <= L ||d|| + O(||d||^2). The estimate never exceeds L and grows with the iterations, each of
    which costs a jvp and a vjp; a large gap to the second singular value makes it quick.

    Args:
        function: of a batch, each example by itself (no batch norm), differentiable.
        key: of the first directions.
    """
    step = jax.jit(lambda z, v: _step(function, z, v))
    directions = _unit(jax.random.normal(key, points.shape, points.dtype))
    found = jnp.zeros(len(points), points.dtype)
    # a Python loop: inside of a loop of XLA's, its CPU backend computes convolutions naively
    for _ in range(iterations):
        found, directions = step(points, directions)
    return found


def _step(function: Function, z: Array, v: Array) -> tuple[Array, Array]:
    """(|J v|, J^T J v / |J^T J v|)."""
    _, image = jax.jvp(function, (z,), (v,))
    _, pull_back = jax.vjp(function, z)
    return _norm(image).reshape(len(z)), _unit(pull_back(image)[0])


def _norm(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)), keepdims=True))


def _unit(x: Array) -> Array:
    return x / jnp.maximum(_norm(x), jnp.finfo(x.dtype).tiny)
