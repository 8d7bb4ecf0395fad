"""Trained models opened, of a run or of files of diffusers and LDM; and their parameters to start another run from."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dfm.conversion import load_pretrained
from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes
from dfm.objectives.protocol import Objective, Params, group_of
from dfm.training.latent_scale import read_latent_scale
from dfm.training.run_folder import holds_other, holds_run, read_config
from dfm.training.runs import load_run

UNSEEN = ("norm_num_groups", "act_fn", "padding_mode")  # change what parameters mean, and no shape shows them


def load_autoencoder(
    path: str | Path, which: Any = "latest", config: str | Path | None = None
) -> tuple[AutoencoderKL, Params]:
    """(model, params) of a run, of a folder of diffusers or of a single .safetensors file.

    Args:
        which: checkpoint of a run: latest, best or its step.
        config: config.json of a single file, see `load_pretrained`.

    Raises:
        UserError: nothing there to read, a run of another model, or `which` or `config` where it has no meaning.
    """
    is_run = holds_run(path)
    if is_run and (name := read_config(path).model["name"]) != "autoencoder_kl":
        raise UserError(f"{path}: its model is {name!r}, not autoencoder_kl")
    if is_run and config is not None:
        raise UserError(f"config is for a single file, and {path} is a run")
    if which != "latest" and holds_other(path):
        raise UserError(f"which is for a run, and {path} is none")
    model, params = _load_run_model(path, which) if is_run else load_pretrained(path, config)
    return model, {group: params[group] for group in parameter_shapes(model)}


def _load_run_model(path: str | Path, which: Any = "latest") -> tuple[Any, Params]:
    """(model, parameters) of any run; the moving average where there is one.

    An autoencoder's scaling_factor and shift_factor are those that the run has measured at this step, where it has.
    """
    run = load_run(path, which)
    return run.model.clone(**read_latent_scale(path, run.step)), run.params  # type: ignore[attr-defined]  # a Flax module's


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
    source, found = (_load_run_model if holds_run(settings.path) else load_pretrained)(settings.path)
    for key in UNSEEN:
        theirs, ours = (getattr(side, key, None) for side in (source, objective.model))
        if str(theirs).lower() != str(ours).lower():
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
