"""The table of generators: every row trained for one budget of operations, all measured by one protocol.

  python scripts/table_autoencoders.py --dataset=digits --budget=quick                  does it run? minutes
  python scripts/table_autoencoders.py --dataset=mnist --budget=full --jobs=2           an hour or two of two cores
  python scripts/table_autoencoders.py --dataset=cifar10 --budget=full --jobs=6         on an accelerator
  python scripts/table_autoencoders.py --dataset=digits --budget=full --rows=ae,vae     these alone

Budgets, in floating-point operations of loss and gradient by XLA's analysis (dfm/training/cost.py): digits 1e12, MNIST
2e13, CIFAR-10 4e13; `quick` is less than a fortieth of that, and measures few pictures. A row that has converged
long before is trained for less, and says so.

Distances are to the test split: fd-digits and fd-mnist of 10,000 samples by the classifiers of this repository, which
are no FID; CIFAR-10 by `fid-2k`. Reconstructed are 2,048 test pictures (all 297 digits), by the encoder or, of a
machine with a table of latents, by inversion, and compared with the same pictures; bounds on the likelihood are of them
too. Beside it, at `full`: FID of four MNIST rows by `rae-2020`, and the five best rows of CIFAR-10 by `fid-10k`.

Each row is a process, --jobs of them at once. A row that is there already with the same config is not made again, one
that was interrupted goes on, one that diverged says so, and one that failed otherwise is tried again. Runs, logs and
pictures are in --workdir; the sheet of pictures is written beside --output.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from family import measure, sheet
from family.jobs import Task, run_tasks
from family.measure import MAIN, NETWORKS, Place
from family.rows import BUDGETS, DATASETS, find_rows, identity, measured_lines, priors_of

from dfm.errors import UserError
from dfm.experiments import find_row, run_script
from dfm.results import record

OUTPUTS = {"full": "results/table_autoencoders.jsonl", "quick": "results/demo/table_autoencoders.jsonl"}
REFERENCE = "reference"
RAE, BEST = "rae-2020", "fid-10k"
RAE_ROWS, RAE_PRIORS = ("ae", "rae", "wae", "vae"), ("gaussian", "gmm")
BEST_ROWS = 5


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=DATASETS, required=True)
    add("--budget", choices=sorted(BUDGETS), default="quick")
    add("--rows", metavar="NAME,...", help="these rows alone; default all")
    add("--jobs", type=int, default=1, metavar="N", help="rows at once, each a process; default 1")
    add("--workdir", default="runs/table", metavar="DIR", help="runs, logs and pictures; default %(default)s")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--inception_weights", metavar="FILE", help="for CIFAR-10 and rae-2020; default $DFM_INCEPTION_WEIGHTS")
    add("--again", action="store_true", help="measure again what --output has already")
    add("--table_only", action="store_true", help="leave out rae-2020 and fid-10k")
    add("--output", help="JSON lines; default results/table_autoencoders.jsonl, at quick results/demo/")
    add("--task", help=argparse.SUPPRESS)  # of one process: ROW:PART
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {arguments.jobs}")
    arguments.output = arguments.output or OUTPUTS[arguments.budget]
    for name in ("workdir", "output", "data_dir", "inception_weights"):  # tasks run in the repository's folder
        if (path := getattr(arguments, name)) is not None:
            setattr(arguments, name, str(Path(path).expanduser().absolute()))
    return arguments


def place_of(arguments: argparse.Namespace) -> Place:
    return Place(
        arguments.dataset, arguments.budget, Path(arguments.workdir), arguments.data_dir, arguments.inception_weights
    )


def is_done(lines: list[dict], name: str, part: str, arguments: argparse.Namespace) -> bool:
    """Whether there is a line that needs no other: a measurement, or a training that diverges each time."""
    line = find_row(lines, identity(name, arguments.dataset, arguments.budget, part))
    return line is not None and ("failed" not in line["metrics"] or bool(line["metrics"].get("diverged")))


def work(arguments: argparse.Namespace) -> None:
    """The one task of this process, and its line."""
    name, _, part = arguments.task.partition(":")
    place = place_of(arguments)
    if name == REFERENCE:
        measure.make_reference(place)
        return
    begin = time.perf_counter()
    try:
        metrics: dict[str, Any] = measure.train_row(name, place)
        if part == MAIN:
            metrics |= measure.measure_row(name, place)
        else:
            metrics = measure.measure_samples(name, place, part, _priors(arguments, name, part, metrics["latent_size"]))
    except measure.Diverged as error:
        metrics = {"failed": str(error), "diverged": True}
    add_line(arguments, name, part, metrics, time.perf_counter() - begin)


def _priors(arguments: argparse.Namespace, name: str, part: str, latent_size: int) -> list[str]:
    """Those of RAE's table, or the row's best one."""
    if part == RAE:
        return [prior for prior in RAE_PRIORS if prior in priors_of(name, latent_size)]
    best = best_of(main_metrics(arguments)[name])
    if best is None:
        raise UserError(f"{name}: samples of no prior have a distance, so that none is the best")
    return [best[1]]


def add_line(arguments: argparse.Namespace, name: str, part: str, metrics: dict[str, Any], seconds: float) -> None:
    config = identity(name, arguments.dataset, arguments.budget, part)
    distance = measure.distance_name(arguments.dataset)
    main = f"{distance}, {measure.SAMPLES[arguments.budget][arguments.dataset]:,} samples against the test split"
    record(
        arguments.output,
        "table_autoencoders",
        main if part == MAIN else part,
        ["python", "scripts/table_autoencoders.py", f"--dataset={arguments.dataset}", f"--budget={arguments.budget}"],
        config,
        config["training"]["seed"],
        round(seconds, 1),
        metrics,
    )


def main_metrics(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Row -> its metrics, of the rows that have been measured."""
    lines, found = measured_lines(arguments.output), {}
    for name in find_rows(arguments.dataset, None):
        line = find_row(lines, identity(name, arguments.dataset, arguments.budget, MAIN))
        if line is not None and "failed" not in line["metrics"]:
            found[name] = line["metrics"]
    return found


