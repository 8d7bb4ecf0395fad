"""The steps of one picture on several cores: each takes a part of the rows and of the latents.

XLA runs the loop over pieces on one core. Where a process has several CPU devices (`jax_num_cpu_devices`; `dfm encode`
asks for one a core), each computes the loss of its part, and gradients are added up once a step. The sums' order, and
so the last bits of a fit, depend on the number of parts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

AXIS = "core"
PART_PIXELS, PART_ROWS = 2**14, 16  # with less a part, what all cores do and what they exchange is most of a step
MOST_PARTS = 8


class Part(NamedTuple):
    """One of the parts of a picture, counted from 0."""

    number: Array | int = 0
    parts: int = 1


def parts_of(height: int, width: int) -> int:
    """Into how many parts a picture goes."""
    if jax.default_backend() != "cpu":
        return 1
    return max(1, min(jax.local_device_count(), MOST_PARTS, height * width // PART_PIXELS, height // PART_ROWS))


def on_all(tree: Any, parts: int) -> Any:
    """Arrays where `in_parts` leaves its results: arguments from elsewhere are one more program to compile."""
    if parts == 1:
        return tree
    return jax.device_put(tree, jax.sharding.NamedSharding(_mesh(parts), jax.P()))


def _mesh(parts: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.local_devices()[:parts]), (AXIS,))


def in_parts(function: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """`function(part, *arguments)` on `parts` cores; its results must be the same on all, as `total` makes them."""
    if parts == 1:
        return lambda *arguments: function(Part(), *arguments)

    def one(*arguments: Any) -> Any:
        return function(Part(jax.lax.axis_index(AXIS), parts), *arguments)

    return jax.shard_map(one, mesh=_mesh(parts), in_specs=jax.P(), out_specs=jax.P(), check_vma=False)


def total(tree: Any, part: Part) -> Any:
    """Sums over all parts, exchanged as one vector."""
    if part.parts == 1:
        return tree
    vector, restored = ravel_pytree(tree)
    return restored(jax.lax.psum(vector, AXIS))
