"""Things by name, built from a config's keys: an unknown name or key is answered with the known ones."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from dfm.config import nearest
from dfm.errors import UserError


def construct(section: str, known: Mapping[str, Callable[[], type]], config: Mapping[str, Any], *first: Any) -> Any:
    """known[config["name"]]()(*first, **the other keys); lists become tuples, as a Flax module must be hashable.

    Args:
        section: "model", "objective", ...: where in the config this stands.
        known: by name, a function that imports and returns a dataclass.
        first: the dataclass's first attributes, which do not come from the config.

    Raises:
        UserError: an unknown name, an unknown or missing key, or a value that the class refuses.
    """
    keys = dict(config)
    name = keys.pop("name")
    if name not in known:
        raise UserError(f"config: unknown {section}.name '{name}'{nearest(name, known)}")
    kind = known[name]()
    fields = [
        field
        for field in dataclasses.fields(kind)
        if field.init and field.name not in ("parent", "name") and field.metadata.get("config", True)
    ]
    fields = fields[len(first) :]
    names = [field.name for field in fields]
    for key in keys:
        if key not in names:
            raise UserError(f"config: unknown key '{section}.{key}'{nearest(key, names)}")
    for field in fields:
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if absent and field.name not in keys:
            raise UserError(f"config: {section}.{field.name} is missing")
    try:
        return kind(*first, **{key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()})
    except (TypeError, ValueError) as error:
        raise UserError(f"config: {section}: {error}") from None
