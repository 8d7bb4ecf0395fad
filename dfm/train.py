"""Training: python -m dfm.train --config=configs/x.py --workdir=DIR. The loop is `train`, read top to bottom."""

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from dfm import models, objectives
from dfm.command_line import run_command
from dfm.config import apply, read_sweep, resolve, sweep_name
from dfm.data import Batches, load
from dfm.errors import UserError
from dfm.results import dump
from dfm.training import flags, optimizers, run_folder
from dfm.training.checkpoints import Checkpoints
from dfm.training.metric_log import MetricLog, NotFinite
from dfm.training.previews import Previews
from dfm.training.progress import Progress
from dfm.training.sharding import check_batch_size, data_mesh, on_each_device, place_batch
from dfm.training.state import TrainState, initial_state
from dfm.training.step import make_step
from dfm.training.stopping import StopRequest

HELP = """usage: python -m dfm.train --config=FILE[:ARGUMENT] --workdir=DIR [--config.KEY=VALUE ...]

examples:
  python -m dfm.train --config=configs/dfm_digits.py --workdir=runs/digits
  python -m dfm.train --config=configs/dfm_digits.py:quick --workdir=runs/quick
  python -m dfm.train --config=configs/dfm_mnist.py:thesis,class=2 --workdir=runs/twos --config.batch_size=128
  python -m dfm.train --config=configs/dfm_digits.py --sweep                      lists the runs of its sweep
  python -m dfm.train --config=configs/dfm_digits.py --workdir=runs/s --sweep_index=3
  srun python -m dfm.train --config=... --workdir=... --distributed               one process a host

The same command again continues where it stopped; SIGTERM saves and exits with code 0.

flags:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 after one line that says what is wrong, 130 after Ctrl-C."""
    return run_command("dfm.train", run, arguments)


def run(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"--help", "-h", "-help", "--helpfull"} & set(arguments):
        print(HELP + flags.describe())
        return 0
    options = flags.parse(arguments)
    if options.distributed:
        jax.distributed.initialize(options.coordinator_address, options.process_count, options.process_id)
    start = partial(train, data_dir=options.data_dir, tensorboard=options.tensorboard)
    if options.sweep or options.sweep_all or options.sweep_index is not None:
        return run_sweep(options, start)
    return start(options.config, str(options.workdir))


def run_sweep(options: flags.Options, start) -> int:
    """Lists the sweep, or runs one or all of it; a run that fails does not stop the others, but shows in the code."""
    runs = read_sweep(options.config_file)
    if options.sweep:
        for index, settings in enumerate(runs):
            apply(options.config, settings)
            print(f"{index}: " + ", ".join(f"{key}={value}" for key, value in settings.items()))
        return 0
    if options.sweep_index is not None and not 0 <= options.sweep_index < len(runs):
        raise UserError(f"--sweep_index={options.sweep_index}: the sweep has runs 0 to {len(runs) - 1}")
    chosen = range(len(runs)) if options.sweep_index is None else [options.sweep_index]
    worst = 0
    for index in chosen:
        name = sweep_name(index, runs[index])
        one = partial(start, apply(options.config, runs[index]), f"{options.workdir}/{name}")
        try:
            code = run_command(f"dfm.train: {name}", lambda _, one=one: one(), ())  # type: ignore[misc]
        except Exception:  # a defect of ours, or memory: shown in full, and no reason to waste the other runs
            traceback.print_exc()
            code = 1
        worst = worst or code
        if code == 130:
            break
    return worst


@dataclass(frozen=True)
class Parts:
    """What a config builds."""

    batches: Batches
    model: Any
    objective: Any
    optimizer: optimizers.Optimizer
    begin: Callable[[], TrainState]


def build(config: ConfigDict, data_dir: str | None) -> Parts:
    """Data, model, objective and optimizer of a resolved config."""
    data = config.dataset
    dataset = load(data.name, data.split, data_dir, None if data.label < 0 else data.label)
    batches = Batches(dataset, config.batch_size, config.seed, tuple(data.crop) or None, data.flip,
                      jax.process_index(), jax.process_count())  # fmt: skip
    size = tuple(config.model.get(key, given) for key, given in
                 zip(("height", "width", "channels"), batches.picture_shape, strict=True))  # fmt: skip
    if size != batches.picture_shape:
        raise UserError(f"config: the model paints {size} (height, width, channels), but {data.name} has "
                        f"pictures of {batches.picture_shape}")  # fmt: skip
    model = models.build(config.model)
    objective = objectives.build(config.objective, model)
    key = jax.random.key(0)
    groups = tuple(jax.eval_shape(objective.init, key))
    if jax.eval_shape(lambda key: objective.init_latents(key, len(dataset)), key) is not None:
        groups += (optimizers.LATENTS,)
    optimizer = optimizers.build(config.optimizer.to_dict(), config.total_steps, groups)
    begin = partial(initial_state, objective, optimizer, len(dataset), config.seed, config.ema_decay > 0)
    return Parts(batches, model, objective, optimizer, begin)


