"""What became of each file of a command: reports as they come, and at the end a list of what was not done."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dfm.codec.command.sources import Job, Jobs
from dfm.command_line import say
from dfm.errors import UserError
from dfm.files import ExistsError, is_standard_output, refuse_same_file, write_atomically, write_elsewhere
from dfm.progress import Progress

# exit codes: of several files some were not done, or decoded pixels are not the encoder's; not one was
INCOMPLETE, NOTHING = 1, 2


class Outcome:
    """Gathers reports (facts of one file, for JSON) and failures.

    Args:
        jobs: all that is to do.
        verb: "encoded" or "decoded".
        words: a report as a line.
        json: one JSON object on standard output, in a list where the output is a folder, in place of lines.
        quiet: no lines either; failures are always told.
    """

    def __init__(self, jobs: Jobs, verb: str, words: Callable[[dict], str], json: bool, quiet: bool):
        self._jobs, self._verb, self._words, self._json, self._quiet = jobs, verb, words, json, quiet
        self.wants_facts = json or not quiet  # otherwise reports may be empty
        # the data itself may be on standard output
        self._stream = sys.stderr if is_standard_output(jobs.jobs[0].output if jobs.jobs else "") else sys.stdout
        self._reports: dict[Job, dict[str, Any]] = {}
        self._failures: dict[Job, str] = {}
        self._doubts: list[str] = []

    def add(self, job: Job, report: dict[str, Any], bar: Progress | None = None) -> None:
        """A file that is done."""
        self._reports[job] = {"input": job.source, "output": job.output, **report}
        if not self._json and not self._quiet:
            line = self._words(self._reports[job])
            if bar is not None:
                bar.print(line, self._stream)
            else:
                print(line, file=self._stream)

    def fail(self, job: Job, error: UserError) -> None:
        """A file that is not done, because of this; where it is the only one, the error is the command's."""
        if not self._jobs.into_folder:
            raise error
        message = str(error)
        self._failures[job] = message if message.startswith(job.source) else f"{job.source}: {message}"

    def doubt(self, job: Job, text: str) -> None:
        """Something wrong with a file that was written all the same."""
        self._doubts.append(f"{job.source}: {text}")

    def note(self, text: str) -> None:
        """What a user may want to know and need not mend."""
        if not self._quiet:
            say(f"note: {text}")

    def finish(self, left_alone: Iterable[str] = ()) -> int:
        """Prints what is left to print; returns the exit code."""
        if self._json:
            reports = [
                self._reports.get(job, {"input": job.source, "error": self._failures.get(job)})
                for job in self._jobs.jobs
            ]
            from dfm.results import dump  # not before it is needed: its imports take longer than a decode

            print(dump(reports if self._jobs.into_folder else reports[0]), file=self._stream)
        missed = [*self._failures.values(), *(f"{path}: not a picture by its name" for path in left_alone)]
        if missed:
            say(f"dfm: {len(self._reports)} of {len(self._reports) + len(missed)} files {self._verb}; these were not:")
        for line in missed:
            say(f"  {line}")
        for line in self._doubts if self._jobs.into_folder else ():
            say(f"dfm: {line}")
        if missed and not self._reports:
            return NOTHING
        return INCOMPLETE if missed or self._doubts else 0


class Writer:
    """Writes outputs so that none replaces an input, or another output of the same command.

    Args:
        jobs: all that is to do.
        overwrite: whether files of earlier commands may be replaced.
    """

    def __init__(self, jobs: Jobs, overwrite: bool):
        self._overwrite = overwrite
        self._inputs = {identity: job.source for job in jobs.jobs if (identity := _identity(job.source))}
        self._written: dict[tuple[int, int], str] = {}

    def check(self, job: Job) -> None:
        """UserError where the output must not be written, before any work is done for it."""
        identity = _identity(job.output)
        if identity is None:
            return
        if identity in self._inputs:
            refuse_same_file(job.output, [self._inputs[identity]])
        if identity in self._written:  # names that differ only for us: letters' case, links
            raise UserError(f"{job.source}: its file {job.output} would replace that of {self._written[identity]}")
        if not self._overwrite and Path(job.output).is_file():
            raise ExistsError(f"{job.output}: exists already")

    def write(self, job: Job, data: bytes) -> None:
        """UserError says where the data went instead, as it may have taken hours to make."""
        try:
            self.check(job)
            if not is_standard_output(job.output):
                Path(job.output).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(job.output, data, self._overwrite)
        except OSError as error:
            raise self._kept(job, data, UserError(f"{job.output}: cannot be written ({error.strerror})")) from None
        except UserError as error:
            raise self._kept(job, data, error) from None
        if identity := _identity(job.output):
            self._written[identity] = job.source

    def _kept(self, job: Job, data: bytes, error: UserError) -> UserError:
        if is_standard_output(job.output):
            return error
        elsewhere = write_elsewhere(job.output, data)
        return UserError(f"{error}; what was made is " + ("lost" if elsewhere is None else f"in {elsewhere}"))


def _identity(path: str) -> tuple[int, int] | None:
    """The file behind a path, whatever its name; None: there is none yet, or it is a stream."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if Path(path).is_file() else None
