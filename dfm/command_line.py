"""What the command lines share: words that have an effect, errors as one line, streams, compiled programs kept."""

import argparse
import codecs
import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dfm.errors import UserError
from dfm.files import home_folder

MAX_CACHE_BYTES = 2**30  # of compiled programs kept between runs
MOST_CPU_DEVICES = 8
# of a disk or a quota that is full, and of a disk that fails: none is a fault of the program
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")

# name of an option's value -> (for what the option is, whether these arguments are that)
Meaning = tuple[str, Callable[[argparse.Namespace], Any]]
Meanings = Mapping[str, Meaning]


class Parser(argparse.ArgumentParser):
    """argparse, with complaints raised as UserError, one line without the usage, and no option that is ignored.

    `meanings` says of the options that not every call looks at, when they have a meaning:

        Parser(meanings={"shard": ("folders", lambda args: Path(args.input).is_dir())})

    refuses `--shard=1/2` with a single picture ("--shard is for folders"), also where what was typed is the default.
    Keys are names of attributes (`dest`); a function is called only where its option was typed. `given` holds what
    was typed last: name -> longest spelling of the option.
    """

    def __init__(self, *arguments: Any, meanings: Meanings | None = None, **options: Any):
        super().__init__(*arguments, **options)
        self.meanings: Meanings = meanings or {}
        self.given: dict[str, str] = {}

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.given = {}
        found, rest = super().parse_known_args(args, namespace)
        for name, (purpose, has_meaning) in self.meanings.items():
            getattr(found, name)  # a table that names no option is a mistake in the program
            if name in self.given and not has_meaning(found):
                raise UserError(f"{self.given[name]} is for {purpose}")
        return found, rest

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse tells nobody whether a value was typed or is a default: all that is typed comes by here
        if action.option_strings:
            self.given[action.dest] = max(action.option_strings, key=len)
        # no shell has done it in --output=~/pictures, which would make a folder named ~
        words = [os.path.expanduser(word) if word.startswith("~") else word for word in arg_strings]
        return super()._get_values(action, words)


def run_command(name: str, run: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None) -> int:
    """Runs `run(arguments)`, the whole of a command; returns its exit code: 0, or 2 after one line of what is wrong.

    Args:
        name: as it stands in front of every message, say `dfm.sample`.
        run: parses the arguments (None: those of the process) and does the work; no answer counts as 0.
    """
    _mend_streams()
    _keep_compiled_code()
    try:
        try:
            return run(arguments) or 0
        finally:
            sys.stdout.flush()  # at exit, its failure would be a traceback
    except UserError as error:
        say(f"{name}: {error}")
        return 2
    except KeyboardInterrupt:
        say(f"{name}: interrupted; unfinished outputs were not written")
        return 130
    except (MemoryError, RuntimeError) as error:  # XLA's lack of memory is a RuntimeError with this word in it
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        say(f"{name}: out of memory: {' '.join(str(error).split())[:200]}")
        return 2
    except BrokenPipeError:
        _discard("stdout")
        return 141
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _discard("stdout")  # perhaps that was it, and what it holds would fail again at exit
        say(f"{name}: {error.filename or 'an output'}: cannot be written ({error.strerror})")
        return 2


def say(text: str) -> None:
    """A line on standard error: a note or a complaint. Where nobody can read it any more, the work goes on."""
    try:
        # names of files may hold line ends and what moves a terminal's cursor
        print(CONTROL_CHARACTERS.sub(lambda found: repr(found[0])[1:-1], text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard("stderr")


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


def usable_cores() -> int:
    """Number of cores that this process may use: fewer than the machine has where it is bound to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """One CPU device a core from here on, where this process has not started JAX's yet and nobody says otherwise."""
    import jax

    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX runs already, with as many as it has
            jax.config.update("jax_num_cpu_devices", min(usable_cores(), MOST_CPU_DEVICES))


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Names of files that are not UTF-8 come out byte for byte, and what a terminal cannot show as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error("dfm.printable", _printable)


def _mend_streams() -> None:
    """Standard streams that were closed lead nowhere, and none fails over a character.

    Without something in their place, the next file opened would get their number, and what native code prints to
    standard error would end up in it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="dfm.printable")


def _discard(name: str) -> None:
    """Lets go of a standard stream that can no longer be written, with what is still in its buffer."""
    stream = getattr(sys, name)
    null = os.open(os.devnull, os.O_WRONLY)
    if stream is getattr(sys, f"__{name}__"):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
    setattr(sys, name, os.fdopen(null, "w"))


def _keep_compiled_code() -> None:
    """Compiled programs are kept between runs: a fit starts seconds earlier. JAX_COMPILATION_CACHE_DIR overrides."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or home_folder() / ".cache") / "dfm" / "jax"
        cache.mkdir(parents=True, exist_ok=True)
        _forget_oldest(cache, MAX_CACHE_BYTES)
    except (UserError, OSError):
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _forget_oldest(folder: Path, most_bytes: int) -> None:
    """Removes the files written longest ago until the rest takes at most `most_bytes`; others may do so meanwhile."""
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            files.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