def train(config: ConfigDict, workdir: str, data_dir: str | None = None, tensorboard: bool = False) -> int:
    """Trains to config.total_steps, from the latest checkpoint in `workdir` where there is one; returns the exit code.

    Raises:
        UserError: a config that cannot be, a workdir of something else, or NaN.
    """
    config = resolve(config)
    mesh = data_mesh()
    check_batch_size(config.batch_size, mesh)
    parts = build(config, data_dir)
    first_process = jax.process_index() == 0
    with (
        run_folder.claim(workdir, config) if first_process else nullcontext(),
        Checkpoints(workdir, config.keep_last, config.keep_best) as checkpoints,
        StopRequest() as stop,
    ):
        run_folder.check_config(workdir, config, checkpoints.latest_step)
        log = MetricLog(workdir, config.batch_size, write=first_process, tensorboard=tensorboard)
        state = begin_or_resume(parts, checkpoints, log, mesh)
        start = int(state.step)
        if first_process:
            announce(config, workdir, parts, state, start)
        if start >= config.total_steps:
            return 0
        step_on_mesh = jax.jit(
            make_step(parts.objective, parts.optimizer, config.ema_decay, config.compute_dtype),
            donate_argnums=0, out_shardings=on_each_device(mesh),
        )  # fmt: skip
        previews = Previews(parts.model, parts.batches, workdir)
        progress = Progress(start, config.total_steps)
        stream: Any = parts.batches.prefetch(start, config.total_steps)
        with closing(log), closing(progress), closing(stream):
            for step, batch in enumerate(stream, start=start + 1):
                state, metrics = step_on_mesh(state, place_batch(batch, mesh))
                log.add(step, metrics)
                progress.advance()
                done = step == config.total_steps
                stopping = stop.requested(step)
                try:
                    if done or step % config.log_every_steps == 0:
                        progress.show(log.write_line(step, parts.optimizer.learning_rates(step - 1)))
                    if done or stopping or step % config.checkpoint_every_steps == 0:
                        save(step, state, log, checkpoints, regular=step % config.checkpoint_every_steps == 0)
                    if config.sample_every_steps and first_process and (done or step % config.sample_every_steps == 0):
                        log.flush()
                        previews.write(state, step)
                except NotFinite as error:
                    kept = checkpoints.latest_step
                    where = "no checkpoint" if kept is None else f"the checkpoint of step {kept}"
                    raise UserError(f"{error}; {workdir} keeps {where}") from None
                if stopping:
                    break
        return stop.exit_code


def begin_or_resume(parts: Parts, checkpoints: Checkpoints, log: MetricLog, mesh) -> TrainState:
    """The state of the latest checkpoint, or the first one, on every device of the mesh."""
    sharding = on_each_device(mesh)
    latest = checkpoints.latest_step
    if latest is None:
        log.resume(0, {})
        return jax.jit(parts.begin, out_shardings=sharding)()
    state, progress = checkpoints.restore(latest, jax.eval_shape(parts.begin), sharding)
    log.resume(latest, progress)
    return state


def save(step: int, state: TrainState, log: MetricLog, checkpoints: Checkpoints, regular: bool) -> None:
    """Saves a state of which every step before was finite; a regular save opens a new window for the score."""
    log.flush()
    score = log.score()
    if regular:
        log.reset_score()
    checkpoints.save(step, state, log.progress(), score)


def announce(config: ConfigDict, workdir: str, parts: Parts, state: TrainState, step: int) -> None:
    """Writes the run's folder and prints the resolved config: --help cannot list its keys."""
    counts = run_folder.parameter_counts(state.params)
    if state.latents is not None:
        counts[optimizers.LATENTS] = state.latents.values.size
    examples = len(parts.batches.dataset)
    run_folder.write_folder(workdir, config, step, {"parameters": counts, "examples": examples})
    print(dump(config.to_dict(), indent=2))
    numbers = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"{examples:,} pictures; parameters: {numbers}; {jax.device_count()} x {jax.devices()[0].device_kind}")
    print(f"{'continues after' if step else 'starts at'} step {step} of {config.total_steps} in {workdir}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
