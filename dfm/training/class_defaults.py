"""Keys that a config does not name: the model and the objective are built with the defaults of their classes."""

import json
from collections.abc import Mapping
from typing import Any

from dfm.config import flatten
from dfm.models import MODELS
from dfm.objectives import OBJECTIVES
from dfm.registry import field_defaults
from dfm.results import dump


def filled(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two configs, flattened and as JSON returns them; what only one of them names has its default in the other.

    So a config file may get a new key, and the runs and results from before it stay those of this config.
    """
    first, second = (json.loads(dump(flatten(config))) for config in (one, other))
    return _filled(first, second), _filled(second, first)


def _filled(own: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for section, names in (("model", MODELS), ("objective", OBJECTIVES)):
        if own.get(f"{section}.name") in names:
            defaults = field_defaults(names[own[f"{section}.name"]])
            known |= {f"{section}.{key}": value for key, value in defaults.items()}
    return {**{key: value for key, value in known.items() if key in other}, **own}
