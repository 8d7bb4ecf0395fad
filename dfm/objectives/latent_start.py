"""A start for a latent table that knows the pictures: their principal components."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.errors import UserError
from dfm.metrics.principal_components import principal_components as components

FITTED_PICTURES = 20_000  # enough for the components, and the covariance of all would take minutes


def principal_components(dataset: Dataset, size: int, variance: float) -> Float[Array, "examples size"]:
    """Each picture's first `size` principal components, each component scaled to `variance`.

    Pictures that look alike start side by side, so the decoder's first task is nearly linear: from a Gaussian table it
    takes MNIST many epochs to get where this starts.
    """
    examples = len(dataset)
    chosen = np.arange(examples)[:: -(-examples // FITTED_PICTURES)]
    found = components(_flat(dataset, chosen), size)
    parts = np.array_split(np.arange(examples), -(-examples // FITTED_PICTURES))
    scores = np.concatenate([found.scores(_flat(dataset, part)).astype(np.float32) for part in parts])
    # a component without variance, as of pictures that are all equal, has scores of zero
    deviations = np.sqrt(np.maximum(found.variances, np.finfo(np.float32).tiny))
    return jnp.asarray(scores * (variance**0.5 / deviations), jnp.float32)


def check_components(examples: int, numbers: int, size: int) -> None:
    """UserError for fewer pictures, or numbers a picture, than components: asked before anything is written."""
    if min(examples, numbers) < size:
        raise UserError(
            f"{examples} pictures of {numbers} numbers have no {size} principal components "
            "(model.latent_size, objective.latent_start)"
        )


def _flat(dataset: Dataset, rows: np.ndarray) -> Float[np.ndarray, "n pixels"]:
    return dataset.take(rows).reshape(len(rows), -1).astype(np.float32) / 127.5 - 1.0
