"""The folder of a run: config.json and run.json, and whether it may be begun or continued there."""

import contextlib
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dfm import results
from dfm.config import differences, from_json
from dfm.data import fingerprint
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.training.class_defaults import filled

CONFIG, RUN, METRICS, CHECKPOINTS, PICTURES = "config.json", "run.json", "metrics.jsonl", "checkpoints", "pictures"
LOCK = ".lock"


def holds_run(path: str | Path) -> bool:
    """Whether this is the folder of a run: a model of diffusers has a config.json too."""
    try:
        config = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "objective" in config


def holds_other(path: str | Path) -> bool:
    """Whether there is something, and no run: a model of diffusers, or a single file."""
    return Path(path).exists() and not holds_run(path)


def read_config(workdir: str | Path) -> ConfigDict:
    """The config of the run in this folder.

    Raises:
        UserError: there is no run in it.
    """
    path = Path(workdir) / CONFIG
    try:
        config = from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{workdir}: holds no run ({CONFIG} is missing)") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not {"model", "objective", "optimizer", "total_steps"} <= set(config):
        raise UserError(f"{path}: is not the config of a run")
    return config


def has_begun(workdir: str | Path) -> bool:
    """Whether there is a checkpoint, or something that looks like one."""
    folder = Path(workdir) / CHECKPOINTS
    return folder.is_dir() and any(folder.iterdir())


def check_foreign(workdir: str | Path) -> None:
    """UserError where a run would overwrite files of something else."""
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir}: is a file, not a folder")
    if (workdir / CONFIG).exists():
        read_config(workdir)
        return
    foreign = [name for name in (RUN, METRICS, CHECKPOINTS, PICTURES, "priors") if (workdir / name).exists()]
    if foreign:
        raise UserError(f"{workdir}: holds {foreign[0]} but no {CONFIG}: not a run, so nothing is overwritten there")


@contextlib.contextmanager
def claim(workdir: str | Path, config: ConfigDict) -> Iterator[None]:
    """Makes the folder of a run out of a new one; within the `with`, no other training may claim it.

    config.json comes first of all: a run that is killed at any moment leaves a folder that is known as its own.

    Raises:
        UserError: files of something else would be overwritten, or another training is at work.
    """
    check_foreign(workdir)
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{workdir}: cannot be made ({error.strerror})") from None
    if not (workdir / CONFIG).exists():
        _write_json(workdir / CONFIG, config.to_dict())
    try:
        lock = open(workdir / LOCK, "wb")  # noqa: SIM115  # closed by the `with`
    except OSError as error:
        raise UserError(f"{workdir}: cannot be written to ({error.strerror})") from None
    with lock as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however it ends
        except BlockingIOError:
            raise UserError(f"{workdir}: another training is writing there") from None
        except (ImportError, OSError):
            pass  # a system without such locks
        yield


def check_config(workdir: str | Path, config: ConfigDict, latest_step: int | None, extend: bool = False) -> None:
    """UserError where a run would be continued with another config than it was begun with.

    A run that has no checkpoint yet has nothing to lose and begins anew, with whatever config. More steps are no other
    config where the learning rate is constant; where it follows a schedule, that is planned anew for the rest of the
    steps, and `extend` must say so.
    """
    if latest_step is None:
        return
    before = read_config(workdir)
    if before.total_steps < config.total_steps:
        if not extend and not _is_constant(config.optimizer):
            raise UserError(
                f"{workdir}: total_steps: {before.total_steps} -> {config.total_steps} plans the schedule "
                f"'{config.optimizer.schedule}' anew for the rest of the steps; say --extend "
                "(extend=True) if that is what you want"
            )
        before.total_steps = config.total_steps
    found = differences(*filled(before, config))
    if found:
        raise UserError(
            f"{workdir}: was trained to step {latest_step} with another config ({'; '.join(found)}); "
            "restore these values or choose another workdir"
        )


def _is_constant(optimizer: ConfigDict) -> bool:
    """Whether no learning rate depends on total_steps."""
    schedules = [group.get("schedule", optimizer.schedule) for group in optimizer.groups.values()]
    return all(schedule == "constant" for schedule in (optimizer.schedule, *schedules))


def read_facts(workdir: str | Path) -> dict[str, Any]:
    """run.json; {} where it is lost: nothing in it is needed to go on."""
    try:
        facts = json.loads((Path(workdir) / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def check_data(workdir: str | Path, before: dict[str, Any] | None, now: dict[str, Any], name: str) -> None:
    """UserError where the pictures are not those that the run was trained on; runs older than fingerprints pass."""
    if found := fingerprint.differences(before or {}, now):
        raise UserError(
            f"{workdir}: {name} is not the data of this run any more ({'; '.join(found)}): "
            "bring the pictures back, or train on the new ones in another workdir"
        )


def write_folder(workdir: str | Path, config: ConfigDict, step: int, facts: dict[str, Any]) -> None:
    """Writes config.json, and run.json: what it takes to make the run again. Later starts are added to `starts`."""
    workdir = Path(workdir)
    _write_json(workdir / CONFIG, config.to_dict())
    start = {
        "step": step,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": results.portable_command(["dfm.train", *sys.argv[1:]]),
        "processes": jax.process_count(),
        **results.provenance(),
    }
    earlier = read_facts(workdir).get("starts", []) if step > 0 else []
    run = {"schema": results.SCHEMA, **facts, "starts": [*earlier, start]}
    _write_json(workdir / RUN, run)


def _write_json(path: Path, value: dict) -> None:
    write_atomically(path, (results.dump(value, indent=2) + "\n").encode())


def parameter_counts(params: dict[str, Any]) -> dict[str, int]:
    """Number of parameters of each group."""
    return {name: sum(leaf.size for leaf in jax.tree.leaves(group)) for name, group in params.items()}
