"""What a training needs before its first step: data, model, objective, optimizer, and the first state."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dfm import models, objectives
from dfm.command_line import say
from dfm.data import Batches, Dataset
from dfm.data.folder import CHECKED_PICTURES, refuse_damaged
from dfm.errors import UserError, counted
from dfm.metrics.lpips import LpipsFile
from dfm.models.protocol import Model
from dfm.objectives.protocol import LATENTS, Objective, Params, group_of
from dfm.training import optimizers, run_folder
from dfm.training.codes import completed, load_any
from dfm.training.held_out import HeldOut
from dfm.training.latent_cache import CachedBatches, cached, is_constant
from dfm.training.latent_scale import has_scale, keep_latent_scale
from dfm.training.pretrained import load_groups
from dfm.training.run_latents import load_latents, names_latents
from dfm.training.runs import load_run
from dfm.training.sharding import check_batch_size, data_mesh, on_this_process
from dfm.training.state import TrainState, initial_state
from dfm.training.steps import check_together

LPIPS_FILE = LpipsFile()  # where the environment says


@dataclass(frozen=True)
class Training:
    """What a config builds."""

    config: ConfigDict
    workdir: str
    mesh: Mesh
    batches: Batches
    model: Model
    objective: Objective
    optimizer: optimizers.Optimizer
    held_out: HeldOut | None = None

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What identifies the pictures."""
        return self.batches.dataset.fingerprint()

    @property
    def encoder_is_frozen(self) -> bool:
        return bool(self.objective.frozen_encoder)

    def with_cache(self, state: TrainState) -> Batches | CachedBatches:
        """The batches; with latents in them where the encoder is frozen and sees the same pictures each epoch."""
        if not self.encoder_is_frozen:
            return self.batches
        if jax.process_count() > 1 or not is_constant(self.batches):
            why = (
                "there are several processes"
                if jax.process_count() > 1
                else "pictures are cropped or mirrored at random (without dataset.crop and dataset.flip they are kept)"
            )
            if jax.process_index() == 0:
                say(f"dfm.train: moments of the frozen encoder are computed in every step: {why}")
            return self.batches
        encoder = {name: state.params[name] for name in self.objective.frozen_encoder if name in state.params}
        return cached(self.batches, self.model, on_this_process(encoder), Path(self.workdir))

    def initial_state(self) -> TrainState:
        examples = len(self.batches.dataset)
        return initial_state(self.objective, self.optimizer, examples, self.config.seed, self.config.ema_decay > 0)


def build(config: ConfigDict, workdir: str, data_dir: str | None, lpips: LpipsFile = LPIPS_FILE) -> Training:
    """Data, model, objective and optimizer of a resolved config."""
    mesh, data = data_mesh(), config.dataset
    check_batch_size(config.batch_size, mesh, config.accumulation_steps)
    dataset = _pictures(config, data_dir)
    config = completed(config, dataset)
    batches = Batches(
        dataset,
        config.batch_size,
        config.seed,
        tuple(data.crop) or None,
        data.flip,
        jax.process_index(),
        jax.process_count(),
    )
    if config.steps_per_call > 1:
        check_together(batches)
    if len(dataset) <= CHECKED_PICTURES:
        refuse_damaged(dataset.damaged(), len(dataset))
    shape = batches.picture_shape
    model = models.build(config.model, shape)
    classes, largest = getattr(model, "classes", 0), int(dataset.labels.max(initial=0))
    if classes and largest >= classes:
        raise UserError(f"config: model.classes is {classes}, and the pictures have labels up to {largest}")
    objective = ready_to_train(objectives.build(config.objective, model), shape, len(dataset), config, lpips)
    key = jax.random.key(0)
    groups = tuple(name for name in jax.eval_shape(objective.init, key) if group_of(objective, name).learns)
    table = jax.eval_shape(lambda key: objective.init_latents(key, len(dataset)), key)
    if table is not None:
        groups += (LATENTS,)
        if data.crop or data.flip:
            raise UserError(
                "config: a latent table has one row a picture, whatever its crop: dataset.crop and "
                "dataset.flip need an encoder"
            )
    optimizer = optimizers.build(config.optimizer.to_dict(), config.total_steps, groups, tuple(objective.groups))
    if config.pretrained.path and not run_folder.has_begun(workdir):  # noticed before the folder is made
        found, _ = load_groups(config.pretrained, jax.eval_shape(objective.init, key), objective)
        check_frozen(objective, key, tuple(found))
    return Training(config, workdir, mesh, batches, model, objective, optimizer, _held_out(config, objective, data_dir))


