"""How far a work is, on standard error: a bar on a terminal, elsewhere (a log file) a line every half minute."""

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

LINE_SECONDS = 30.0  # between two lines where no terminal is watching
DELAY_SECONDS = 0.5  # work that is done by then shows no bar

Item = TypeVar("Item")


class Progress:
    """Of one work: `with Progress(100, "painting") as progress: progress.advance()`.

    Args:
        total: amount of work; None: not known (yet, see `reach`).
        label: what is done.
        unit: of the amounts.
        first: amount done before this began.
        quiet: shows nothing.
        keep: the bar stays on the terminal when the work is done.
        scale: large amounts as k, M, G.
    """

    def __init__(
        self,
        total: float | None = None,
        label: str = "",
        unit: str = "step",
        *,
        first: float = 0,
        quiet: bool = False,
        keep: bool = True,
        scale: bool = False,
    ):
        self.total, self.done, self.label, self.unit, self.scale = total, first, label, unit, scale
        self._note = ""
        self._lines_written = 0
        self._began = self._last_line = time.perf_counter()
        self._moved_first: tuple[float, float] | None = None  # amount and time: compilation lies before
        self._quiet = quiet or sys.stderr is None
        self._bar: Any = None
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                desc=label,
                unit=unit if scale else f" {unit}",
                unit_scale=scale,
                initial=first,
                leave=keep,
                delay=DELAY_SECONDS,
                dynamic_ncols=True,
                file=sys.stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self.reach(self.done + amount)

    def reach(self, done: float, total: float | None = None, note: str | None = None, label: str | None = None) -> None:
        """So much is done in all; what is not None replaces the total, the words behind and those in front."""
        now = time.perf_counter()
        if self._moved_first is None and done > self.done:
            self._moved_first = done, now
        self.done = done
        self.total = self.total if total is None else total
        self._note = self._note if note is None else note
        self.label = self.label if label is None else label
        if self._bar is not None:
            self._move_bar()
        elif now - self._last_line >= LINE_SECONDS:
            self._write_line(now)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, one amount of work each."""
        for item in items:
            yield item
            self.advance()

    def print(self, line: str, file: Any = None) -> None:
        """A line on standard output, or in another file, above the bar."""
        file = sys.stdout if file is None else file
        if self._bar is not None:
            self._bar.write(line, file=file)
        else:
            print(line, file=file)
        file.flush()

    def close(self) -> None:
        """The last state is shown where any was; calling it twice does no harm."""
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
        elif self._lines_written:
            self._write_line(time.perf_counter())
        self._quiet, self._bar, self._lines_written = True, None, 0

    def _move_bar(self) -> None:
        self._bar.total = self.total
        self._bar.set_description_str(self.label and f"{self.label}: ", refresh=False)
        self._bar.set_postfix_str(self._note, refresh=False)
        # whoever no longer reads standard error does not end the work
        with contextlib.suppress(OSError, ValueError):
            self._bar.n = self.done if float(self.done).is_integer() else round(self.done, 1)
            self._bar.update(0)

    def _write_line(self, now: float) -> None:
        if self._quiet:
            return
        try:
            print(self._line(now), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self._quiet = True
        self._last_line = now
        self._lines_written += 1

    def _line(self, now: float) -> str:
        done = _amount(self.done, self.scale)
        of = "" if not self.total else f"/{_amount(self.total, self.scale)} ({100 * self.done / self.total:.0f} %)"
        units = f" {self.unit}s" if len(self.unit) > 1 else f" {self.unit}".rstrip()  # pictures, but B
        words = [f"{self.label}: " if self.label else "", f"{done}{of}{units}"]
        words.append(f", {self._note}" if self._note else "")
        words.append(f", {duration(now - self._began)} so far")
        if self.total and self._moved_first and self.done > self._moved_first[0]:
            rate = (self.done - self._moved_first[0]) / (now - self._moved_first[1])
            words.append(f", {duration(max(0.0, self.total - self.done) / rate)} left")
        return "".join(words)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _amount(value: float, scale: bool) -> str:
    if scale:
        power = 0 if value < 1000 else min(4, int(math.log10(value) // 3))
        return f"{value / 1000**power:.3g}{['', 'k', 'M', 'G', 'T'][power]}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
