"""The flags of dfm.train, by absl and ml_collections, with every complaint as one line."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from dfm.errors import UserError

PATHS = ("workdir", "data_dir", "lpips_weights")  # where ~ is the user's home
SEE_HELP = "(see python -m dfm.train --help)"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    config: ConfigDict
    config_file: str
    overrides: tuple[str, ...]  # keys of the config that the command line sets
    workdir: str | None
    data_dir: str | None
    sweep: bool
    sweep_index: int | None
    sweep_all: bool
    extend: bool
    tensorboard: bool
    distributed: bool
    coordinator_address: str | None
    process_count: int | None
    process_id: int | None
    lpips_weights: str | None
    lpips_sha256: str | None


def parse(arguments: Sequence[str]) -> Options:
    """Options of these arguments, overrides of the config (--config.key=value) applied.

    Raises:
        UserError: anything that is wrong with them, in one line.
    """
    argv = ["dfm.train", *arguments]
    values = _define(argv)
    _check_config_file(arguments)
    try:
        rest = values(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{_not_a_number(error, arguments) or _one_line(error)} {SEE_HELP}") from None
    if rest:
        raise UserError(f"unexpected argument '{rest[0]}' {SEE_HELP}")
    settings: dict[str, Any] = {name: values[name].value for name in Options.__annotations__ if name in values}
    for name in PATHS:
        settings[name] = settings[name] and os.path.expanduser(settings[name])
    overrides = tuple(match[1] for argument in arguments if (match := re.match(r"--?config\.([\w.]+)", argument)))
    options = Options(config_file=config_flags.get_config_filename(values["config"]), overrides=overrides, **settings)
    if sum([options.sweep, options.sweep_index is not None, options.sweep_all]) > 1:
        raise UserError("--sweep lists, --sweep_index=N runs one and --sweep_all runs all: choose one of them")
    if options.workdir is None and not options.sweep:
        raise UserError(f"--workdir=DIR is missing {SEE_HELP}")
    return options


def describe() -> str:
    """The flags with their meanings, for --help."""
    values = _define([])
    return "\n".join(f"  --{name:<22}{values[name].help}" for name in Options.__annotations__ if name in values)


def _define(argv: list[str]) -> flags.FlagValues:
    # of its own, not absl's global FLAGS: another program, or a test, may define the same names
    values = flags.FlagValues()
    # not `config` alone: its overrides are flags too, found in argv
    config_flags.DEFINE_config_file("config", None, "config file[:argument]", flag_values=values, sys_argv=argv)
    text = {
        "workdir": "folder of the run; the same command again continues it",
        "data_dir": "where prepared data are; default $DFM_DATA_DIR, else ~/.cache/dfm/data",
        "lpips_weights": "file of the perceptual loss; default $DFM_LPIPS_WEIGHTS",
        "lpips_sha256": "expected hash of LPIPS weights that are not pinned (VGG-16)",
        "coordinator_address": "HOST:PORT of process 0, where the cluster does not say it by itself",
    }
    for name, help_text in text.items():
        flags.DEFINE_string(name, None, help_text, flag_values=values)
    switches = {
        "sweep": "list the runs of the config's sweep",
        "sweep_all": "run them all in turn",
        "extend": "more total_steps than before, under a schedule: plan it anew for the rest of the steps",
        "tensorboard": "write TensorBoard files too, into WORKDIR/tensorboard",
        "distributed": "this is one of several processes: jax.distributed.initialize (Slurm, TPU pods, ...)",
    }
    for name, help_text in switches.items():
        flags.DEFINE_boolean(name, False, help_text, flag_values=values)
    numbers = {
        "sweep_index": "run one of them, in WORKDIR/<index>-<settings>",
        "process_count": "number of processes, with --coordinator_address",
        "process_id": "0 to process_count - 1, with --coordinator_address",
    }
    for name, help_text in numbers.items():
        flags.DEFINE_integer(name, None, help_text, flag_values=values)
    return values


def _check_config_file(arguments: Sequence[str]) -> None:
    """Before absl, whose message about a missing file comes late and in several lines."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.lstrip("-").partition("=")
        if name != "config" or not argument.startswith("-"):
            continue
        if not equals:
            value = arguments[position + 1] if position + 1 < len(arguments) else ""
        path = value.partition(":")[0]
        if not os.path.isfile(path):
            raise UserError(f"--config={value}: no such file '{path}' {SEE_HELP}")
        return
    raise UserError(f"--config=FILE is missing {SEE_HELP}")


def _not_a_number(error: Exception, arguments: Sequence[str]) -> str | None:
    """What is wrong where Python's message says only which text is no number; None for anything else."""
    found = re.search(r"(invalid literal for int|could not convert string to float).*'(.*)'", str(error))
    blamed = [argument for argument in arguments if found and argument.endswith(f"={found[2]}")]
    if found is None or not blamed:
        return None
    return f"{blamed[0]}: not {'a whole' if 'int' in found[1] else 'a'} number"


def _one_line(error: Exception) -> str:
    """The message without the traceback that config_flags puts in front of it, or the quotes of a KeyError."""
    text = str(error)
    if switch := re.fullmatch(r"flag (\S+): \('Non-boolean argument to boolean flag', .*\)", text):
        return f"{switch[1]}: not true or false"
    guess = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', text)
    if guess:
        return f"--config has no key '{guess[2]}'; did you mean '{guess[1]}'?"
    if bare := re.fullmatch(r"""["']*(\w+)["']*""", text):  # a key within objective, say
        return f"--config has no key '{bare[1]}'"
    if isinstance(error, KeyError):
        return f"--config has no key {text.strip(chr(34))}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if "Traceback" in text else " ".join(lines)
