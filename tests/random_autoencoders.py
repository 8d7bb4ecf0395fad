"""Weights for AutoencoderKLs of any shape, without compiling an initialisation; see make_autoencoder_kl_vectors."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dfm.conversion.autoencoder_kl_names import from_canonical, to_our_layout
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import make_autoencoder_kl_vectors as vectors  # noqa: E402, F401

FAST_COMPILE = {"xla_backend_optimization_level": 0}  # a jit option: compiles twice as fast, computes more slowly


def random_params(model: AutoencoderKL, dtype=np.float32) -> dict:
    """The weights of `random_tensors` in our tree."""

    def leaf(path, value):
        name, shape = from_canonical(tuple(key.key for key in path), value.shape)
        return jnp.asarray(to_our_layout(vectors.random_tensors({name: shape})[name]).astype(dtype))

    return jax.tree_util.tree_map_with_path(leaf, parameter_shapes(model))


def our_outputs(model: AutoencoderKL, params, images, options=FAST_COMPILE) -> tuple[np.ndarray, np.ndarray]:
    """(moments, pictures of the mode)."""

    def run(params, images):
        moments = model.apply({"params": params}, images, method="moments")
        return moments, model.apply({"params": params}, moments[..., : model.latent_channels], method="decode")

    moments, pictures = jax.jit(run, compiler_options=options)(params, images)
    return np.asarray(moments), np.asarray(pictures)
