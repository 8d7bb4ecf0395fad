"""Things by name: plain dicts of import paths, and one answer to an unknown name: the known ones and the nearest."""

import dataclasses
import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from dfm.errors import UserError

Value = TypeVar("Value")


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one most resembles, if any does."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return near[0] if near else None


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'? (known: ...)": the end of a message about an unknown name."""
    known = list(dict.fromkeys(known))
    near = closest(name, known)
    guess = f"; did you mean '{near}'?" if near else ""
    return f"{guess} (known: {', '.join(known) or 'none'})"


def check(what: str, name: str, known: Iterable[str]) -> None:
    """UserError "unknown <what> '<name>'", with the nearest, for a name that is not known."""
    if name not in known:
        raise UserError(f"unknown {what} '{name}'{nearest(name, known)}")


def check_value(what: str, value: str, known: Iterable[str]) -> None:
    """ValueError "<what> cannot be '<value>'", with the nearest: for the fields of a class, which configs name."""
    if value not in known:
        raise ValueError(f"{what} cannot be '{value}'{nearest(value, known)}")


def find(what: str, name: str, known: Mapping[str, Value]) -> Value:
    """known[name], after `check`."""
    check(what, name, known)
    return known[name]


def load(path: str) -> Any:
    """What "package.module:attribute" names: imported only when it is wanted."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def check_offers(what: str, made: Any, protocol: type, optional: Iterable[str] = ()) -> None:
    """UserError that names what the protocol asks for and the object's class does not have, but for `optional`."""
    members = [name for name in vars(protocol) if not name.startswith("_") and name not in optional]
    fields = {field.name for field in dataclasses.fields(made)}
    # the class is asked: a property of the object may compute
    lacking = [name for name in members if name not in fields and not hasattr(type(made), name)]
    if lacking:
        where = protocol.__module__.replace(".", "/")
        raise UserError(f"{what} lacks {', '.join(lacking)}, which {where}.py asks for")


def field_defaults(path: str) -> dict[str, Any]:
    """Defaults of the fields of the dataclass that "package.module:attribute" names, as far as they have some."""
    fields = dataclasses.fields(load(path))
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def construct(section: str, known: Mapping[str, str], config: Mapping[str, Any], *first: Any) -> Any:
    """What config["name"] names, called with (*first, **the other keys); lists become tuples, as a Flax module must be
    hashable.

    Args:
        section: "model", "objective", ...: where in the config this stands.
        known: import paths of dataclasses, by name.
        first: the dataclass's first attributes, which do not come from the config.

    Raises:
        UserError: an unknown name, an unknown or missing key, or a value that the class refuses.
    """
    keys = dict(config)
    name = keys.pop("name")
    if name not in known:
        raise UserError(f"config: unknown {section}.name '{name}'{nearest(name, known)}")
    kind = load(known[name])
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
