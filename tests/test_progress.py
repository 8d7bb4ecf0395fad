"""How far a work is: few lines in a log, one bar on a terminal, and nothing that could end the work."""

import io
import sys
import time

import pytest

from dfm import progress
from dfm.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told to."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_a_log_gets_a_line_every_half_minute(capsys, clock):
    with Progress(400, "fitting") as bar:
        for _ in range(400):
            clock.now += 0.25
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fitting: 120/400 (30 %) steps, 0:00:30 so far, 0:01:10 left",
        "fitting: 240/400 (60 %) steps, 0:01:00 so far, 0:00:40 left",
        "fitting: 360/400 (90 %) steps, 0:01:30 so far, 0:00:10 left",
        "fitting: 400/400 (100 %) steps, 0:01:40 so far, 0:00:00 left",
    ]


def test_the_time_left_does_not_count_compilation(capsys, clock):
    with Progress(11) as bar:
        clock.now += 100  # compiling
        for _ in range(6):
            bar.advance()
            clock.now += 1
        clock.now += 30
        bar.reach(6, note="PSNR 31.20 dB")
        assert (
            capsys.readouterr().err.splitlines()[-1] == "6/11 (55 %) steps, PSNR 31.20 dB, 0:02:16 so far, 0:00:36 left"
        )


def test_short_work_says_nothing_in_a_log(capsys):
    with Progress(3) as bar:
        list(bar.over([1, 2, 3]))
    assert bar.done == 3 and capsys.readouterr().err == ""


def test_quiet_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with Progress(3, quiet=True) as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""


def test_a_total_may_come_later_and_be_unknown(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with Progress(label="painting", unit="picture") as bar:
        bar.reach(5)
        bar.reach(6, 10)
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "painting: 5 pictures",
        "painting: 6/10 (60 %) pictures",
        "painting: 6/10 (60 %) pictures",
    ]


def test_large_amounts_are_scaled(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with Progress(2_500_000, "a.gz", "B", scale=True) as bar:
        bar.reach(65_536)
    assert capsys.readouterr().err.startswith("a.gz: 65.5k/2.5M (3 %) B, ")


def test_a_terminal_gets_one_bar_that_moves(monkeypatch):
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(4, "fitting") as bar:
        time.sleep(0.2)  # so long tqdm waits before it shows anything new
        bar.reach(1 / 3, note="PSNR 20.00 dB")
        bar.reach(4, note="PSNR 30.00 dB")
    shown = sys.stderr.getvalue()
    assert shown.count("\n") == 1 and "\r" in shown
    assert "| 0.3/4 " in shown and "fitting: 100%" in shown and "4/4" in shown and "PSNR 30.00 dB" in shown


@pytest.mark.parametrize("stream", [Closed(), None])
def test_work_goes_on_where_nobody_reads(monkeypatch, stream):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(2) as bar:
        bar.advance()
        bar.advance()
    assert bar.done == 2
