"""`dfm encode`: pictures to .dfm files, a group at a time, each written as soon as it is finished."""

import functools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dfm.codec.command.journal import Journal
from dfm.codec.command.outcome import Outcome, Writer
from dfm.codec.command.sources import Job, Jobs, Shard
from dfm.command_line import say
from dfm.errors import UserError
from dfm.files import ExistsError, check_writable
from dfm.picture_files import Picture, as_grey, load_picture, picture_size
from dfm.progress import Progress

MAX_GROUP_PICTURES, MAX_GROUP_PIXELS = 64, 2**26  # in memory at once: 200 MB of uint8


def encode(
    jobs: Jobs,
    folder: str,
    settings: Mapping[str, Any],
    background: str | None = None,
    shard: Shard | None = None,
    overwrite: bool = True,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Encodes every picture that can be; returns the exit code: 1 where some of several could not, or 0.

    In a folder, an output that the same settings have made of the same picture is left as it is.

    Args:
        jobs: pictures and .dfm files.
        folder: the output folder, where there is one.
        settings: keywords of `dfm.codec.encode_each`, which has accepted them.
        background: colour behind transparent pictures.
        shard: of `jobs`, for the journal's name.
        overwrite: False: an output that is there is not replaced, even if it appears during the fit.
        json, quiet: as in `Outcome`.

    Raises:
        UserError: a single picture that cannot be encoded.
    """
    outcome = Outcome(jobs, "encoded", in_words, json, quiet)
    work = Encoding(jobs, settings, background, Writer(jobs, overwrite), outcome, quiet)
    if jobs.into_folder:
        check_writable(f"{folder}/.dfm")
        work.journal = Journal(folder, settings, shard)
    if shard is not None and not jobs.jobs:
        outcome.note("nothing in this part (--shard={}/{})".format(*shard))
    work.run()
    return outcome.finish(jobs.left_alone)


def in_words(report: dict[str, Any]) -> str:
    if report.get("unchanged"):
        return f"{report['output']}: is made of this picture with these settings already"
    return (
        f"{report['output']}: {report['bytes']:,} bytes, {report['bits_per_pixel']:.3f} bits per pixel, "
        f"PSNR {report['psnr']:.2f} dB, SSIM {report['ssim']:.4f}, {report['encode_seconds']:.1f} s, "
        f"{report['parameters']:,} parameters, profile {report['profile']}"
    )


class Encoding:
    """The work of one command."""

    def __init__(
        self,
        jobs: Jobs,
        settings: Mapping[str, Any],
        background: str | None,
        writer: Writer,
        outcome: Outcome,
        quiet: bool,
    ):
        self.jobs, self.settings, self.background, self.quiet = jobs, settings, background, quiet
        self.writer, self.outcome = writer, outcome
        self.journal: Journal | None = None
        self.finished = 0  # jobs that need nothing more, done or failed

    def run(self) -> None:
        checked = self._checked()
        unit = "picture" if self.jobs.into_folder else "step"
        total = len(self.jobs.jobs) if self.jobs.into_folder else None
        with Progress(total, "encoding", unit, quiet=self.quiet) as bar:
            for group in self._groups(checked):
                self._encode_group({job: picture for job in group if (picture := self._loaded(job)) is not None}, bar)
                self.finished += len(group)
                # a search for a PSNR may end early
                bar.reach(self.finished if self.jobs.into_folder else bar.total or 0)

    def _checked(self) -> dict[Job, int]:
        """Pixels of the pictures that may be encoded, from their headers; the others have failed."""
        pixels = {}
        for job in self.jobs.jobs:
            try:
                if not self.jobs.into_folder:
                    self.writer.check(job)
                    check_writable(job.output)
                # what is no file can be read only once
                pixels[job] = math.prod(picture_size(job.source)) if self.jobs.into_folder else 0
            except UserError as error:
                self.outcome.fail(job, error)
        return pixels

    def _groups(self, pixels: Mapping[Job, int]) -> Iterator[list[Job]]:
        """Pictures of about the same size, as these get the same net and are fitted side by side."""
        most = 1 if self.settings.get("target_psnr") is not None else MAX_GROUP_PICTURES
        group: list[Job] = []
        for job in sorted(pixels, key=lambda job: pixels[job]):
            if group and (len(group) == most or sum(pixels[each] for each in (*group, job)) > MAX_GROUP_PIXELS):
                yield group
                group = []
            group.append(job)
        if group:
            yield group

    def _loaded(self, job: Job) -> Picture | None:
        """The picture, if it has to be encoded."""
        try:
            picture = load_picture(job.source, self.background, self.outcome.note)
            grey = as_grey(picture)
            if grey is not picture:
                self.outcome.note(f"{job.source}: its three channels are equal: coded as one, which is what comes back")
            if self.journal is not None and self.journal.holds(job.name, grey):
                self.outcome.add(job, {"unchanged": True})
                return None
            self.writer.check(job)
            return grey
        except ExistsError as error:
            self.outcome.fail(job, UserError(f"{error}, made of another picture or with other settings"))
        except UserError as error:
            self.outcome.fail(job, error)
        return None

    def _encode_group(self, pictures: dict[Job, Picture], bar: Progress) -> None:
        """All of them; where one cannot be encoded, the others are encoded one by one."""
        from dfm import codec

        if not pictures:
            return
        waiting = list(pictures)
        last = time.perf_counter()
        try:
            progress = functools.partial(self._show, bar, len(pictures))
            for number, encoded in codec.encode_each(list(pictures.values()), **self.settings, progress=progress):
                job = list(pictures)[number]
                # since the file before it: those of a batch that was fitted together count with its first
                now = time.perf_counter()
                self._write(job, pictures[job], encoded, now - last, bar)
                waiting.remove(job)
                last = time.perf_counter()
        except UserError as error:
            if not self.jobs.into_folder:
                raise
            if len(pictures) == 1:
                self.outcome.fail(waiting[0], error)
            else:
                for job in waiting:
                    self._encode_group({job: pictures[job]}, bar)

    def _write(self, job: Job, picture: Picture, encoded: Any, seconds: float, bar: Progress) -> None:
        try:
            self.writer.write(job, encoded.data)
        except UserError as error:
            self.outcome.fail(job, error)
            return
        if self.journal is not None:
            try:
                self.journal.add(job.name, picture, encoded.data)
            except OSError as error:
                say(f"note: what made {job.output} could not be written down ({error.strerror})")
        if encoded.note is not None:
            self.outcome.note(f"{job.source}: {encoded.note}")
        facts = measured(encoded, picture) | {"encode_seconds": seconds} if self.outcome.wants_facts else {}
        self.outcome.add(job, facts, bar)

    def _show(self, bar: Progress, count: int, done: int, total: int, decibels: float) -> None:
        if not self.jobs.into_folder:
            note = None if math.isnan(decibels) else f"PSNR {decibels:.2f} dB"
            bar.reach(done, total, note, "compiling" if note is None else "fitting")
        else:
            bar.reach(max(bar.done, self.finished + count * done / total))


def measured(encoded: Any, picture: Picture) -> dict[str, Any]:
    """What a finished file is worth: its facts, and its picture against the original."""
    from dfm import codec
    from dfm.metrics.picture_quality import psnr, ssim

    facts = codec.describe(encoded.data)
    return facts | {"psnr": psnr(encoded.picture, picture), "ssim": ssim(encoded.picture, picture)}
