"""Parameters to start from: those of another run, or of a folder that diffusers or this package has written."""

from typing import Any

import jax
from ml_collections import ConfigDict

from dfm.errors import UserError
from dfm.objectives.protocol import Objective, Params, group_of
from dfm.training.latent_scale import read_latent_scale
from dfm.training.run_folder import holds_run

UNSEEN = ("norm_num_groups", "act_fn")  # change what parameters mean, and no shape shows them


def load_groups(settings: ConfigDict, like: Params, objective: Objective) -> tuple[Params, Any]:
    """(the groups of parameters that `settings` names, as `like` has them; the model that they come from).

    Args:
        settings: config.pretrained: path, and groups; these empty: all that both sides have.
        like: shapes of the parameters of the training.
        objective: of the training.

    Raises:
        UserError: nothing there to read, a group that is not there, a tensor of another shape, by its name, or
            other settings that change what the parameters mean.
    """
    source, found = _read(settings.path)
    for key in UNSEEN:
        theirs, ours = (getattr(side, key, None) for side in (source, objective.model))
        if theirs != ours:
            raise UserError(f"{settings.path}: {key} is {theirs!r} there and {ours!r} in this model")
    known = [name for name in like if name in found and group_of(objective, name).kept]
    chosen = list(settings.groups) or known
    for name in chosen:
        if name not in known:
            raise UserError(
                f"pretrained.groups: {settings.path} and this model do not both have {name!r} "
                f"(both have: {', '.join(known) or 'none'})"
            )
    groups = {name: found[name] for name in chosen}
    _check(groups, {name: like[name] for name in chosen}, settings.path)
    wanted = {name: like[name] for name in chosen}
    return jax.tree.map(lambda leaf, wanted: leaf.astype(wanted.dtype), groups, wanted), source


def _read(path: str) -> tuple[Any, Params]:
    """(model, parameters); of a workdir the moving average where there is one."""
    if holds_run(path):
        from dfm.training.runs import load_run

        run = load_run(path)
        return run.model.clone(**read_latent_scale(path)), run.params  # type: ignore[attr-defined]  # a Flax module's
    from dfm.conversion.pretrained import load_pretrained

    return load_pretrained(path)


def _check(found: Params, wanted: Params, path: str) -> None:
    mine, theirs = (_shapes(tree) for tree in (wanted, found))
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            found_shape, wanted_shape = (shapes.get(name, "missing") for shapes in (theirs, mine))
            raise UserError(
                f"{path}: {name} is {found_shape} there and {wanted_shape} in this model; name the groups "
                "to start from in pretrained.groups"
            )


def _shapes(tree: Params) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(tree)
    return {".".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
