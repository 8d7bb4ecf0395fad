"""A start for a latent table that knows the pictures: their principal components."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.errors import UserError

FITTED_PICTURES = 20_000  # enough for the components, and the covariance of all would take minutes


def principal_components(dataset: Dataset, size: int, variance: float) -> Float[Array, "examples size"]:
    """Each picture's first `size` principal components, each component scaled to `variance`.

    Pictures that look alike start side by side, so the decoder's first task is nearly linear: from a Gaussian table it
    takes MNIST many epochs to get where this starts.
    """
    from sklearn.decomposition import PCA

    examples = len(dataset)
    chosen = np.arange(examples)[:: -(-examples // FITTED_PICTURES)]
    pca = PCA(size, whiten=True, svd_solver="covariance_eigh").fit(_flat(dataset, chosen))
    parts = np.array_split(np.arange(examples), -(-examples // FITTED_PICTURES))
    scores = np.concatenate([pca.transform(_flat(dataset, part)) for part in parts])
    return jnp.asarray(scores * variance**0.5, jnp.float32)


def check_components(examples: int, numbers: int, size: int) -> None:
    """UserError for fewer pictures, or numbers a picture, than components: asked before anything is written."""
    if min(examples, numbers) < size:
        raise UserError(
            f"{examples} pictures of {numbers} numbers have no {size} principal components "
            "(model.latent_size, objective.latent_start)"
        )


def _flat(dataset: Dataset, rows: np.ndarray) -> Float[np.ndarray, "n pixels"]:
    return dataset.take(rows).reshape(len(rows), -1).astype(np.float32) / 127.5 - 1.0
