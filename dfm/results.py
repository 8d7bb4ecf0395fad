"""Results as append-only JSON lines, each with what it takes to make it again: config, seed, commit, hardware, time."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys

from dfm.command_line import usable_cores
from dfm.errors import UserError

SCHEMA = 1
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "pillow",
    "scipy",
    "scikit-learn",
    "constriction",
    "bjontegaard",
    "torch",
    "diffusers",
)


def record(path, name, protocol, command, config, seed, seconds, metrics) -> dict:
    """Append one result to a JSON-lines file and return it.

    Args:
        path: the file, say results/image_recipe.jsonl; its folder is made when missing.
        name: what was measured.
        protocol: on what, by the names of README.md (`kodak-256`, `fid-10k`, ...).
        command: the command line as a string or as a list like sys.argv; absolute paths shrink to their last part.
        config: every setting that shapes the numbers.
        seed: the seed, or null where nothing is random.
        seconds: wall-clock time of the whole run.
        metrics: the numbers; NaN and infinities become null.
    """
    entry = {
        "schema": SCHEMA,
        "name": name,
        "protocol": protocol,
        "command": portable_command(command),
        "config": config,
        "seed": seed,
        **provenance(),
        "seconds": seconds,
        "metrics": metrics,
    }
    append_line(path, entry)
    return finite(entry)


def append_line(path, entry: dict) -> None:
    """Append one JSON line and push it to the disk, so that a killed run keeps everything it has measured.

    A line that an earlier run left unfinished is closed first: the new one must not be glued to it.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    line = dump(entry) + "\n"
    with open(path, "a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def check_appendable(path) -> None:
    """UserError where a file is there that holds no JSON lines: a line at its end would damage it."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return
    if first_entry(path) is None:
        raise UserError(f"{path}: exists and holds no JSON lines, to which results could be appended")


def first_entry(path) -> dict | None:
    """The object in a file's first line; None where that is none."""
    with open(path, "rb") as file:
        try:
            entry = json.loads(file.readline())
        except ValueError:  # no JSON, or not even text
            return None
    return entry if isinstance(entry, dict) else None


def read_lines(path) -> list[dict]:
    """The entries of a JSON-lines file; none when there is no file. Lines cut short by a killed run are skipped."""
    if not os.path.exists(path):
        return []
    entries = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def dump(value, indent: int | None = None) -> str:
    """JSON text without NaN or Infinity, which the JSON standard does not know."""
    return json.dumps(finite(value), allow_nan=False, indent=indent)


def finite(value):
    """The same value with NaN and infinities replaced by None, and arrays and NumPy numbers by plain ones."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def portable_command(command) -> str:
    """The command line with absolute paths cut to their last part: another machine has other folders."""
    words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    return shlex.join(_without_folder(word) for word in words)


def _without_folder(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("-"):
        return option + equals + _without_folder(value)
    return os.path.basename(word.rstrip("/\\")) if os.path.isabs(word) else word


def provenance() -> dict:
    """commit, dirty, hardware, versions and the date: where and with what a number was made."""
    commit, dirty = LOADED_CODE
    return {
        "commit": commit,
        "dirty": dirty,
        "hardware": hardware(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def code_state() -> tuple[str | None, bool | None]:
    """(commit, dirty) of this source tree; (None, None) for an installed package.

    `results/` is left out of `dirty`: a run that writes there does not change the code that made it.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    # An installed copy may lie in a .venv inside some checkout: only a file that git tracks speaks for its commit.
    if _git(folder, "ls-files", "--error-unmatch", os.path.basename(__file__)) is None:
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ":/", ":(top,exclude)results")
    return commit, None if changes is None else bool(changes)


def _git(folder: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Versions of Python and of those packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict:
    """Processor, number of cores this process may use, and the JAX devices if JAX is running anyway."""
    found = {"processor": _processor(), "cores": usable_cores()}
    jax = sys.modules.get("jax")  # never imported for this: a table of JPEG sizes should not wait for it
    if jax is not None:
        devices = jax.devices()
        found["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# asked once, at import: a run of hours is of the code that it loaded, whatever happens to the checkout meanwhile
LOADED_CODE = code_state()
