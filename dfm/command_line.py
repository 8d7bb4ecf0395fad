"""What the command lines share: errors as one line with an exit code, and compiled programs kept between runs."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from dfm.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse, with its complaints raised as UserError: one line without the usage in front."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def run_command(name: str, run: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None) -> int:
    """Runs `run(arguments)`, the whole of a command; returns its exit code: 0, or 2 after one line of what is wrong.

    Args:
        name: as it stands in front of every message, say `dfm.sample`.
        run: parses the arguments (None: those of the process) and does the work; no answer counts as 0.
    """
    _keep_compiled_code()
    try:
        return run(arguments) or 0
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; unfinished outputs were not written", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:  # XLA's lack of memory is a RuntimeError with this word in it
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(f"{name}: out of memory: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python would complain again at exit)
        return 141


def checkpoint(text: str) -> str | int:
    """The word of `--which`: latest, best or the number of a step."""
    if text in ("latest", "best"):
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither latest, best nor a step")
    return int(text)


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed must be 0 to {2**32 - 1}, not {seed}")


def join_processes(coordinator_address: str | None, process_count: int | None, process_id: int | None) -> None:
    """jax.distributed.initialize; UserError where neither these nor the cluster say who the processes are."""
    import jax

    settings = (coordinator_address, process_count, process_id)
    if any(value is not None for value in settings) and None in settings:
        raise UserError("--coordinator_address, --process_count and --process_id belong together")
    try:
        jax.distributed.initialize(*settings)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed: {' '.join(str(error).split())} (outside of a cluster, name them: "
            "--coordinator_address, --process_count, --process_id)"
        ) from None


def _keep_compiled_code() -> None:
    """Compiled programs are kept between runs: a fit starts seconds earlier. JAX_COMPILATION_CACHE_DIR overrides."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dfm" / "jax"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
