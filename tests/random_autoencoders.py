"""What the tests of AutoencoderKL share beside dfm/peers/autoencoder_kl.py: outputs for one compilation."""

from pathlib import Path

import jax
import numpy as np

from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.peers import autoencoder_kl as vectors
from dfm.peers.autoencoder_kl import random_params

__all__ = ["GOLDEN", "our_outputs", "random_params", "vectors"]

GOLDEN = Path(__file__).parent / "golden" / "autoencoder_kl.npz"  # scripts/make_autoencoder_kl_vectors.py


def our_outputs(model: AutoencoderKL, params, images, options=None) -> tuple[np.ndarray, np.ndarray]:
    """(moments, pictures of the mode)."""

    def run(params, images):
        moments = model.apply({"params": params}, images, method="moments")
        return moments, model.apply({"params": params}, moments[..., : model.latent_channels], method="decode")

    moments, pictures = jax.jit(run, compiler_options=options)(params, images)
    return np.asarray(moments), np.asarray(pictures)
