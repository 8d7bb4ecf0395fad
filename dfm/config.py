"""Configurations: defaults of every key, checks, the argument after the colon, sweeps.

A config file defines get_config(arg="") -> ConfigDict, built on `defaults()`, and, if it likes, sweep(add).
"""

import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from dfm.errors import UserError
from dfm.registry import nearest
from dfm.results import dump

# a run may be continued with other values of these: they shape no number
CADENCE = (
    "log_every_steps",
    "checkpoint_every_steps",
    "sample_every_steps",
    "evaluate_every_steps",
    "keep_last",
    "keep_best",
    "steps_per_call",
)
ADDED = (
    "accumulation_steps",
    "steps_per_call",
    "pretrained",
    "evaluate_every_steps",
)  # runs older than these keys were trained with their defaults
SECTIONS = ("dataset", "optimizer", "pretrained")  # whose keys are known; others depend on what they name
COMPUTE_DTYPES = ("float32", "bfloat16")

Settings = dict[str, Any]


def defaults() -> ConfigDict:
    """Every key that the training itself knows. `model` and `objective` get the keys of what they name."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 64
    config.total_steps = 10_000
    config.dataset = {"name": "digits", "split": "train", "label": -1, "crop": (), "flip": False}  # label -1: all
    config.model = {"name": "dfm"}
    config.objective = {"name": "reconstruction"}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "final_learning_rate": 0.0,
        "warmup_steps": 0,
        "b1": 0.9,
        "b2": 0.999,
        "weight_decay": 0.0,
        "gradient_clip_norm": 0.0,
        "groups": {},
    }
    config.ema_decay = 0.0  # 0: no moving average
    config.accumulation_steps = 1  # parts of a batch that are worked off one after another
    config.steps_per_call = 1  # above 1: pictures lie on the devices, which take so many steps by themselves
    config.pretrained = {"path": "", "groups": ()}  # a workdir or a folder of weights to start from; (): all groups
    config.compute_dtype = "float32"
    config.log_every_steps = 100
    config.checkpoint_every_steps = 1_000
    config.sample_every_steps = 1_000  # 0: no pictures
    config.evaluate_every_steps = 0  # on the test split; 0: never
    config.keep_last = 3
    config.keep_best = 1
    return config


def resolve(config: Mapping[str, Any]) -> ConfigDict:
    """The config with all defaults filled in, checked, and as JSON would return it (lists, no tuples).

    Raises:
        UserError: an unknown key, a missing name, a value that cannot be.
    """
    given = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    known = defaults().to_dict()
    for key in given:
        if key not in known:
            raise UserError(f"config: unknown key '{key}'{nearest(key, known)}")
    for section in SECTIONS:
        for key in given.get(section, {}):
            if key not in known[section]:
                raise UserError(f"config: unknown key '{section}.{key}'{nearest(key, known[section])}")
    merged = {
        key: {**value, **given.get(key, {})} if key in SECTIONS else given.get(key, value)
        for key, value in known.items()
    }
    _check(merged)
    return from_json(dump(merged))


def _check(config: Settings) -> None:
    for key, value in flatten(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"config: {key} must be finite, not {value}")
    for key in (
        "batch_size",
        "total_steps",
        "log_every_steps",
        "checkpoint_every_steps",
        "keep_last",
        "accumulation_steps",
        "steps_per_call",
    ):
        if not isinstance(config[key], int) or config[key] < 1:
            raise UserError(f"config: {key} must be a whole number of at least 1, not {config[key]!r}")
    for key in ("seed", "sample_every_steps", "evaluate_every_steps", "keep_best"):
        if not isinstance(config[key], int) or config[key] < 0:
            raise UserError(f"config: {key} must be a whole number of at least 0, not {config[key]!r}")
    if config["seed"] >= 2**32:
        raise UserError(f"config: seed must be 0 to {2**32 - 1}, not {config['seed']}")
    if config["dataset"]["label"] < -1:
        raise UserError(f"config: dataset.label must be a class, or -1 for all, not {config['dataset']['label']}")
    for section in ("dataset", "model", "objective", "optimizer"):
        if not config[section].get("name"):
            raise UserError(f"config: {section}.name is missing")
    if not 0 <= config["ema_decay"] < 1:
        raise UserError(f"config: ema_decay must be in [0, 1), not {config['ema_decay']}")
    if config["compute_dtype"] not in COMPUTE_DTYPES:
        raise UserError(
            f"config: unknown compute_dtype '{config['compute_dtype']}'"
            + nearest(config["compute_dtype"], COMPUTE_DTYPES)
        )


def from_json(text: str) -> ConfigDict:
    return ConfigDict(json.loads(text))


def flatten(config: Mapping[str, Any], prefix: str = "") -> Settings:
    """{"optimizer.name": "adam", ...}."""
    flat: Settings = {}
    for key, value in (config.to_dict() if isinstance(config, ConfigDict) else config).items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What keeps a run from being continued with the new config: one "key: old -> new" for each key, but for cadence.

    Both are compared as JSON would return them: a tuple and a list are the same. A key that came into the world after
    the run had begun has its default there; for those of a model and an objective see dfm/training/class_defaults.py.
    """
    added = {key: value for key, value in flatten(defaults()).items() if key.partition(".")[0] in ADDED}
    before, after = (json.loads(dump({**added, **flatten(config)})) for config in (old, new))
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in sorted({*before, *after})
        if key not in CADENCE and _shown(before, key) != _shown(after, key)
    ]


