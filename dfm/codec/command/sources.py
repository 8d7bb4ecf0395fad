"""From the inputs of a command line to the files that are read and written."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfm.errors import UserError

Shard = tuple[int, int]  # (which, of how many), from 1


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; `name` is that of the output below the output folder."""

    source: str
    output: str
    name: str


@dataclass(frozen=True)
class Jobs:
    """What a command has to do.

    Attributes:
        jobs: in the order of their names.
        left_alone: files in folders that no suffix shows to be an input.
        into_folder: False: one input, and the output is the file that the user named.
    """

    jobs: list[Job]
    left_alone: list[str]
    into_folder: bool


def find_jobs(
    inputs: Sequence[str], output: str, suffixes: Sequence[str], new_suffix: str, kind: str, shard: Shard | None = None
) -> Jobs:
    """One input and the output that the user named; or, where there are several or folders, a file for each in the
    output folder, in the same sub-folders.

    An output is named like its input, with the new suffix in place of the old; inputs that differ in nothing but their
    suffix keep it, in front of the new one. Hidden files, and files that have the new suffix already, are no inputs.

    Args:
        inputs: files and folders; "-" alone is standard input.
        output: file, or a folder, which is made where its name has no suffix and there is something to put into it.
        suffixes: of the inputs in a folder, in lower case.
        new_suffix: of the outputs.
        kind: what inputs are, in words.
        shard: only these of all inputs; which they are depends on their names alone, not on what else is there.

    Raises:
        UserError: no such input or output folder, nothing to do, or two inputs of one name.
    """
    if len(inputs) == 1 and not Path(inputs[0]).is_dir() and not Path(output).is_dir():
        return Jobs([Job(inputs[0], output, os.path.basename(output))], [], into_folder=False)
    if "-" in inputs:
        raise UserError("standard input has no name: it takes one output file, and no other input beside it")
    if not Path(output).is_dir() and (os.path.lexists(output) or Path(output).suffix):
        what = "a folder" if len(inputs) == 1 else "several inputs"
        raise UserError(f"{output}: the output of {what} must be a folder")
    found: dict[str, str] = {}  # name below the output folder, with the old suffix -> path
    left_alone = []
    for each in inputs:
        for path, name in _files(each):
            suffix = Path(name).suffix.lower()
            if Path(each).is_dir() and suffix not in suffixes:
                left_alone += [path] if suffix != new_suffix else []
            elif name in found and not os.path.samefile(path, found[name]):
                raise UserError(f"{path} and {found[name]} would both become {name} with another suffix in {output}")
            else:
                found[name] = path
    if not found:
        raise UserError(f"{', '.join(inputs)}: no {kind} in this folder ({', '.join(suffixes)})")
    names = _new_names(list(found), new_suffix)
    jobs = [
        Job(path, os.path.join(output, names[name]), names[name])
        for name, path in sorted(found.items())
        if shard is None or _part(name, shard[1]) == shard[0]
    ]
    if not Path(output).is_dir():
        try:
            os.mkdir(output)
        except OSError as error:
            raise UserError(f"{output}: cannot be made ({error.strerror})") from None
    return Jobs(jobs, sorted(left_alone), into_folder=True)


def _files(given: str) -> Iterator[tuple[str, str]]:
    """(path, name below the folder) of a file, or of all files of a folder and of those below it; none is hidden."""
    if not os.path.isdir(given):
        yield given, os.path.basename(given)
        return
    seen = set()
    for folder, folders, files in os.walk(given, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = os.path.join(folder, name)
                yield path, os.path.relpath(path, given)


def _new_names(names: list[str], new_suffix: str) -> dict[str, str]:
    """Name -> name with the new suffix, all of them different, even where upper and lower case are the same."""
    new = {name: os.path.splitext(name)[0] + new_suffix for name in names}
    while True:
        count = Counter(name.casefold() for name in new.values())
        colliding = [name for name in names if count[new[name].casefold()] > 1 and new[name] != name + new_suffix]
        if not colliding:
            return new
        new |= {name: name + new_suffix for name in colliding}


def _part(name: str, count: int) -> int:
    # not by place in the list: parts start at different times, and a file that comes or goes would shift the others
    # and no checksum: CRC-32 is linear, so that numbered names leave whole parts empty
    digest = hashlib.sha256(os.fsencode(name.replace(os.sep, "/"))).digest()
    return int.from_bytes(digest[:8], "big") % count + 1
