"""The scale of an autoencoder's latents, which a diffusion model on them wants to be 1: from data, by step of a run.

latent_scale.json in the run's folder holds what previews have measured, each at its step.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from dfm import results
from dfm.arrays import to_float
from dfm.data import Batches, load
from dfm.files import write_atomically
from dfm.models import latent_vectors
from dfm.models.autoencoder_kl import AutoencoderKL

LATENT_SCALE = "latent_scale.json"
KEYS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")  # attributes of AutoencoderKL
SOURCE = "source"  # in place of a step: of the model that a frozen encoder comes from
PICTURES = 2_000  # that a scale is measured on
PIXELS_AT_ONCE, MOST_AT_ONCE = 2**20, 64  # 1.5 GiB of what the encoder of the published widths makes of them


def has_scale(model: Any) -> bool:
    """Whether a model knows a scale of its latents: a diagonal posterior, mean and var, is then what it encodes to."""
    return all(hasattr(model, key) for key in KEYS)


def latent_scale(model: Any, params: Any, images: UInt8[np.ndarray, "n height width c"]) -> dict[str, Any]:
    """Shift and scale that bring samples of the posterior to mean 0 and standard deviation 1: (z - shift) scaling.

    Mean and variance are over pictures, positions and channels, Var z = Var mu + E sigma^2 without any draw. Rombach et
    al. 2022 divide by the deviation of one batch (0.18215 = 1 / 5.49) and do not shift; SD3 and FLUX do both.

    Returns:
        scaling_factor and shift_factor, without latents_mean and latents_std; mean and standard deviation of each
        channel; count of pictures.
    """
    moments = jax.jit(lambda images: _moments(model, params, images))
    size = pictures_at_once(images.shape[1], images.shape[2])
    rows = [images[start : start + size] for start in range(0, len(images) // size * size or len(images), size)]
    mean, square = np.mean([np.asarray(moments(to_float(part)), np.float64) for part in rows], axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    whole_mean, whole_deviation = mean.mean(), np.sqrt(max(square.mean() - mean.mean() ** 2, 1e-30))
    return {
        "scaling_factor": float(1 / whole_deviation),
        "shift_factor": float(whole_mean),
        "latents_mean": None,  # the config's, if it has them, are of other latents
        "latents_std": None,
        "channel_mean": mean.tolist(),
        "channel_standard_deviation": deviation.tolist(),
        "count": sum(len(part) for part in rows),
    }


def _moments(model: Any, params: Any, images: jax.Array) -> jax.Array:
    """(E z, E z^2) of samples z of the posterior, by channel."""
    posterior: Any = latent_vectors.posterior(model, {"params": params}, images)
    squares = jnp.square(posterior.mean) + posterior.var
    return jnp.stack([posterior.mean.mean((0, 1, 2)), squares.mean((0, 1, 2))])


def pictures_at_once(height: int, width: int) -> int:
    """How many pictures of this size an encoder or decoder is given together: memory grows with their pixels."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def write_latent_scale(workdir: str | Path, step: int, scale: dict[str, Any]) -> None:
    """Adds what was measured at this step to what is known of other steps."""
    _write(workdir, {**_read(workdir), str(step): scale})


def keep_latent_scale(workdir: str | Path, source: AutoencoderKL) -> None:
    """The scale of the model that a frozen encoder comes from: its latents keep their meaning, whatever the data."""
    _write(workdir, {SOURCE: {key: getattr(source, key) for key in KEYS}})


def read_latent_scale(workdir: str | Path, step: int) -> dict[str, Any]:
    """Those of KEYS that a run knows of this step, for the attributes of its model; {} where it knows none."""
    scales = _read(workdir)
    scale = scales.get(SOURCE, scales.get(str(step), {}))
    return {key: tuple(scale[key]) if isinstance(scale[key], list) else scale[key] for key in KEYS if key in scale}


def _read(workdir: str | Path) -> dict[str, dict[str, Any]]:
    """Step, or SOURCE -> scale."""
    try:
        found = json.loads((Path(workdir) / LATENT_SCALE).read_text(encoding="utf-8"))
        if "scaling_factor" in found:  # as earlier versions wrote it: the last step's, or that of a source as step 0's
            step = found.pop("step", 0)
            return {SOURCE if step == 0 else str(step): found}
        return {key: dict(scale) for key, scale in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(workdir: str | Path, scales: dict[str, dict[str, Any]]) -> None:
    write_atomically(Path(workdir) / LATENT_SCALE, (results.dump(scales, indent=2) + "\n").encode())


def measure_latent_scale(
    model: AutoencoderKL, params: Any, config: ConfigDict, data_dir: str | None = None
) -> dict[str, Any]:
    """The scale of latents, as `read_latent_scale` gives it, of pictures as the training of this config sees them.

    Raises:
        UserError: its data set is not to be had.
    """
    data = config.dataset
    dataset = load(data.name, data.split, data_dir, None if data.label < 0 else data.label)
    batches = Batches(dataset, config.batch_size, config.seed, tuple(data.crop) or None, data.flip)
    scale = latent_scale(model, params, _first_pictures(batches, PICTURES))
    return {key: scale[key] for key in KEYS}


def _first_pictures(batches: Batches, count: int) -> UInt8[np.ndarray, "n height width c"]:
    """Up to `count` training pictures: those of the first batches."""
    wanted = min(count, len(batches.dataset))
    steps = -(-wanted // batches.local_batch_size)
    return np.concatenate([batches.at(step)["image"] for step in range(steps)])[:wanted]