def _shown(flat: Settings, key: str) -> str:
    return json.dumps(flat[key]) if flat.get(key, {}) != {} else "absent"  # {}: a section without keys


def parse_arg(arg: str | None, words: Sequence[str], **keys: Any) -> tuple[str, Settings]:
    """The argument of a config file, `word`, `word,key=value,...` or `key=value,...`, as (word, settings).

    Args:
        arg: what stands behind the colon of --config=file.py:arg; empty for the first of the words.
        words: the variants of this config, the default first.
        keys: settings with their defaults, whose types the values take: `parse_arg(arg, words, **{"class": -1})`.

    Raises:
        UserError: an unknown word or key, with the nearest known one; a value of another type.
    """
    word, settings = words[0], dict(keys)
    for position, part in enumerate((arg or "").split(",") if arg else []):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if position > 0 or key not in words:
                raise UserError(
                    f"config argument '{arg}': unknown word '{key}'{nearest(key, words)}"
                    if key not in words
                    else f"config argument '{arg}': '{key}' must come first, once"
                )
            word = key
        elif key not in keys:
            raise UserError(f"config argument '{arg}': unknown key '{key}'{nearest(key, keys)}")
        else:
            settings[key] = _parse_value(value, keys[key], f"config argument '{arg}': {key}")
    return word, settings


def parse_words(
    arg: str | None, words: Sequence[str], modifiers: Sequence[str], **keys: Any
) -> tuple[str, set[str], Settings]:
    """The same where words combine, `word:modifier:...,key=value,...`, as (word, modifiers, settings).

    `quick`, where it is a modifier, is the quick form of the default word; `f8c4:quick` that of f8c4.
    """
    head, comma, rest = (arg or "").partition(",")
    if "=" in head:
        head, rest, comma = "", arg or "", ","
    named = [part.strip() for part in head.split(":") if part.strip()]
    chosen = [name for name in named if name in words]
    for name in named:
        if name not in (*words, *modifiers):
            raise UserError(f"config argument '{arg}': unknown word '{name}'{nearest(name, (*words, *modifiers))}")
    if len(chosen) > 1 or len(set(named)) < len(named):
        raise UserError(f"config argument '{arg}': one of {', '.join(words)}, and each word once")
    word, settings = parse_arg(",".join([*chosen, *([rest] if comma else [])]), words, **keys)
    return word, set(named) - set(chosen), settings


def _parse_value(text: str, like: Any, where: str) -> Any:
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"{where} must be true or false, not '{text}'")
        return text.lower() == "true"
    try:
        return type(like)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(type(like), type(like).__name__)
        raise UserError(f"{where} must be {kind}, not '{text}'") from None


def config_module(path: str | Path) -> ModuleType:
    """A config file as a module: get_config, sweep and what else it defines."""
    spec = importlib.util.spec_from_file_location("dfm_config_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_sweep(config_file: str) -> list[Settings]:
    """The settings of every run of the config file's sweep: sweep(add) calls add(**{"optimizer.learning_rate": ...}).

    Raises:
        UserError: the file defines no sweep, or an empty one.
    """
    path = config_file.partition(":")[0]
    sweep: Callable | None = getattr(config_module(path), "sweep", None)
    if sweep is None:
        raise UserError(f"{path}: defines no sweep(add)")
    runs: list[Settings] = []
    sweep(lambda **settings: runs.append(settings))
    if not runs:
        raise UserError(f"{path}: its sweep is empty")
    return runs


def apply(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with these settings ("optimizer.learning_rate": 1e-3) in place of its own.

    Raises:
        UserError: a key that the config does not have, or a value of another type.
    """
    changed = config.copy_and_resolve_references()  # ConfigDict(config) would share its sections
    known = flatten(changed)
    for key, value in settings.items():
        if key not in known:
            raise UserError(f"sweep: unknown key '{key}'{nearest(key, known)}")
        try:
            changed.update_from_flattened_dict({key: value})
        except TypeError as error:
            raise UserError(f"sweep: {key}: {' '.join(str(error).split())}") from None
    return changed


def sweep_name(index: int, settings: Mapping[str, Any]) -> str:
    """ "3-learning_rate=0.001,net_width=4": a folder's name that says what its run is."""
    words = [f"{key.rpartition('.')[2]}={value}" for key, value in settings.items()]
    return f"{index}-" + re.sub(r"[^\w.,=+-]+", "_", ",".join(words))[:150]