def _pictures(config: ConfigDict, data_dir: str | None) -> Dataset:
    """What config.dataset names: pictures, or the codes or latents of a run."""
    data = config.dataset
    label = None if data.label < 0 else data.label
    if not names_latents(data.name):
        return load_any(data.name, data.split, data_dir, label)
    for key, value in (("sample_every_steps", config.sample_every_steps), ("dataset.flip", data.flip)):
        if value:
            raise UserError(f"config: {key} is for pictures, and {data.name} are latents")
    return load_latents(data.name, data.split, data_dir, label)


def _held_out(config: ConfigDict, objective: Objective, data_dir: str | None) -> HeldOut | None:
    """The test pictures for config.evaluate_every_steps, where it asks for them."""
    data = config.dataset
    if not config.evaluate_every_steps:
        return None
    if "test" in data.split:
        raise UserError("config: evaluate_every_steps is of the test split, which dataset.split trains on")
    dataset = load_any(data.name, "test", data_dir, data.label)
    return HeldOut(objective, dataset, tuple(data.crop) or None)


def ready_to_train(
    objective: Objective, shape: tuple[int, int, int], examples: int, config: ConfigDict, lpips: LpipsFile
) -> Any:
    """The objective with what only a training needs of it; UserError where that is not to be had."""
    painted = (objective.model.height, objective.model.width, objective.model.channels)
    if painted != shape:
        raise UserError(f"config: the model paints {painted} (height, width, channels), the pictures are {shape}")
    objective.check_pictures(shape, examples)
    if config.batch_size // config.accumulation_steps < objective.smallest_batch:
        raise UserError(
            f"config: the objective needs {objective.smallest_batch} pictures at once, and batch_size "
            f"{config.batch_size} in {counted(config.accumulation_steps, 'accumulation step')} gives fewer"
        )
    frozen = [name for name, group in objective.groups.items() if not (group.learns or group.fitted)]
    if frozen and not config.pretrained.path:
        named = ", ".join(frozen)
        raise UserError(f"config: {named} do not learn: without pretrained.path it would freeze random numbers")
    if objective.frozen_encoder and not hasattr(objective.model, "moments"):
        raise UserError(f"config: the model '{config.model.name}' has no `moments`, as a frozen encoder must have")
    if objective.frozen_encoder and config.steps_per_call > 1:
        raise UserError("config: steps_per_call above 1 computes moments of a frozen encoder in every step; take 1")
    if not objective.needs_lpips:
        return objective
    return replace(objective, lpips=lpips.load())  # type: ignore[type-var]  # a dataclass with this field


def check_frozen(objective: Objective, key: jax.Array, loaded: tuple[str, ...]) -> None:
    """UserError where a group of parameters that does not learn would stay at random numbers."""
    for name in jax.eval_shape(objective.init, key):
        group = group_of(objective, name)
        if not (group.learns or group.fitted) and name not in loaded:
            raise UserError(
                f"config: {name} does not learn and would stay random: pretrained.groups must have it, beside what "
                f"they have ({', '.join(loaded)})"
            )


def start_from_pictures(training: Training, state: TrainState, sharding) -> TrainState:
    """The first state with what the objective wants of it fitted to the pictures: latent table, decoder."""
    latents = None if state.latents is None else state.latents.values
    params, values = training.objective.start_from_pictures(
        state.params, latents, training.batches.dataset, training.config.seed
    )
    started = state if params is state.params else _with_params(state, jax.device_put(params, sharding))
    if state.latents is None or values is latents:
        return started
    return replace(started, latents=replace(state.latents, values=jax.device_put(values, sharding)))


def start_from_pretrained(training: Training, state: TrainState, sharding) -> TrainState:
    """The first state with the groups of parameters that config.pretrained names, where it names a path.

    Where it names no groups, so that all are taken, the model's statistics in a run are taken with them.
    """
    if not training.config.pretrained.path:
        return state
    path, objective = training.config.pretrained.path, training.objective
    if objective.model_statistics and not training.config.pretrained.groups and run_folder.holds_run(path):
        known = jax.device_put(load_run(path).statistics, sharding)
        state = replace(state, statistics={**state.statistics, **known})
    shapes = jax.eval_shape(lambda: state.params)
    groups, source = load_groups(training.config.pretrained, shapes, training.objective)
    if training.encoder_is_frozen and has_scale(source) and jax.process_index() == 0:
        keep_latent_scale(training.workdir, source)
    return _with_params(state, jax.device_put(groups, sharding))


def _with_params(state: TrainState, groups: Params) -> TrainState:
    """The state with these groups of parameters, and their averages, in place of its own."""
    params = {**state.params, **groups}
    if state.ema_params is None:
        return replace(state, params=params)
    # a copy: the step gives up the buffers of the state, and may not meet one twice
    average = {**state.ema_params, **{name: groups[name] for name in groups if name in state.ema_params}}
    return replace(state, params=params, ema_params=jax.tree.map(jnp.copy, average))
