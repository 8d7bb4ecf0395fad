"""config.json of diffusers <-> the attributes of AutoencoderKL.

Two classes of diffusers are this network: AutoencoderKL, whose latents have one scale and shift, and
AutoencoderKLFlux2, whose latents are normalised in patches by a batch norm's statistics, which lie among the tensors.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL

CONFIG, PLAIN, FLUX2 = "config.json", "AutoencoderKL", "AutoencoderKLFlux2"
CLASSES = {PLAIN: PLAIN, "FlaxAutoencoderKL": PLAIN, FLUX2: FLUX2}  # as a file names it -> what it is
OURS_ALONE = ("dtype", "remat", "fold_upsampling", "other_keys")  # attributes of the module that no config.json holds
KNOWN_KEYS = tuple(
    field.name for field in dataclasses.fields(AutoencoderKL) if field.name not in ("parent", "name", *OURS_ALONE)
)
SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
DEFAULTS: dict[str, dict[str, Any]] = {  # of diffusers' classes, where they are not this module's
    PLAIN: {"scaling_factor": 0.18215},
    FLUX2: {
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "latent_channels": 32,
        "sample_size": 1024,
        "patch_size": [2, 2],
    },
}
BATCH_NORM = {"batch_norm_eps": 1e-4, "batch_norm_momentum": 0.1}  # FLUX2's defaults
FLAGS = ("force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
OPTIONAL = (*SCALES, "decoder_block_out_channels", "patch_size", "force_upcast")
INTEGER_LISTS = ("block_out_channels", "decoder_block_out_channels", "patch_size")


def read_config(path: Path) -> dict[str, Any]:
    """The attributes of the model of a config.json; keys that nothing here knows are in `other_keys`.

    Raises:
        UserError: no such file, no JSON, another class (by its name), or a value that cannot be.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: is no config: {type(config).__name__} in place of an object")
    found = str(config.pop("_class_name", PLAIN))
    if found not in CLASSES:
        raise UserError(f"{path}: is of the class {found}, not {' or '.join(CLASSES)}, and stays closed")
    config = DEFAULTS[CLASSES[found]] | {key: _whole(key, value) for key, value in config.items()}
    others = {key: value for key, value in config.items() if key not in KNOWN_KEYS}
    known = {key: value for key, value in config.items() if key in KNOWN_KEYS}
    if CLASSES[found] == FLUX2:
        others = BATCH_NORM | others
        if known["patch_size"] is None:
            raise UserError(f"{path}: patch_size cannot be null")
    for key, value in (known | {key: others[key] for key in BATCH_NORM if key in others}).items():
        if not _is_of_kind(key, value):
            raise UserError(f"{path}: {key} cannot be {json.dumps(value)}")
    return {**known, "other_keys": json.dumps(others, sort_keys=True)}


def _whole(key: str, value: Any) -> Any:
    """32.0 is 32 where a whole number stands for one; lists of widths are not mended."""
    if type(value) is float and key not in (*SCALES, *BATCH_NORM) and value.is_integer():
        return int(value)
    if key == "sample_size" and isinstance(value, list):
        return [_whole("", side) for side in value]
    return value


def _is_of_kind(key: str, value: Any) -> bool:
    """Whether a value of JSON is of the type that this key has."""
    if value is None:
        return key in OPTIONAL
    if key in FLAGS:
        return isinstance(value, bool)
    if key in ("down_block_types", "up_block_types"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key in ("act_fn", "padding_mode"):
        return isinstance(value, str)
    if key in INTEGER_LISTS or (key == "sample_size" and isinstance(value, list)):
        return isinstance(value, list) and all(type(item) is int for item in value)
    if key in ("latents_mean", "latents_std"):
        return isinstance(value, list) and all(type(item) in (int, float) for item in value)
    return type(value) is int or (type(value) is float and key in (*SCALES, *BATCH_NORM))


def build_model(config: Mapping[str, Any], changes: Mapping[str, Any], path: Path) -> AutoencoderKL:
    """The model of these attributes, `changes` in place of the file's; UserError, naming `path`, for what cannot be."""
    for key in changes:
        if key not in (*KNOWN_KEYS, *OURS_ALONE):
            raise TypeError(f"AutoencoderKL has no attribute {key}")
    fixed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in {**config, **changes}.items()
    }
    try:
        return AutoencoderKL(**fixed)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def class_name(model: AutoencoderKL) -> str:
    """Of diffusers: a model whose latents are normalised in patches is the one of FLUX.2."""
    return PLAIN if model.patch_size is None else FLUX2


def model_attributes(model: AutoencoderKL) -> dict[str, Any]:
    """The known keys, lists in place of tuples. Lists of block types are never left to guess."""
    levels = len(model.block_out_channels)
    config = {key: list(value) if isinstance(value, tuple) else value for key, value in _known(model).items()}
    config["down_block_types"] = config["down_block_types"] or ["DownEncoderBlock2D"] * levels
    config["up_block_types"] = config["up_block_types"] or ["UpDecoderBlock2D"] * levels
    return config


def _known(model: AutoencoderKL) -> dict[str, Any]:
    return {key: getattr(model, key) for key in KNOWN_KEYS}


def model_config(model: AutoencoderKL) -> dict[str, Any]:
    """config.json as a dict: the keys that diffusers' class knows, and those that were kept."""
    found = class_name(model)
    config = {"_class_name": found, **json.loads(model.other_keys), **model_attributes(model)}
    unknown = {"patch_size"} if found == PLAIN else {*SCALES, "force_upcast"}
    if model.decoder_block_out_channels in (None, model.block_out_channels):
        unknown.add("decoder_block_out_channels")
    if model.padding_mode == "zeros":
        unknown.add("padding_mode")
    return {key: value for key, value in config.items() if key not in unknown}


def what_diffusers_misses(model: AutoencoderKL) -> str | None:
    """Why diffusers does not open a folder of this model, or computes something else with it; None: it does as we."""
    if model.padding_mode != "zeros":
        return f"diffusers does not know padding_mode {model.padding_mode!r} and computes something else with it"
    if class_name(model) == PLAIN and model.decoder_block_out_channels not in (None, model.block_out_channels):
        return "the decoder's widths are not the encoder's; dfm opens this, diffusers' AutoencoderKL does not"
    return None
