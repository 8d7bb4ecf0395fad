"""config.json of diffusers <-> the attributes of AutoencoderKL."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL

CONFIG, CLASS_NAME = "config.json", "AutoencoderKL"
OURS_ALONE = ("dtype", "remat", "fold_upsampling", "other_keys")  # attributes of the module that no config.json holds
KNOWN_KEYS = tuple(
    field.name for field in dataclasses.fields(AutoencoderKL) if field.name not in ("parent", "name", *OURS_ALONE)
)


def read_model(path: Path, **changes: Any) -> AutoencoderKL:
    """The model of a config.json; keys that nothing here knows are kept in `other_keys`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: is no config: {type(config).__name__} in place of an object")
    found = config.pop("_class_name", CLASS_NAME)
    if found != CLASS_NAME:
        raise UserError(f"{path}: is of the class {found}, not {CLASS_NAME}")
    others = {key: value for key, value in config.items() if key not in KNOWN_KEYS}
    known = {key: value for key, value in config.items() if key in KNOWN_KEYS}
    for key, value in known.items():
        if not _is_of_kind(key, value):
            raise UserError(f"{path}: {key} cannot be {json.dumps(value)}")
    return build_model({**known, "other_keys": json.dumps(others, sort_keys=True)}, changes, path)


def _is_of_kind(key: str, value: Any) -> bool:
    """Whether a value of JSON is of the type that this key has."""
    flags = ("force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
    optional = ("shift_factor", "latents_mean", "latents_std", "decoder_block_out_channels")
    if value is None:
        return key in optional
    if key in flags:
        return isinstance(value, bool)
    if key in ("down_block_types", "up_block_types"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key == "act_fn":
        return isinstance(value, str)
    widths = ("block_out_channels", "decoder_block_out_channels")
    if key in widths or (key == "sample_size" and isinstance(value, list)):
        return isinstance(value, list) and all(type(item) is int for item in value)
    if key in ("latents_mean", "latents_std"):
        return isinstance(value, list) and all(type(item) in (int, float) for item in value)
    return type(value) is int or (type(value) is float and key in ("scaling_factor", "shift_factor"))


def build_model(config: dict[str, Any], changes: dict[str, Any], path: Path) -> AutoencoderKL:
    for key in changes:
        if key not in (*KNOWN_KEYS, *OURS_ALONE):
            raise TypeError(f"AutoencoderKL has no attribute {key}")
    fixed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in (config | changes).items()
    }
    try:
        return AutoencoderKL(**fixed)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def model_config(model: AutoencoderKL) -> dict[str, Any]:
    """config.json as a dict: the known keys, and those that were kept. Lists of block types are never left to guess."""
    levels = len(model.block_out_channels)
    config: dict[str, Any] = {"_class_name": CLASS_NAME, **json.loads(model.other_keys)}
    for key in KNOWN_KEYS:
        value = getattr(model, key)
        if key == "decoder_block_out_channels" and value in (None, model.block_out_channels):
            continue  # not a key that diffusers' class knows
        config[key] = list(value) if isinstance(value, tuple) else value
    config["down_block_types"] = config["down_block_types"] or ["DownEncoderBlock2D"] * levels
    config["up_block_types"] = config["up_block_types"] or ["UpDecoderBlock2D"] * levels
    return config
