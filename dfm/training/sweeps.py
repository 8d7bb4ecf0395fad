"""The runs of a config's sweep: listed, one by one or all in turn, each in a folder of its own."""

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dfm.command_line import run_command
from dfm.config import Settings, apply, read_sweep, sweep_name
from dfm.errors import UserError
from dfm.results import read_lines
from dfm.training.flags import Options
from dfm.training.run_folder import METRICS
from dfm.training.stopping import StopRequest

Start = Callable[..., int]  # (config, workdir) -> exit code
SHOWN = ("step", "loss", "psnr", "eval_loss", "eval_psnr")


def run_sweep(options: Options, start: Start) -> int:
    """Lists the sweep, or runs one or all of it; a run that fails does not stop the others, but shows in the code."""
    runs = read_sweep(options.config_file)
    for key in {key for settings in runs for key in settings}:
        if key in options.overrides:
            raise UserError(f"--config.{key} has no effect: the sweep sets {key} in each of its runs")
    if options.sweep:
        for index, settings in enumerate(runs):
            apply(options.config, settings)
            print(f"{index}: " + ", ".join(f"{key}={value}" for key, value in settings.items()))
        return 0
    if options.sweep_index is not None and not 0 <= options.sweep_index < len(runs):
        raise UserError(f"--sweep_index={options.sweep_index}: the sweep has runs 0 to {len(runs) - 1}")
    if options.sweep_index is not None:
        return _run_one(options, runs, options.sweep_index, start)
    codes: list[int] = []
    with StopRequest() as stop:  # a signal ends the sweep, not its present run alone
        for index in range(len(runs)):
            codes.append(_run_one(options, runs, index, start))
            if stop.signal is not None:
                break
    print(summary(str(options.workdir), runs, codes))
    return max(codes) if stop.signal is None else stop.exit_code


def summary(workdir: str, runs: list[Settings], codes: list[int]) -> str:
    """A table: each run's settings, its exit code, and what its last line of metrics says."""
    rows = [["run", *SHOWN, "exit code"]]
    for index, settings in enumerate(runs):
        name = sweep_name(index, settings)
        path = Path(workdir).expanduser() / name / METRICS
        last: dict[str, Any] = (list(read_lines(path)) or [{}])[-1] if path.exists() else {}
        code = str(codes[index]) if index < len(codes) else "not run"
        rows.append([name, *(f"{last[key]:.5g}" if key in last else "-" for key in SHOWN), code])
    kept = [column for column in zip(*rows, strict=True) if set(column[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in kept]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*kept, strict=True)
    )


def _run_one(options: Options, runs: list[Settings], index: int, start: Start) -> int:
    """One run of the sweep in a folder of its own; its failure is reported and told by the exit code."""
    name = sweep_name(index, runs[index])
    one = partial(start, apply(options.config, runs[index]), f"{options.workdir}/{name}")
    try:
        return run_command(f"dfm.train: {name}", lambda _: one(), ())
    except Exception:  # a defect of ours, or memory: shown in full, and no reason to waste the other runs
        traceback.print_exc()
        return 1
