"""Element-wise activations by name, and pooling, as Sevkovych 2023 defines them (Example 1.1.2, Eq. 1.8 to 1.10)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.shapes import typechecked

LEAKY_SLOPE = 0.2  # Radford et al. 2016, for pictures; the textbooks' 0.01 hardly differs from relu

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda t: jax.nn.leaky_relu(t, LEAKY_SLOPE),
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "identity": lambda t: t,
}
POOLINGS: tuple[str, ...] = ("average", "min", "max")


@typechecked
def pool(
    x: Float[Array, "batch height width channels"], kind: str, window: tuple[int, int], stride: int = 1
) -> Float[Array, "batch new_height new_width channels"]:
    """Average, min or max over windows of (rows, columns) that lie inside of the picture.

    At stride 1 the output has M - p + 1 rows for M rows and a window of p.

    Raises:
        ValueError: another kind, or a window larger than the picture.
    """
    if kind not in POOLINGS:
        raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, not {kind!r}")
    if window[0] > x.shape[1] or window[1] > x.shape[2]:
        raise ValueError(f"a window of {window[0]}x{window[1]} does not fit into {x.shape[1]}x{x.shape[2]}")
    start, combine = {"average": (0.0, jax.lax.add), "min": (jnp.inf, jax.lax.min), "max": (-jnp.inf, jax.lax.max)}[
        kind
    ]
    pooled = jax.lax.reduce_window(x, start, combine, (1, *window, 1), (1, stride, stride, 1), "VALID")
    return pooled / (window[0] * window[1]) if kind == "average" else pooled
