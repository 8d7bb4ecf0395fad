"""The Fourier layer and net exactly as written in Asadi 2022, Eq. 4.5 and 4.6: the oracle of tests and benchmark.

All 2^m phases of a point come from one matrix product, with a sine and a cosine of each. Works in any float type.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp


def frequency_vectors(m: int) -> list[list[int]]:
    """All k in {0,1}^m, [2^m][m]: bit j of the row index is k_j."""
    return [[row >> j & 1 for j in range(m)] for row in range(2**m)]


def phases(x: jax.Array) -> jax.Array:
    """2 pi k.x for all k: [points, m] -> [points, 2^m]."""
    return 2 * jnp.pi * x @ jnp.asarray(frequency_vectors(x.shape[-1]), x.dtype).T


def basis_functions(x: jax.Array, basis: str) -> jax.Array:
    """What the coefficients of one output multiply: [points, m] -> [points, 2^m], or twice as many for "cos_sin"."""
    cosine, sine = jnp.cos(phases(x)), jnp.sin(phases(x))
    return cosine + sine if basis == "cas" else jnp.concatenate([cosine, sine], -1)


def literal_layer(x: jax.Array, coefficients: Mapping[str, jax.Array]) -> jax.Array:
    """y = sum_k a_k cos(2 pi k.x) + b_k sin(2 pi k.x), plus x where m = n: [points, m] -> [points, n] (Eq. 4.5)."""
    a, b = (coefficients[name] for name in (("cas", "cas") if "cas" in coefficients else ("cos", "sin")))
    y = jnp.cos(phases(x)) @ a + jnp.sin(phases(x)) @ b
    return y + x if x.shape[-1] == y.shape[-1] else y


def literal_net(layers: Sequence[Mapping[str, jax.Array]], x: jax.Array) -> jax.Array:
    """Layer after layer, tanh at the end: [points, inputs] -> [points, channels] (Eq. 4.6)."""
    for layer in layers:
        x = literal_layer(x, layer)
    return jnp.tanh(x)
