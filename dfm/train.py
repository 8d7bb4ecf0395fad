"""Training: python -m dfm.train --config=configs/x.py --workdir=DIR. The loop is `train`, read top to bottom."""

import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from dfm.command_line import join_processes, run_command
from dfm.config import resolve
from dfm.errors import UserError
from dfm.metrics.lpips import LpipsFile
from dfm.objectives.protocol import LATENTS
from dfm.results import dump
from dfm.training import flags, run_folder
from dfm.training.checkpoints import Checkpoints
from dfm.training.metric_log import MetricLog, NotFinite
from dfm.training.previews import Previews
from dfm.training.progress import TrainingProgress
from dfm.training.run_latents import RunLatents, write_facts
from dfm.training.setting_up import LPIPS_FILE, Training, build, start_from_pictures, start_from_pretrained
from dfm.training.sharding import on_each_device
from dfm.training.state import TrainState
from dfm.training.step import make_step
from dfm.training.steps import SingleSteps, StepsTogether
from dfm.training.stopping import StopRequest
from dfm.training.sweeps import run_sweep

EVERY = ("log_every_steps", "checkpoint_every_steps", "sample_every_steps", "evaluate_every_steps")
HELP = """usage: python -m dfm.train --config=FILE[:ARGUMENT] --workdir=DIR [--config.KEY=VALUE ...]

examples:
  python -m dfm.train --config=configs/dfm_digits.py --workdir=runs/digits
  python -m dfm.train --config=configs/dfm_digits.py:quick --workdir=runs/quick
  python -m dfm.train --config=configs/dfm_mnist.py:thesis,class=2 --workdir=runs/twos --config.batch_size=128
  python -m dfm.train --config=configs/autoencoder_kl_imagenet.py:cifar10 --workdir=runs/vae --lpips_weights=alex.npz
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
        join_processes(options.coordinator_address, options.process_count, options.process_id)
    start = partial(
        train,
        data_dir=options.data_dir,
        extend=options.extend,
        tensorboard=options.tensorboard,
        lpips=LpipsFile(options.lpips_weights, options.lpips_sha256),
    )
    if options.sweep or options.sweep_all or options.sweep_index is not None:
        return run_sweep(options, start)
    return start(options.config, str(options.workdir))


def train(
    config: ConfigDict,
    workdir: str,
    data_dir: str | None = None,
    tensorboard: bool = False,
    lpips: LpipsFile = LPIPS_FILE,
    extend: bool = False,
    quiet: bool = False,
) -> int:
    """Trains to config.total_steps, from the latest checkpoint in `workdir` where there is one; returns the exit code.

    Args:
        extend: more steps than the run was begun with are wanted, under a schedule: it is planned anew for the rest.
        quiet: the resolved config and what is trained are not printed; progress goes to standard error all the same.

    Raises:
        UserError: a config that cannot be, a workdir of something else, or NaN.
    """
    config = resolve(config)
    with StopRequest() as stop:  # first: whoever asks during the start gets a checkpoint too, of the first step
        return _train(build(config, workdir, data_dir, lpips), stop, tensorboard, extend, quiet)


def _train(training: Training, stop: StopRequest, tensorboard: bool, extend: bool, quiet: bool) -> int:
    config, workdir, first_process = training.config, training.workdir, jax.process_index() == 0
    log = MetricLog(workdir, config.batch_size, first_process, tensorboard)
    with (
        run_folder.claim(workdir, config) if first_process else nullcontext(),
        Checkpoints(workdir, config.keep_last, config.keep_best) as checkpoints,
        closing(log),
    ):
        run_folder.check_config(workdir, config, checkpoints.latest_step, extend)
        if checkpoints.latest_step is not None:
            known = run_folder.read_facts(workdir).get("data")
            run_folder.check_data(workdir, known, training.fingerprint, config.dataset.name)
        state = begin_or_resume(training, checkpoints, log)
        if first_process:
            begin_folder(training, state, quiet)
        try:
            loop(training, state, log, checkpoints, stop)
        except NotFinite as error:
            latest = checkpoints.latest_step
            kept = "no checkpoint" if latest is None else f"the checkpoint of step {latest}"
            raise UserError(f"{error}; {workdir} keeps {kept}") from None
        return stop.exit_code


def loop(
    training: Training, state: TrainState, log: MetricLog, checkpoints: Checkpoints, stop: StopRequest
) -> TrainState:
    """Step after step: log, save, paint and evaluate every so often, to the last step or until asked to stop."""
    config, mesh, optimizer, objective = training.config, training.mesh, training.optimizer, training.objective
    start, total = int(state.step), config.total_steps
    step = make_step(objective, optimizer, config.ema_decay, config.compute_dtype, config.accumulation_steps)
    previews = Previews(objective, training.batches, training.workdir, not training.encoder_is_frozen)
    progress = TrainingProgress(start, total)
    steps: SingleSteps | StepsTogether
    if config.steps_per_call > 1:
        often = [every for name in EVERY if (every := config[name])]
        batches, count = training.batches, config.steps_per_call
        steps = StepsTogether(step, batches, objective.phase, mesh, total, count, often)
    else:
        steps = SingleSteps(step, training.with_cache(state), objective.phase, mesh, start, total)
    done = start
    with closing(progress), closing(steps):
        while done < total:
            try:
                state, metrics, count = steps.take(state, done)
            except UserError:  # a picture that has been damaged meanwhile: nothing done so far is lost for it
                if done > start:
                    save(done, state, log, checkpoints, regular=False)
                raise
            phase, done = objective.phase(done), done + count
            log.add(done, metrics, count)
            progress.advance(count)
            stopping = stop.requested(done)
            if training.held_out and (done % config.evaluate_every_steps == 0 or done == total):
                log.add_held_out(done, training.held_out.evaluate(state, phase, config.compute_dtype))
            if done % config.log_every_steps == 0 or done == total:
                progress.show(log.write_line(done, optimizer.learning_rates(done - 1)))
            regular = done % config.checkpoint_every_steps == 0
            if regular or stopping or done == total:
                save(done, state, log, checkpoints, regular)
            if config.sample_every_steps and (done % config.sample_every_steps == 0 or done == total):
                log.flush()  # nothing is painted, either, that is not finite
                previews.write(state, done)
            if stopping:
                break
    return state


def begin_or_resume(training: Training, checkpoints: Checkpoints, log: MetricLog) -> TrainState:
    """The state of the latest checkpoint, or the first one, on every device of the mesh."""
    sharding = on_each_device(training.mesh)
    latest = checkpoints.latest_step
    if latest is None:
        log.resume(0, {})
        # XLA's CPU backend optimises the random numbers of each tensor by itself: most of a minute, used once
        options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        state = jax.jit(training.initial_state, out_shardings=sharding, compiler_options=options)()
        return start_from_pretrained(training, start_from_pictures(training, state, sharding), sharding)
    step, tree, progress = restore_sound(checkpoints, jax.eval_shape(training.initial_state).tree(), sharding)
    log.resume(step, progress)
    return TrainState(**tree)


def restore_sound(checkpoints: Checkpoints, like: Any, sharding: Any) -> tuple[int, Any, dict]:
    """(step, state, progress) of the latest checkpoint that can be read; later ones, damaged, are set aside.

    Raises:
        UserError: none can be read; none is moved then.
    """
    damaged: list[tuple[int, UserError]] = []
    for step in checkpoints.steps:
        try:
            tree, progress = checkpoints.restore(step, like, sharding)
        except UserError as error:
            damaged.append((step, error))
            continue
        for bad, reason in damaged if jax.process_index() == 0 else []:
            place = checkpoints.set_aside(bad)
            print(f"dfm.train: {reason}; moved to {place}, going on from step {step}", file=sys.stderr)
        return step, tree, progress
    raise damaged[0][1]


def save(step: int, state: TrainState, log: MetricLog, checkpoints: Checkpoints, regular: bool) -> None:
    """Saves a state of which every step before was finite; a regular save opens a new window for the score."""
    log.flush()
    score = log.score()
    if regular:
        log.reset_score()
    checkpoints.save(step, state.tree(), log.progress(), score)


def begin_folder(training: Training, state: TrainState, quiet: bool) -> None:
    """Writes the run's folder and, unless `quiet`, prints the resolved config: --help cannot list its keys."""
    config, step = training.config, int(state.step)
    counts = run_folder.parameter_counts(state.params)
    if state.latents is not None:
        counts[LATENTS] = state.latents.values.size
    examples = len(training.batches.dataset)
    shape = training.batches.picture_shape
    facts: dict[str, Any] = {
        "parameters": counts,
        "examples": examples,
        "picture_shape": shape,
        "data": training.fingerprint,
    }
    if names := training.batches.dataset.label_names:  # which class each label is: folders may be renamed later
        facts["label_names"] = list(names)
    run_folder.write_folder(training.workdir, config, step, facts)
    if isinstance(training.batches.dataset, RunLatents):
        write_facts(training.workdir, training.batches.dataset)
    if quiet:
        return
    print(dump(config.to_dict(), indent=2))
    for note in training.batches.dataset.notes:
        print(f"note: {note}")
    numbers = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"{examples:,} pictures; parameters: {numbers}; {jax.device_count()} x {jax.devices()[0].device_kind}")
    begin = "starts at" if step == 0 else "continues after" if step < config.total_steps else "has done"
    print(f"{begin} step {step} of {config.total_steps} in {training.workdir}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
