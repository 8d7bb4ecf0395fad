"""The rank of a function's Jacobian: of how many dimensions the image of a decoder is, near a latent."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def singular_values(
    function: Callable[[Float[Array, "1 d"]], Array], latents: Float[Array, "n d"]
) -> Float[np.ndarray, "n k"]:
    """Of d function / d latent at each latent by itself, the largest first; k = min(d, numbers that it returns)."""

    @jax.jit
    def one(latent: Float[Array, " d"]) -> Array:
        jacobian = jax.jacfwd(lambda z: function(z[None]).reshape(-1))(latent)
        return jnp.linalg.svd(jacobian.astype(jnp.float32), compute_uv=False)

    # a Python loop: inside of a loop of XLA's, its CPU backend computes convolutions naively
    return np.stack([np.asarray(one(latent), np.float64) for latent in latents])


def ranks(values: Float[np.ndarray, "n k"], numbers: int) -> Float[np.ndarray, " n"]:
    """How many singular values are no rounding: above the largest times `numbers` times float32's unit.

    Args:
        numbers: the larger side of the Jacobians (NumPy's rule of matrix_rank).
    """
    threshold = values[:, :1] * numbers * np.finfo(np.float32).eps
    return (values > threshold).sum(1).astype(np.float64)


def effective_ranks(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """(sum s^2)^2 / sum s^4: k where all directions stretch alike, near 1 where one of them is all."""
    squares = np.square(values)
    return np.square(squares.sum(1)) / np.maximum(np.square(squares).sum(1), np.finfo(np.float64).tiny)