def best_of(metrics: dict[str, Any]) -> tuple[float, str] | None:
    """(distance, prior) of the row's best prior; None where samples of none have a distance that is a number."""
    return min(((value, prior) for prior, value in metrics["by_prior"].items() if value is not None), default=None)


def second_parts(arguments: argparse.Namespace, names: list[str]) -> list[tuple[str, str]]:
    """(row, protocol) of what is measured beside the table's own distance."""
    if arguments.budget != "full" or arguments.table_only:
        return []
    if arguments.dataset == "mnist":
        return [(name, RAE) for name in RAE_ROWS if name in names]
    if NETWORKS[arguments.dataset] != "inception":
        return []
    found = ((best_of(metrics), name) for name, metrics in main_metrics(arguments).items())
    best = sorted((own[0], name) for own, name in found if own is not None)[:BEST_ROWS]
    return [(name, BEST) for _, name in best if name in names]


def run_parts(arguments: argparse.Namespace, parts: list[tuple[str, str]]) -> int:
    """Makes what is missing of these; the number of those that failed."""
    known = [] if arguments.again else measured_lines(arguments.output)
    missing = [(name, part) for name, part in parts if not is_done(known, name, part, arguments)]
    tasks = [Task(f"{name}:{part}", place_of(arguments).folder / f"{name}-{part}.log") for name, part in missing]
    failed = run_tasks(tasks, [*_options(arguments)], arguments.jobs)
    for task, reason in failed.items():
        name, _, part = task.partition(":")
        add_line(arguments, name, part, {"failed": reason, "diverged": False}, 0.0)
    return len(failed)


def _options(arguments: argparse.Namespace) -> list[str]:
    """The words that a task's process gets beside its own."""
    names = ("dataset", "budget", "workdir", "data_dir", "inception_weights", "output")
    return [f"--{name}={getattr(arguments, name)}" for name in names if getattr(arguments, name) is not None]


def main() -> int:
    arguments = parse_arguments()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # this process and its tasks share an accelerator
    if arguments.task:
        work(arguments)
        return 0
    names = find_rows(arguments.dataset, arguments.rows)
    place = place_of(arguments)
    place.folder.mkdir(parents=True, exist_ok=True)
    reference = Task(REFERENCE, place.folder / f"{REFERENCE}.log")
    if failed := run_tasks([] if place.statistics.exists() else [reference], _options(arguments), 1):
        raise UserError(f"the reference cannot be measured: {failed[REFERENCE]}")
    failures = run_parts(arguments, [(name, MAIN) for name in names])
    failures += run_parts(arguments, second_parts(arguments, names))
    page = Path(arguments.output).with_name(f"table_autoencoders_{arguments.dataset}.png")
    if shown := sheet.draw_sheet(place.folder, find_rows(arguments.dataset, None), page):
        print(f"{page}: {', '.join(shown)}")
    return 1 if failures else 0


if __name__ == "__main__":
    run_script(main)
