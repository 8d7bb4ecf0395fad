"""The scale of an autoencoder's latents, which a diffusion model on them wants to be 1: from data, into config.json."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from dfm import results
from dfm.arrays import to_float
from dfm.files import write_atomically
from dfm.models import latent_vectors
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.distributions import DiagonalGaussian

LATENT_SCALE = "latent_scale.json"
KEYS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")  # attributes of AutoencoderKL
CHUNK = 16


def latent_scale(model: AutoencoderKL, params: Any, images: UInt8[np.ndarray, "n height width c"]) -> dict[str, Any]:
    """Shift and scale that bring samples of the posterior to mean 0 and standard deviation 1: (z - shift) scaling.

    Mean and variance are over pictures, positions and channels, Var z = Var mu + E sigma^2 without any draw. Rombach et
    al. 2022 divide by the deviation of one batch (0.18215 = 1 / 5.49) and do not shift; SD3 and FLUX do both.

    Returns:
        scaling_factor, shift_factor; mean and standard_deviation of each channel; count of pictures.
    """
    moments = jax.jit(lambda images: _moments(model, params, images))
    rows = [images[start : start + CHUNK] for start in range(0, len(images) // CHUNK * CHUNK or len(images), CHUNK)]
    mean, square = np.mean([np.asarray(moments(to_float(part)), np.float64) for part in rows], axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    whole_mean, whole_deviation = mean.mean(), np.sqrt(max(square.mean() - mean.mean() ** 2, 1e-30))
    return {
        "scaling_factor": float(1 / whole_deviation),
        "shift_factor": float(whole_mean),
        "channel_mean": mean.tolist(),
        "channel_standard_deviation": deviation.tolist(),
        "count": sum(len(part) for part in rows),
    }


def _moments(model: AutoencoderKL, params: Any, images: jax.Array) -> jax.Array:
    """(E z, E z^2) of samples z of the posterior, by channel."""
    posterior = latent_vectors.posterior(model, {"params": params}, images)
    assert isinstance(posterior, DiagonalGaussian)
    squares = jnp.square(posterior.mean) + posterior.var
    return jnp.stack([posterior.mean.mean((0, 1, 2)), squares.mean((0, 1, 2))])


def write_latent_scale(workdir: str | Path, step: int, scale: dict[str, Any]) -> None:
    text = results.dump({"step": step, **scale}, indent=2) + "\n"
    write_atomically(Path(workdir) / LATENT_SCALE, text.encode())


def keep_latent_scale(workdir: str | Path, source: AutoencoderKL) -> None:
    """The scale of the model that a frozen encoder comes from: its latents keep their meaning, whatever the data."""
    write_latent_scale(workdir, 0, {key: getattr(source, key) for key in KEYS})


def read_latent_scale(workdir: str | Path) -> dict[str, Any]:
    """Those of KEYS that a run knows, for the config of its model; {} where it knows none yet."""
    try:
        found = json.loads((Path(workdir) / LATENT_SCALE).read_text(encoding="utf-8"))
        return {key: tuple(found[key]) if isinstance(found[key], list) else found[key] for key in KEYS if key in found}
    except (OSError, ValueError, TypeError):
        return {}
