"""Attention of one head in memory that does not grow with the square of the picture's area."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dfm.shapes import typechecked

SCORES_AT_ONCE = 2**24  # 64 MiB of float32; 4,096 tokens (a 512 x 512 picture at f = 8) still go in one piece


@typechecked
def attend(
    queries: Float[Array, "batch tokens channels"],
    keys: Float[Array, "batch tokens channels"],
    values: Float[Array, "batch tokens channels"],
    scores_at_once: int | None = None,
) -> Float[Array, "batch tokens channels"]:
    """softmax(q k^T / sqrt(channels)) v (Vaswani et al. 2017), softmax in float32 or wider.

    Exact at any number of tokens: where batch x tokens^2 scores are more than `scores_at_once`, the queries go in
    chunks, one after another, each against all keys. The backward pass computes a chunk's scores again.

    Args:
        scores_at_once: None: SCORES_AT_ONCE.
    """
    batch, tokens, channels = queries.shape
    chunk = max(1, (scores_at_once or SCORES_AT_ONCE) // (batch * tokens))
    if chunk >= tokens:
        return _attend(queries, keys, values)
    chunks = -(-tokens // chunk)
    chunk = -(-tokens // chunks)
    padded = jnp.pad(queries, ((0, 0), (0, chunks * chunk - tokens), (0, 0)))
    padded = jnp.moveaxis(padded.reshape(batch, chunks, chunk, channels), 1, 0)
    attended = jax.lax.map(jax.checkpoint(lambda part: _attend(part, keys, values)), padded)
    return jnp.moveaxis(attended, 0, 1).reshape(batch, chunks * chunk, channels)[:, :tokens]


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    wide = jnp.promote_types(queries.dtype, jnp.float32)
    scores = jnp.einsum("bqc,bkc->bqk", queries, keys, preferred_element_type=wide) * queries.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bqk,bkc->bqc", weights, values)
