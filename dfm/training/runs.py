"""Finished and running trainings, read back: the model and its parameters from a workdir, without data or optimizer."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
from ml_collections import ConfigDict

from dfm.array_files import hash_parameters
from dfm.errors import UserError
from dfm.models.protocol import Model
from dfm.objectives.protocol import Objective, group_of
from dfm.training.checkpoints import damaged_scores, reading, restore
from dfm.training.run_folder import CHECKPOINTS, read_config, read_facts


@dataclass(frozen=True)
class Run:
    """A checkpoint and what it belongs to.

    Attributes:
        config: of the training.
        workdir: its folder.
        step: number of steps done at this checkpoint.
        model, objective: as the config builds them, for the pictures of the training.
        params: groups of parameters that outlive the training; their moving average where one is kept.
        latents: [examples, latent_size], the table, or None where the training has none.
        statistics: collections of the model's variables beside the parameters, such as "batch_stats".
        data: fingerprint of the pictures of the training; {} where the run is older than fingerprints.
    """

    config: ConfigDict
    workdir: Path
    step: int
    model: Model
    objective: Objective | None
    params: dict[str, Any]
    latents: jax.Array | None
    statistics: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes first."""
        return {"params": self.params, **self.statistics}

    @functools.cached_property
    def sha256(self) -> str:
        """Of the parameters, the table of latents and the statistics: what a sample depends on."""
        return hash_parameters((self.params, self.latents, self.statistics))


def load_run(workdir: str | Path, which: Literal["latest", "best"] | int = "latest", averaged: bool = True) -> Run:
    """Reads a checkpoint onto one local device, whatever devices wrote it.

    Args:
        which: the latest, the best by training error, or the one of this step.
        averaged: the moving average of the parameters where one is kept; False: the parameters themselves.

    Raises:
        UserError: no run, no checkpoint, or not this one.
    """
    from dfm import models, objectives

    workdir = Path(workdir).expanduser()
    config = read_config(workdir)
    model = models.build(config.model, _picture_shape(Path(workdir)))
    objective = objectives.build(config.objective, model)
    step, saved = _read_checkpoint(workdir / CHECKPOINTS, which, averaged, objective)
    latents = saved.get("latents")
    return Run(
        config=config,
        workdir=Path(workdir),
        step=step,
        model=model,
        objective=objective,
        params={**saved.get("params", {}), **saved.get("ema_params", {})},
        latents=latents["values"] if latents else None,
        statistics=saved.get("statistics", {}),
        data=read_facts(workdir).get("data", {}),
    )


def _read_checkpoint(
    folder: Path, which: Literal["latest", "best"] | int, averaged: bool, objective: Objective
) -> tuple[int, dict[str, Any]]:
    """(step, what `_read_step` reads); UserError names the last checkpoint that can be read where this one cannot."""
    import orbax.checkpoint as ocp
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    if not folder.is_dir():
        raise UserError(f"{folder.parent}: has no checkpoint yet")
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
    if which == "best" and (damaged := damaged_scores(folder)):
        raise UserError(f"{damaged[0]}: is damaged, so that no checkpoint is known as the best; name a step")
    options = ocp.CheckpointManagerOptions(
        read_only=True,
        save_interval_steps=0,
        create=False,
        best_fn=lambda metrics: metrics["score"],
        best_mode="min",
        lightweight_initialize=which != "best",  # scores are not read where none is asked for
    )
    with ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers) as manager:
        step = _choose_step(manager, which, folder)
        try:
            return step, _read_step(manager, folder, step, averaged, objective)
        except UserError as error:
            others = [other for other in sorted(manager.all_steps(), reverse=True) if other != step]
            sound = next((other for other in others if _is_sound(manager, folder, other, averaged, objective)), None)
            hint = "" if sound is None else f"; that of step {sound} is sound (which={sound})"
            raise UserError(f"{error}{hint}") from error


def _read_step(manager: Any, folder: Path, step: int, averaged: bool, objective: Objective) -> dict[str, Any]:
    """The averaged or plain params, the table's values, the model's statistics: no optimizer state is read."""
    import orbax.checkpoint as ocp

    with reading(folder / str(step)):
        tree = manager.item_metadata(step)["state"]
        if tree is None:
            raise UserError(f"{folder / str(step)}: is damaged (its files are incomplete)")
        shapes = _wanted(tree, averaged, objective)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(
                item=shapes, restore_args=ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True
            ),
            progress=ocp.args.JsonRestore(),
        )
        state, _ = restore(manager, step, args)
        return state


def _wanted(tree: Any, averaged: bool, objective: Objective) -> dict[str, Any]:
    """Shapes and types, on one device, of those parts of a checkpoint's tree that outlive the training."""
    averages = (tree.get("ema_params") or {}) if averaged else {}
    averages = {name: averages[name] for name in averages if group_of(objective, name).kept}
    plain = [name for name in tree["params"] if name not in averages and group_of(objective, name).kept]
    groups = {"params": {name: tree["params"][name] for name in plain}, "ema_params": averages}
    shapes = {part: values for part, values in groups.items() if values}
    if tree.get("latents") is not None:
        shapes["latents"] = {"values": tree["latents"]["values"]}
    if objective.model_statistics:
        shapes["statistics"] = {name: tree["statistics"][name] for name in objective.model_statistics}
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)


def _is_sound(manager: Any, folder: Path, step: int, averaged: bool, objective: Objective) -> bool:
    try:
        _read_step(manager, folder, step, averaged, objective)
    except UserError:
        return False
    return True


def _picture_shape(workdir: Path) -> tuple[int, int, int] | None:
    """(height, width, channels) that the run was trained on, where run.json says so."""
    try:
        height, width, channels = read_facts(workdir)["picture_shape"]
    except (ValueError, KeyError, TypeError):
        return None
    return height, width, channels


def _choose_step(manager, which: Literal["latest", "best"] | int, folder: Path) -> int:
    steps = sorted(manager.all_steps())
    if not steps:
        raise UserError(f"{folder.parent}: has no checkpoint yet")
    if which == "latest":
        return steps[-1]
    if which == "best":
        best = manager.best_step()
        return steps[-1] if best is None else best
    if which not in steps:
        raise UserError(f"{folder.parent}: no checkpoint of step {which} (there are: {', '.join(map(str, steps))})")
    return int(which)
