"""Latents of any model as vectors: what priors, interpolations, inversion and evaluation work with.

A vector holds the numbers of all latents of a picture, row by row, one latent array after the other where they are a
tree. Encodings are modes of the posterior.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dfm.arrays import pad_to_stride
from dfm.models.distributions import Distribution
from dfm.models.protocol import Latents, LatentShape, Model

Labels = Int[Array, " n"] | None


def latent_size(model: Model) -> int:
    """Length of a vector."""
    return sum(math.prod(shape) for shape in _shapes(model.latent_shape)[0])


def flatten(latents: Latents) -> Float[Array, "n size"]:
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(latents)], axis=1)


def unflatten(vectors: Float[Array, "n size"], shape: LatentShape) -> Latents:
    shapes, structure = _shapes(shape)
    ends = [sum(math.prod(one) for one in shapes[: i + 1]) for i in range(len(shapes))]
    parts = jnp.split(vectors, ends[:-1], axis=1)
    return structure.unflatten([part.reshape(-1, *one) for part, one in zip(parts, shapes, strict=True)])


def posterior(
    model: Model, variables: Any, images: Float[Array, "n height width c"], labels: Labels = None
) -> Distribution:
    """q(z | image), of pictures padded to the model's stride."""
    return model.apply(variables, pad_to_stride(images, model.stride)[0], labels, method="encode")


def encode(
    model: Model, variables: Any, images: Float[Array, "n height width c"], labels: Labels = None
) -> Float[Array, "n size"]:
    return flatten(posterior(model, variables, images, labels).mode())


def decode(
    model: Model,
    variables: Any,
    vectors: Float[Array, "n size"],
    labels: Labels = None,
    height: int | None = None,
    width: int | None = None,
) -> Float[Array, "n height width c"]:
    """Pictures of the model's own size, or of another one where it paints that."""
    latents = unflatten(vectors, model.latent_shape)
    size = {"height": height or model.height, "width": width or model.width}
    return model.apply(variables, latents, labels, method="decode", **size)


def _shapes(shape: LatentShape) -> tuple[list[tuple[int, ...]], Any]:
    """The shapes in a tree of them, and its structure: a tuple of numbers is a leaf."""
    return jax.tree.flatten(shape, is_leaf=lambda x: isinstance(x, tuple) and all(isinstance(n, int) for n in x))
