"""What a model's parts cost, and of how many dimensions its pictures are near a latent: of any model."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from dfm.evaluation.metric import MODEL, Inputs, Metric, Value, no_value
from dfm.metrics.jacobian import effective_ranks, ranks, singular_values
from dfm.models import latent_vectors
from dfm.training.cost import program_operations

RANKED = 8  # latents at which the Jacobian is taken
MOST_NUMBERS = 1024  # of a latent whose Jacobian is taken


def _decoder_rank(inputs: Inputs) -> dict[str, Value]:
    """Mean rank of the decoder's Jacobian at samples of the prior: at most the numbers of a latent."""
    assert inputs.data is not None and inputs.prior is not None
    run = inputs.data.run
    model, size = run.model, latent_vectors.latent_size(run.model)
    if size > MOST_NUMBERS:
        return {"decoder_rank": no_value(f"latents of more than {MOST_NUMBERS:,} numbers", latent_size=size)}
    labels = jnp.zeros(1, jnp.int32) if model.classes else None
    drawn = inputs.prior.sample(jax.random.key(inputs.seed), RANKED)
    decode = functools.partial(latent_vectors.decode, model, run.variables, labels=labels)
    found = singular_values(decode, drawn)
    numbers = max(size, model.height * model.width * model.channels)
    each = ranks(found, numbers)
    details = {
        "latent_size": size,
        "count": RANKED,
        "effective": float(effective_ranks(found).mean()),
        "largest_singular_value": float(found[:, 0].mean()),
        "label": 0 if model.classes else None,
    }
    return {"decoder_rank": Value(float(each.mean()), float(each.std()), "latents", details)}


def _cost(inputs: Inputs) -> dict[str, Value]:
    """Operations of encoding and decoding one picture, by XLA's analysis, and how much smaller its latents are.

    A fully convolutional model of downsampling factor f has latents of 1 / f^2 of the picture's positions, and so has a
    generator of latents that works position by position.
    """
    assert inputs.data is not None
    run = inputs.data.run
    model, numbers = run.model, latent_vectors.latent_size(run.model)
    pixels = model.height * model.width
    shapes = jax.tree.leaves(model.latent_shape, is_leaf=lambda x: isinstance(x, tuple) and isinstance(x[0], int))
    positions = sum(math.prod(shape[:-1]) for shape in shapes)
    details = {
        "latent_numbers": numbers,
        "latent_positions": positions,
        "pixels": pixels,
        "numbers_ratio": pixels * model.channels / numbers,
        "positions_ratio": pixels / positions,
    }
    labels = jax.ShapeDtypeStruct((1,), jnp.int32) if model.classes else None
    image = jax.ShapeDtypeStruct((1, model.height, model.width, model.channels), jnp.float32)
    latent = jax.ShapeDtypeStruct((1, numbers), jnp.float32)
    found = {"decode_operations": Value(_operations(latent_vectors.decode, run, latent, labels), details=details)}
    if model.encodes:
        found["encode_operations"] = Value(_operations(latent_vectors.encode, run, image, labels), details=details)
    return found


def _operations(function: Any, run: Any, *arguments: Any) -> float:
    variables = jax.eval_shape(lambda: run.variables)
    return program_operations(functools.partial(function, run.model), variables, *arguments)


DECODER_METRICS: dict[str, Metric] = {
    "decoder_rank": Metric(
        _decoder_rank, "rank of the decoder's Jacobian at samples", MODEL, ("decoder",), reference=False, prior=True
    ),
    "cost": Metric(_cost, "operations of encoding and decoding a picture", MODEL, ("decoder",), reference=False),
}
