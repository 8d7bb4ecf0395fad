"""Files that are either complete or not there. The path "-" means standard output."""

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

from dfm.errors import UserError


def check_writable(path: str | os.PathLike) -> None:
    """Raises UserError, before any work is done, where `write_atomically` could not write."""
    if os.fspath(path) == "-":
        if sys.stdout.isatty():
            raise UserError("standard output is a terminal; give a file, or pipe it into a program")
        return
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise UserError(f"{path}: is a folder, a file name is needed")
        if not target.parent.is_dir():
            raise UserError(f"{path}: the folder {target.parent} does not exist")
        if _exists(target) and not os.access(target, os.W_OK):
            raise UserError(f"{path}: exists and is write-protected")
        if _is_replaceable(target):
            # a real attempt: permission bits say nothing of read-only file systems
            temporary = _temporary_path(target)
            os.close(_create(temporary))
            temporary.unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file that is either complete or not there: into a temporary neighbour, then renamed.

    Links are followed; devices and pipes are written to, never replaced; "-" writes to standard output.
    """
    if os.fspath(path) == "-":
        _write_standard_output(data)
        return
    target = Path(os.path.realpath(path))
    try:
        if not _is_replaceable(target):
            target.write_bytes(data)
            return
        temporary = _temporary_path(target)
        try:
            with open(_create(temporary), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def home_folder() -> Path:
    """The user's home; UserError where nobody knows it: HOME is not set, and the user is none that the system knows."""
    try:
        return Path.home()
    except RuntimeError:
        raise UserError("no home folder is known: set HOME, or name the folder") from None


def _write_standard_output(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # otherwise the interpreter flushes once more at exit and prints a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError("standard output was closed before everything was written") from None
    except OSError as error:
        raise UserError(f"standard output: cannot be written ({error.strerror})") from None


def _temporary_path(target: Path) -> Path:
    return target.parent / f".dfm-{secrets.token_hex(8)}.tmp"


def _create(path: Path) -> int:
    # tempfile would make it 0600; this honours the umask
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _exists(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)
        return True
    return False


def _is_replaceable(path: Path) -> bool:
    return not _exists(path) or stat.S_ISREG(os.lstat(path).st_mode)
