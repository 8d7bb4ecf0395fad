"""Finished and running trainings, read back: the model and its parameters from a workdir, without data or optimizer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
from ml_collections import ConfigDict

from dfm.errors import UserError
from dfm.training.run_folder import CHECKPOINTS, RUN, read_config
from dfm.training.state import TRAINING_ONLY


@dataclass(frozen=True)
class Run:
    """A checkpoint and what it belongs to.

    Attributes:
        config: of the training.
        workdir: its folder.
        step: number of steps done at this checkpoint.
        model, objective: as the config builds them; an autoencoder as `LatentVectors` of the training's pictures.
        params: groups of parameters; their moving average where one is kept.
        latents: [examples, latent_size], the table, or None where the model has an encoder.
    """

    config: ConfigDict
    workdir: Path
    step: int
    model: Any
    objective: Any
    params: dict[str, Any]
    latents: jax.Array | None


def load_run(workdir: str | Path, which: Literal["latest", "best"] | int = "latest", averaged: bool = True) -> Run:
    """Reads a checkpoint onto one local device, whatever devices wrote it.

    Args:
        which: the latest, the best by training error, or the one of this step.
        averaged: the moving average of the parameters where one is kept; False: the parameters themselves.

    Raises:
        UserError: no run, no checkpoint, or not this one.
    """
    from dfm import models, objectives
    from dfm.models.latent_vectors import of_size

    config = read_config(workdir)
    try:
        step, saved = _read_checkpoint(Path(workdir) / CHECKPOINTS, which, averaged)
    except (OSError, ValueError, TypeError, KeyError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{workdir}: the checkpoint cannot be read ({first_line})") from error
    model = models.build(config.model)
    latents = saved.get("latents")
    return Run(
        config=config,
        workdir=Path(workdir),
        step=step,
        model=of_size(model, _picture_shape(Path(workdir))),
        objective=objectives.build(config.objective, model),
        params={**saved.get("params", {}), **saved.get("ema_params", {})},
        latents=latents["values"] if latents else None,
    )


def _read_checkpoint(
    folder: Path, which: Literal["latest", "best"] | int, averaged: bool
) -> tuple[int, dict[str, Any]]:
    """(step, the averaged or plain params and the table's values): no optimizer state is read."""
    import orbax.checkpoint as ocp
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    if not folder.is_dir():
        raise UserError(f"{folder.parent}: has no checkpoint yet")
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
    options = ocp.CheckpointManagerOptions(
        read_only=True, save_interval_steps=0, create=False, best_fn=lambda metrics: metrics["score"], best_mode="min"
    )
    with ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers) as manager:
        step = _choose_step(manager, which, folder)
        tree = manager.item_metadata(step)["state"]
        averages = (tree.get("ema_params") or {}) if averaged else {}
        plain = [name for name in tree["params"] if name not in averages and name not in TRAINING_ONLY]
        groups = {"params": {name: tree["params"][name] for name in plain}, "ema_params": averages}
        shapes = {part: values for part, values in groups.items() if values}
        if tree.get("latents") is not None:
            shapes["latents"] = {"values": tree["latents"]["values"]}
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
        args = ocp.args.PyTreeRestore(
            item=shapes, restore_args=ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True
        )
        return step, manager.restore(step, args=ocp.args.Composite(state=args))["state"]


def _picture_shape(workdir: Path) -> tuple[int, int, int] | None:
    """(height, width, channels) that the run was trained on, where run.json says so."""
    try:
        height, width, channels = json.loads((workdir / RUN).read_text(encoding="utf-8"))["picture_shape"]
    except (OSError, ValueError, KeyError, TypeError):
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
