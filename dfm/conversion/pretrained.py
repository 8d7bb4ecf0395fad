"""AutoencoderKL from and to the files of diffusers: config.json beside .safetensors, and single files of LDM."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dfm.conversion.autoencoder_kl_names import (
    BATCH_NORM,
    MARK,
    canonical_names,
    find_prefix,
    from_canonical,
    infer_config,
    other_class,
    to_canonical,
    to_our_layout,
)
from dfm.conversion.config_files import CONFIG, FLUX2, build_model, class_name, model_config, read_config
from dfm.conversion.latent_statistics import read_scale, scale_tensors
from dfm.conversion.model_files import STEM, find_files
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes
from dfm.safetensors_files import FLOATS, SUFFIX, Tensor, list_tensors, write_tensors

KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def load_pretrained(path: str | Path, config: str | Path | None = None, **changes: Any) -> tuple[AutoencoderKL, dict]:
    """(model, params) of a folder with config.json and .safetensors, or of one .safetensors file.

    Names may be of any scheme of `autoencoder_kl_names`; files may be sharded, float16 or bfloat16: params are float32,
    or float64 where the file is and `jax_enable_x64` is on. A pipeline's folder stands for its vae/. The scale of the
    latents is the config's; a single file without one has none, but for FLUX.2's, whose tensors hold it.

    Args:
        config: config.json of a single file; without one, and without one beside it, the shapes say what they can.
        changes: attributes of the model in place of the file's, such as dtype="bfloat16" or padding_mode="reflect".

    Raises:
        UserError: no such model, another class, or a tensor that is missing, too many, damaged or of another shape.
    """
    weights, config = find_files(Path(path), None if config is None else Path(config))
    attributes = None if config is None else read_config(config)
    tensors = list_tensors(weights)
    if other := other_class(tensors):
        raise UserError(f"{weights}: holds tensors of the class {other}, not AutoencoderKL, and stays closed")
    if find_prefix(tensors) is None:
        raise UserError(f"{weights}: holds no AutoencoderKL: no tensor's name ends in {MARK}")
    try:
        own = {name: tensors[original] for name, original in canonical_names(tensors).items()}
        attributes = attributes or infer_config({name: tensor.shape for name, tensor in own.items()})
    except ValueError as error:
        raise UserError(f"{weights}: {error}") from None
    except KeyError as error:
        raise UserError(f"{weights}: tensor {error.args[0]} is missing, or no convolution's") from None
    scale = {}
    if attributes.get("patch_size"):
        statistics = {name: own.pop(name) for name in list(own) if name.startswith(BATCH_NORM)}
        scale = read_scale(attributes, statistics, weights)
    model = build_model({**attributes, **scale}, changes, config or weights)
    return model, _read_params(model, own, weights)


def _read_params(model: AutoencoderKL, tensors: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
    shapes = flatten_dict(parameter_shapes(model))
    wanted = {from_canonical(path, leaf.shape)[0] for path, leaf in shapes.items()}
    for name in tensors:
        if name not in wanted:
            raise UserError(f"{source}: tensor {tensors[name].name} does not belong to the model that its config names")
    params = {}
    for path, leaf in shapes.items():
        name, shape = from_canonical(path, leaf.shape)
        if name not in tensors:
            raise UserError(f"{source}: tensor {name} is missing")
        tensor = tensors[name]
        stored = tensor.shape[:-2] if len(shape) == 2 and tensor.shape[2:] == (1, 1) else tensor.shape
        if stored != shape:
            raise UserError(
                f"{source}: tensor {tensor.name} is {list(tensor.shape)}, and the config means {list(shape)}"
            )
        if tensor.kind not in FLOATS:
            raise UserError(f"{source}: tensor {tensor.name} is of type {tensor.kind}, not one of {', '.join(FLOATS)}")
        # float32 or wider: what a file was rounded to is no reason to compute or to train in it
        values = tensor.read().reshape(shape)
        params[path] = jnp.asarray(to_our_layout(values.astype(np.promote_types(values.dtype, np.float32))))
    return unflatten_dict(params)


def save_pretrained(
    model: AutoencoderKL,
    params: Mapping[str, Any],
    folder: str | Path,
    dtype: str = "float32",
    shard_bytes: int | None = None,
) -> None:
    """Writes config.json and diffusion_pytorch_model.safetensors, which PyTorch's diffusers opens.

    The folder appears when it is complete. One that holds such a model already is replaced as a whole.

    Args:
        dtype: of the tensors: float32, float16 or bfloat16.
        shard_bytes: largest size of a file; None: one file.

    Raises:
        UserError: the folder holds something else, or cannot be written; params are not of this model.
    """
    folder = Path(folder).absolute()  # "." has no name
    check_target(folder)
    if dtype not in KINDS:
        raise UserError(f"dtype must be one of {', '.join(KINDS)}, not {dtype!r}")
    _check_params(model, params)
    tensors = {name: _rounded(name, values, dtype) for name, values in to_canonical(params).items()}
    if class_name(model) == FLUX2:
        tensors |= scale_tensors(model)
    temporary, replaced = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "replaced"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_tensors(temporary, STEM, tensors, shard_bytes)
        write_atomically(temporary / CONFIG, (json.dumps(model_config(model), indent=2) + "\n").encode())
        if folder.exists():
            folder.rename(replaced)
        temporary.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rounded(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    """UserError where a number is too large for this type."""
    with np.errstate(over="ignore"):
        rounded = values.astype(FLOATS[KINDS[dtype]])
    if np.any(np.isinf(rounded)) and not np.any(np.isinf(values)):
        raise UserError(f"tensor {name}: its numbers are too large for {dtype}")
    return rounded


def check_target(folder: Path) -> None:
    """UserError where anything but an earlier model would be replaced: a run has a config.json too."""
    if not folder.exists():
        return
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        ours = path.name == CONFIG or (path.name.startswith(STEM) and SUFFIX in path.name)
        if not (path.parent == folder and ours and path.is_file()):
            raise UserError(f"{path}: is no part of a model, and nothing else is overwritten")
    if (folder / CONFIG).exists():
        read_config(folder / CONFIG)


def _check_params(model: AutoencoderKL, params: Mapping[str, Any]) -> None:
    wanted = {path: leaf.shape for path, leaf in flatten_dict(parameter_shapes(model)).items()}
    given = {path: leaf.shape for path, leaf in flatten_dict(dict(params)).items()}
    for path in wanted.keys() | given.keys():
        if wanted.get(path) != given.get(path):
            raise UserError(
                f"parameter {'/'.join(path)} is {given.get(path, 'missing')}, and the model means "
                f"{wanted.get(path, 'none of that name')}"
            )
