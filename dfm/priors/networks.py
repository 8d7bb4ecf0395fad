"""Small networks on latents as plain functions of their arrays, and the one training loop of priors that are nets."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dfm.errors import UserError
from dfm.priors.prior import Progress

Params = dict[str, Any]
Examples = tuple[Array, Array]  # latents and labels
ROUNDS = 20  # of a fit, after each of which the held-out latents are asked
HELD_OUT = 10  # every so many-th latent is held out
CLIP_NORM = 10.0  # of gradients


def mlp_init(key: Array, sizes: Sequence[int]) -> Params:
    """{"kernel_0", "bias_0", ...} of dense layers between these sizes: He et al. 2015, and a last layer of zeros."""
    params: Params = {}
    for layer, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        scale = (2.0 / inputs) ** 0.5 if layer < len(sizes) - 2 else 0.0
        params[f"kernel_{layer}"] = scale * jax.random.normal(jax.random.fold_in(key, layer), (inputs, outputs))
        params[f"bias_{layer}"] = jnp.zeros(outputs)
    return params


def mlp(params: Params, x: Float[Array, "*batch inputs"], first_bias: Array | float = 0.0) -> Array:
    """Dense layers with relu between them; `first_bias` joins the first layer's: what a label has to say."""
    for layer in range(len(params) // 2):
        # highest: on a GPU the default is TF32, and a flow is inverted to the last digits only where both ways agree
        x = jnp.matmul(x, params[f"kernel_{layer}"], precision="highest") + params[f"bias_{layer}"]
        x = x + first_bias if layer == 0 else x
        x = jax.nn.relu(x) if layer < len(params) // 2 - 1 else x
    return x


def train(
    loss: Callable[[Params, Array, Array, Array], Float[Array, " batch"]],
    params: Params,
    latents: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None = None,
) -> Params:
    """Adam with a cosine schedule; of the start and the ROUNDS states after it, that of least loss on held-out latents.

    A tenth of the latents is held out: a net of a few thousand latents knows them by heart soon. A round is one
    program on the device: nothing is left to the host but to ask for the next.

    Args:
        steps: rounded up to whole rounds.
        loss: one number a latent, of (params, latents, labels, key).
    """
    import optax

    if steps < 1 or batch_size < 1 or not learning_rate > 0:
        raise UserError("steps and batch_size must be at least 1, learning_rate above 0")
    learned, held_out = _split(latents, labels)
    rounds = min(ROUNDS, steps)
    in_a_round, size = -(-steps // rounds), min(batch_size, len(learned[0]))
    schedule = optax.cosine_decay_schedule(learning_rate, rounds * in_a_round)
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adam(schedule))
    key = jax.random.key(seed)

    @jax.jit
    def one_round(carry: tuple[Params, Any], first: Array, learned: Examples, held_out: Examples):
        def step(carry: tuple[Params, Any], number: Array) -> tuple[tuple[Params, Any], None]:
            params, state = carry
            rows_key, own_key = jax.random.split(jax.random.fold_in(key, number))
            rows = jax.random.randint(rows_key, (size,), 0, len(learned[0]))
            gradients = jax.grad(lambda params: loss(params, learned[0][rows], learned[1][rows], own_key).mean())(
                params
            )
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(step, carry, first + jnp.arange(in_a_round))
        return carry, loss(carry[0], *held_out, key).mean()

    start = float(jax.jit(loss)(params, *held_out, key).mean())
    carry, best, least, converges = (params, optimizer.init(params)), params, start, False
    for number in range(rounds):
        carry, value = one_round(carry, jnp.int32(number * in_a_round), learned, held_out)
        converges |= bool(np.isfinite(value))
        if float(value) < least:
            best, least = carry[0], float(value)
        if progress is not None:
            progress(number + 1, rounds)
    if not converges:
        raise UserError("the prior's fit diverged: take a smaller learning_rate")
    return best


def _split(latents: np.ndarray, labels: np.ndarray) -> tuple[Examples, Examples]:
    """(what is learned from, what is held out), on the device; the same where there are too few to hold some out."""
    held = np.arange(len(latents)) % HELD_OUT == HELD_OUT - 1
    learned, held_out = (~held, held) if held.any() else (~held, ~held)
    first, second = (
        (jnp.asarray(latents[rows], jnp.float32), jnp.asarray(labels[rows], jnp.int32)) for rows in (learned, held_out)
    )
    return first, second
