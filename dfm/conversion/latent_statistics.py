"""The scale of FLUX.2's latents: running statistics of a batch norm among the tensors <-> attributes of the model.

Its diffusion model sees (z - mean) / sqrt(variance + epsilon) of each channel of 2 x 2 patches of latents.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfm.conversion.config_files import BATCH_NORM
from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.safetensors_files import Tensor

MEAN, VARIANCE, COUNT = "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"


def read_scale(attributes: Mapping[str, Any], tensors: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
    """scaling_factor, latents_mean and latents_std of a model with these attributes.

    Raises:
        UserError: a tensor that is missing or of another length, or numbers that are no statistics.
    """
    size = attributes.get("latent_channels", AutoencoderKL.latent_channels) * math.prod(attributes["patch_size"])
    values = {}
    for name in (MEAN, VARIANCE):
        if name not in tensors:
            raise UserError(f"{source}: tensor {name} is missing")
        if tensors[name].shape != (size,):
            raise UserError(f"{source}: tensor {tensors[name].name} is {list(tensors[name].shape)}, not [{size}]")
        values[name] = tensors[name].read().astype(np.float64)
    variance = values[VARIANCE] + _epsilon(attributes.get("other_keys", "{}"))
    if not (np.all(np.isfinite(values[MEAN])) and np.all(np.isfinite(variance)) and np.all(variance > 0)):
        raise UserError(f"{source}: {MEAN} and {VARIANCE} are no statistics of latents")
    return {
        "scaling_factor": 1.0,
        "shift_factor": None,
        "latents_mean": tuple(values[MEAN].tolist()),
        "latents_std": tuple(np.sqrt(variance).tolist()),
    }


def scale_tensors(model: AutoencoderKL) -> dict[str, np.ndarray]:
    """The statistics of a batch norm that normalises as the model says.

    Raises:
        UserError: the model does not know its scale.
    """
    if model.scaling_factor is None:
        raise UserError("the scale of the latents is not known, and a file of FLUX.2's kind has to hold it")
    size = model.latent_channels * math.prod(model.patch_size or ())
    mean = np.full(size, model.shift_factor or 0.0) if model.latents_mean is None else np.asarray(model.latents_mean)
    std = np.ones(size) if model.latents_std is None else np.asarray(model.latents_std)
    variance = np.square(std / model.scaling_factor) - _epsilon(model.other_keys)
    return {MEAN: mean.astype(np.float32), VARIANCE: variance.astype(np.float32), COUNT: np.zeros((), np.int64)}


def _epsilon(other_keys: str) -> float:
    return float((BATCH_NORM | json.loads(other_keys))["batch_norm_eps"])
