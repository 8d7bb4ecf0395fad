"""`dfm decode`: .dfm files to pictures, one after the other."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from dfm.codec.command.outcome import Outcome, Writer
from dfm.codec.command.sources import Job, Jobs
from dfm.errors import UserError
from dfm.files import check_writable
from dfm.picture_files import encode_picture, picture_format
from dfm.progress import Progress


def decode(
    jobs: Jobs,
    verify: bool = False,
    any_work: bool = False,
    overwrite: bool = True,
    json: bool = False,
    quiet: bool = False,
    preview: int | None = None,
) -> int:
    """Decodes every file that can be; returns the exit code: 1 where some of several could not, or where `verify`
    found other pixels than the encoder's, or 0.

    Args:
        jobs: .dfm files and pictures.
        verify: compares the pixels with the encoder's, by the checksum in the file.
        any_work: paints files however long that may take.
        overwrite: False: an output that is there is not replaced.
        json, quiet: as in `Outcome`.
        preview: decodes at 1 / preview of the resolution, from the beginning of each file.

    Raises:
        UserError: a single file that cannot be decoded.
    """
    outcome, writer = Outcome(jobs, "decoded", in_words, json, quiet), Writer(jobs, overwrite)
    with Progress(len(jobs.jobs), "decoding", "picture", quiet=quiet or not jobs.into_folder) as bar:
        for job in jobs.jobs:
            try:
                facts = _decode(job, jobs.into_folder, writer, verify, any_work, preview)
                outcome.add(job, facts, bar)
                if not facts.get("identical_to_reference", True):
                    outcome.doubt(job, "its pixels are not the encoder's")
            except UserError as error:
                outcome.fail(job, error)
            bar.advance()
    return outcome.finish()


def in_words(report: dict[str, Any]) -> str:
    line = f"{report['output']}: {report['width']} x {report['height']}, {report['decode_seconds']:.1f} s"
    if "identical_to_reference" in report:
        said = "identical" if report["identical_to_reference"] else "not identical"
        line += f"\n{said} to the encoder's decode"
    return line


@contextlib.contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """A file, or standard input."""
    try:
        if path == "-":
            yield sys.stdin.buffer
        else:
            with open(path, "rb") as file:
                yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_file(path: str) -> bytes:
    """A whole file, or standard input."""
    with open_file(path) as file:
        return file.read()


def _decode(
    job: Job, into_folder: bool, writer: Writer, verify: bool, any_work: bool, preview: int | None
) -> dict[str, Any]:
    from dfm import codec

    picture_format(job.output)
    writer.check(job)
    if not into_folder:
        check_writable(job.output)
    if preview is not None:
        return _decode_preview(job, writer, preview)
    data = read_file(job.source)
    start = time.perf_counter()
    try:
        opened = codec.decode_and_describe(data, max_work=None) if any_work else codec.decode_and_describe(data)
        picture, facts = opened
        facts["decode_seconds"] = time.perf_counter() - start
    except UserError as error:
        raise UserError(f"{job.source}: {error}") from None
    writer.write(job, encode_picture(job.output, picture))
    if verify:
        facts["identical_to_reference"] = codec.is_reference_decode(data, picture)
    return facts


def _decode_preview(job: Job, writer: Writer, factor: int) -> dict[str, Any]:
    from dfm.codec.latents.preview import read_preview

    start = time.perf_counter()
    with open_file(job.source) as file:
        try:
            header, picture = read_preview(file, factor)
        except UserError as error:
            raise UserError(f"{job.source}: {error}") from None
    seconds = time.perf_counter() - start
    writer.write(job, encode_picture(job.output, picture))
    height, width, _ = picture.shape
    facts = {"preview": factor, "picture_width": header.width, "picture_height": header.height}
    return {"width": width, "height": height, **facts, "decode_seconds": seconds}
