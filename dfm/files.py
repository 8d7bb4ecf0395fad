"""Files that are either complete or not there, and none replaced that should stay. "-" means standard output."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from dfm.errors import UserError

# names of the same stream: what is printed beside the data must not go there
STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class ExistsError(UserError):
    """A file that is there already, where none is to be replaced."""


def is_standard_output(path: str | os.PathLike) -> bool:
    return os.fspath(path) in STANDARD_OUTPUT


def check_writable(path: str | os.PathLike, overwrite: bool = True) -> None:
    """Raises UserError, before any work is done, where `write_atomically` could not write."""
    if is_standard_output(path):
        if sys.__stdout__ is None:
            raise UserError("standard output is closed")
        if sys.stdout.isatty():
            raise UserError("standard output is a terminal; give a file, or pipe it into a program")
        return
    try:
        target = _target(path)
        if target.is_dir():
            raise UserError(f"{path}: is a folder, a file name is needed")
        if not target.parent.is_dir():
            raise UserError(f"{path}: the folder {target.parent} does not exist")
        if _exists(target) and not os.access(target, os.W_OK):
            raise UserError(f"{path}: exists and is write-protected")
        if _is_replaceable(target):
            if not overwrite and _exists(target):
                raise ExistsError(f"{path}: exists already")
            # a real attempt: permission bits say nothing of read-only file systems
            temporary = _temporary_path(target)
            os.close(_create(temporary))
            temporary.unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def write_atomically(path: str | os.PathLike, data: bytes, overwrite: bool = True) -> None:
    """Writes a file that is either complete or not there: into a temporary neighbour, then renamed.

    Links are followed; devices and pipes are written to, never replaced; "-" writes to standard output.

    Args:
        path: of the file.
        data: all of it.
        overwrite: False raises ExistsError where a file is there by now, however late it came.
    """
    if is_standard_output(path):
        _write_standard_output(data)
        return
    target = _target(path)
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
            if overwrite:
                os.replace(temporary, target)
            else:
                _rename_to_new(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise ExistsError(f"{path}: exists already") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def write_elsewhere(path: str | os.PathLike, data: bytes) -> Path | None:
    """Saves what could not be written to `path` under a free name: beside it, or else in the folder for temporary
    files. Returns where it went; None: nowhere."""
    target = _target(path)
    import tempfile  # rarely needed, and slow to import

    for folder in (target.parent, Path(tempfile.gettempdir())):
        for number in range(1, 100):
            free = folder / f"{target.stem}.{number}{target.suffix}"
            try:
                write_atomically(free, data, overwrite=False)
                return free
            except ExistsError:
                continue
            except UserError:
                break
    return None


def refuse_same_file(output: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Raises UserError where writing the output would replace an input, by whatever name, link or spelling.

    An output that is a folder is one that is replaced as a whole: it must not hold an input either.
    """
    try:
        written = os.stat(output)
    except OSError:  # not there yet, so none of the inputs
        return
    if not stat.S_ISREG(written.st_mode) and not stat.S_ISDIR(written.st_mode):
        return
    for path in inputs:
        at_stake = (path, *Path(path).absolute().parents) if stat.S_ISDIR(written.st_mode) else (path,)
        for each in at_stake:
            if os.path.exists(each) and os.path.samestat(written, os.stat(each)):
                raise UserError(f"{output}: is or holds the input {path}, which would be lost; name another output")


def refuse_inside(output: str | os.PathLike, folders: Iterable[str | os.PathLike]) -> None:
    """Raises UserError where the output is an existing file in one of these folders, at whatever depth."""
    written = Path(output).resolve()
    for folder in folders if written.is_file() else ():
        if Path(folder).is_dir() and written.is_relative_to(Path(folder).resolve()):
            raise UserError(f"{output}: is in the input {folder}, and would be lost; name another output")


def home_folder() -> Path:
    """The user's home; UserError where nobody knows it: HOME is not set, and the user is none that the system knows."""
    try:
        return Path.home()
    except RuntimeError:
        raise UserError("no home folder is known: set HOME, or name the folder") from None


def _write_standard_output(data: bytes) -> None:
    if sys.__stdout__ is None:
        raise UserError("standard output is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # otherwise the interpreter flushes once more at exit and prints a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError("standard output was closed before everything was written") from None
    except OSError as error:
        raise UserError(f"standard output: cannot be written ({error.strerror})") from None


def _target(path: str | os.PathLike) -> Path:
    """What a path leads to; what is neither file nor folder stays as it is named, as /dev/fd/3 leads to no path."""
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return Path(path)
    return Path(os.path.realpath(path))


def _temporary_path(target: Path) -> Path:
    return target.parent / f".dfm-{os.urandom(8).hex()}.tmp"


def _create(path: Path) -> int:
    # tempfile would make it 0600; this honours the umask
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _rename_to_new(temporary: Path, target: Path) -> None:
    """FileExistsError where the target is there already: a link is made or not, without a moment in between."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system: create it, which fails as well where it is there
        os.close(_create(target))
        try:
            os.replace(temporary, target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def _exists(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)
        return True
    return False


def _is_replaceable(path: Path) -> bool:
    """A regular file, or nothing yet."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True
