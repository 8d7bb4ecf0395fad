"""AutoencoderKL against PyTorch's diffusers: golden vectors always, live where diffusers is installed."""

import jax
import numpy as np
import pytest
from compilation import AS_USERS_DO
from needs import needs_diffusers
from random_autoencoders import GOLDEN, our_outputs, random_params, vectors

from dfm.conversion.autoencoder_kl_names import to_canonical
from dfm.models.autoencoder_kl import AutoencoderKL


def relative(ours, theirs) -> float:
    """Relative L2 distance."""
    return float(np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("name, size", vectors.CASES)
def test_equals_golden_vectors_in_float64(name, size):
    model = AutoencoderKL(**vectors.CONFIGS[name])
    with jax.enable_x64(True), np.load(GOLDEN) as golden:
        params = random_params(model, np.float64)
        assert sorted(to_canonical(params)) == list(golden[f"{name}/names"])
        moments, pictures = our_outputs(model, params, vectors.example_images(vectors.CONFIGS[name], size))
        stem = f"{name}/{size[0]}x{size[1]}"
        assert moments.dtype == np.float64
        assert relative(moments, golden[f"{stem}/moments"]) < 1e-9
        assert relative(pictures, golden[f"{stem}/pictures"]) < 1e-9


@pytest.mark.parametrize("name", vectors.CONFIGS)
def test_equals_golden_vectors_in_float32(name):
    model, size = AutoencoderKL(**vectors.CONFIGS[name]), vectors.SIZES[0]
    images = vectors.example_images(vectors.CONFIGS[name], size).astype(np.float32)
    options = AS_USERS_DO if name == "sd" else None  # one as users compile it
    moments, pictures = our_outputs(model, random_params(model, np.float32), images, options)
    with np.load(GOLDEN) as golden:
        stem = f"{name}/{size[0]}x{size[1]}"
        assert moments.dtype == np.float32
        assert relative(moments, golden[f"{stem}/moments"]) < 1e-5
        assert relative(pictures, golden[f"{stem}/pictures"]) < 1e-5


@pytest.mark.peers
@needs_diffusers
@pytest.mark.parametrize("name, size", vectors.CASES)
def test_equals_diffusers_live_and_the_golden_vectors_are_what_it_computes(name, size):
    model, images = AutoencoderKL(**vectors.CONFIGS[name]), vectors.example_images(vectors.CONFIGS[name], size)
    moments, pictures = vectors.peer_outputs(vectors.peer_model(vectors.CONFIGS[name]), images)
    with jax.enable_x64(True):
        ours = our_outputs(model, random_params(model, np.float64), images)
    assert relative(ours[0], moments) < 1e-9 and relative(ours[1], pictures) < 1e-9
    with np.load(GOLDEN) as golden:
        assert relative(golden[f"{name}/{size[0]}x{size[1]}/moments"], moments) < 1e-12
        assert relative(golden[f"{name}/{size[0]}x{size[1]}/pictures"], pictures) < 1e-12
