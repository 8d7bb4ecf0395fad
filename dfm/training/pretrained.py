"""Parameters to start from: those of another run, or of a folder that diffusers or this package has written."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dfm.errors import UserError
from dfm.training.run_folder import CONFIG
from dfm.training.state import TRAINING_ONLY, Params


def load_groups(settings: ConfigDict, like: Params) -> Params:
    """The groups of parameters that `settings` (config.pretrained: path, groups) names, as `like` has them.

    Args:
        settings: `groups` empty: all that both sides have.
        like: shapes of the parameters of the training.

    Raises:
        UserError: nothing there to read, a group that is not there, or a tensor of another shape, by its name.
    """
    found = _read(settings.path)
    known = [name for name in like if name in found and name not in TRAINING_ONLY]
    chosen = list(settings.groups) or known
    for name in chosen:
        if name not in known:
            raise UserError(f"pretrained.groups: {settings.path} and this model do not both have {name!r} "
                            f"(both have: {', '.join(known) or 'none'})")  # fmt: skip
    groups = {name: found[name] for name in chosen}
    _check(groups, {name: like[name] for name in chosen}, settings.path)
    return jax.tree.map(lambda leaf, wanted: leaf.astype(wanted.dtype), groups, {name: like[name] for name in chosen})


def _read(path: str) -> Params:
    """Of a workdir its moving average where there is one."""
    try:
        is_run = "objective" in json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        is_run = False
    if is_run:
        from dfm.training.runs import load_run

        return load_run(path).params
    from dfm.conversion.pretrained import load_pretrained

    return load_pretrained(path)[1]


def _check(found: Params, wanted: Params, path: str) -> None:
    mine, theirs = (_shapes(tree) for tree in (wanted, found))
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            found_shape, wanted_shape = (shapes.get(name, "missing") for shapes in (theirs, mine))
            raise UserError(f"{path}: {name} is {found_shape} there and {wanted_shape} in this model; name the groups "
                            "to start from in pretrained.groups")  # fmt: skip


def _shapes(tree: Params) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(tree)
    return {".".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
