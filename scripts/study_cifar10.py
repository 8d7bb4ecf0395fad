"""CIFAR-10 by Deep Fourier Machines: every row trained, measured by one protocol, and shown.

  python scripts/study_cifar10.py --workdir=runs/cifar10 --seconds=540         small nets: hours of two cores each
  python scripts/study_cifar10.py --only=local-256,cells --factor=0.5          these rows, half of the steps
  python scripts/study_cifar10.py --size=wide --workdir=runs/wide              for an accelerator
  python scripts/study_cifar10.py --size=trial                                 minutes: does it run?
  python scripts/study_cifar10.py --list                                       slices and their steps

Rows: 110, 256 and 1,024 principal components; the tuned machine and its form with an encoder (Algorithm 3 of the
thesis); local machines of 256 and 1,024 numbers, and one trained with LPIPS; adversarial machines and the SNGAN of
equal size and steps. Priors: fitted ones, and flows of the local machines' latents. A run of an AutoencoderKL joins
with --kl=RUN.

A row's slices are `train`, `flow` where it has one, and `measure`. Each resumes: trainings from their checkpoints, rows
of the output by their config. After --seconds the slice at work saves and the script ends with code 75: call it again.

One line of the output for the reconstructions of each row and one for each prior: `fid-10k` and `fid-2k` against
cifar10:train; `rae-2020` and `dai-wipf-2019` against cifar10:test; precision and recall against the test pictures;
rFID and PSNR (of the mean squared error) of the same test pictures. At the size `trial` 512 samples against 512 test
pictures, which says nothing. Grids of 64 uncurated samples, nearest training pictures (of squared error),
interpolations and the same latents at 32, 128 and 512 pixels are in WORKDIR/pictures.
"""

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar10.measure import DATASET, Inception, facts, measure
from cifar10.rows import FLOW, ROWS, SIZES, TRIAL_STEPS, flow_config, training_config
from cifar10.rows import find_row as find_model

from dfm.config import flatten
from dfm.errors import UserError
from dfm.experiments import find_row, run_script
from dfm.metrics.lpips import LpipsFile
from dfm.models.latent_vectors import latent_size
from dfm.results import read_lines, record
from dfm.sampling import RunData
from dfm.train import train
from dfm.training.cost import gradient_operations
from dfm.training.runs import Run, load_run

KL = "kl"  # the row of --kl
UNFINISHED = 75


class Unfinished(Exception):
    """The time is up."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", choices=SIZES, default="small", help=f"nets; trial: {TRIAL_STEPS} steps; default %(default)s")
    add("--only", metavar="ROW,...", help=f"of {', '.join(ROWS)}")
    add("--slices", metavar="SLICE,...", default="train,flow,measure", help="of train, flow, measure; default all")
    add("--factor", type=float, default=1.0, metavar="F", help="of the steps of each training")
    add("--kl", metavar="RUN", help="a trained AutoencoderKL, measured beside the rows")
    add("--seconds", type=float, metavar="S", help="then save and end")
    add("--workdir", default="runs/study_cifar10", help="runs, statistics and pictures (%(default)s)")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--inception_weights", metavar="FILE", help="default $DFM_INCEPTION_WEIGHTS")
    add("--lpips_weights", metavar="FILE", help="default $DFM_LPIPS_WEIGHTS")
    add("--list", action="store_true", help="run nothing")
    add("--output", help="JSON lines; default results/study_cifar10.jsonl, results/demo/ at the size trial")
    arguments = parser.parse_args()
    if not arguments.factor > 0:
        raise UserError(f"--factor must be above 0, not {arguments.factor}")
    arguments.slices = arguments.slices.split(",")
    arguments.only = arguments.only.split(",") if arguments.only else list(ROWS)
    for name in arguments.only:
        find_model(name)
    folder = "results/demo" if arguments.size == "trial" else "results"
    arguments.output = arguments.output or f"{folder}/study_cifar10.jsonl"
    return arguments


class Study:
    """The slices of the rows, in their order."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.workdir = arguments, Path(arguments.workdir)
        self._inception: Inception | None = None

    def slices(self) -> list[tuple[str, str]]:
        """(row, slice): all trainings of a row before it is measured."""
        found = []
        for name in self.arguments.only:
            has = {"train": True, "flow": FLOW in find_model(name).priors, "measure": True}
            found += [(name, part) for part in has if has[part] and part in self.arguments.slices]
        if self.arguments.kl and "measure" in self.arguments.slices:
            found.append((KL, "measure"))
        return found

    def run(self, name: str, part: str) -> None:
        if part == "train":
            self._train(training_config(name, self.arguments.size, self.arguments.factor), self.workdir / name)
        elif part == "flow":
            config = flow_config(name, self.workdir, self.arguments.size, self.arguments.factor)
            self._train(config, self._flow(name))
        else:
            self._measure(name)

    def steps(self, name: str, part: str) -> int | None:
        size, factor = self.arguments.size, self.arguments.factor
        if part == "train":
            return training_config(name, size, factor).total_steps
        return flow_config(name, self.workdir, size, factor).total_steps if part == "flow" else None

    def _flow(self, name: str) -> Path:
        return self.workdir / f"{name}-flow"

    def _train(self, config: Any, workdir: Path) -> None:
        lpips = LpipsFile(self.arguments.lpips_weights)
        train(config, str(workdir), self.arguments.data_dir, lpips=lpips, quiet=True)
        if load_run(workdir).step < config.total_steps:
            raise Unfinished

    def _measure(self, name: str) -> None:
        """The lines that are missing; nothing is loaded where none is."""
        folder = Path(self.arguments.kl) if name == KL else self.workdir / name
        data = RunData(load_run(folder), self.arguments.data_dir)
        if data.run.config.dataset.name != DATASET:
            raise UserError(f"{folder}: was trained on {data.run.config.dataset.name}, not on {DATASET}")
        names = ("gaussian",) if name == KL else find_model(name).priors
        priors = {prior: f"latents:{self._flow(name)}" if prior == FLOW else prior for prior in names}
        lines = read_lines(self.arguments.output)
        known = {what: find_row(lines, self._config(data, name, what)) for what in self._parts(data, priors)}
        missing = [what for what, line in known.items() if line is None]
        if not missing:
            return
        if self._inception is None:
            where, weights = self.arguments.data_dir, self.arguments.inception_weights
            self._inception = Inception(self.workdir, self.arguments.size, where, weights)
        about = self._about(data.run, folder)
        wanted = {prior: how for prior, how in priors.items() if prior in missing}
        pictures = self.workdir / "pictures"
        for what, metrics, seconds in measure(data, name, wanted, self.arguments.size, self._inception, pictures):
            flow = self._flow(name)
            about_flow = self._about(load_run(flow), flow) if what == FLOW else {}
            metrics |= about | {f"flow_{key}": value for key, value in about_flow.items()}
            self._record(data, name, what, metrics, seconds)
            shown = {key: value for key, value in metrics.items() if isinstance(value, float)}
            print(f"{name}, {what}: " + ", ".join(f"{key} {value:.4g}" for key, value in shown.items()), flush=True)

    def _parts(self, data: RunData, priors: dict[str, str]) -> list[str]:
        return [*(["reconstructions"] if data.training_has_latents else []), *priors]

    def _about(self, run: Run, folder: Path) -> dict[str, Any]:
        """Numbers of a latent, and what the training took."""
        objective: Any = run.objective
        if objective.needs_lpips:
            objective = replace(objective, lpips=LpipsFile(self.arguments.lpips_weights).load())
        cost = gradient_operations(objective, run.config.batch_size) * run.step
        return {"numbers": latent_size(run.model), "steps": int(run.step), "training_operations": cost, **facts(folder)}

    def _config(self, data: RunData, name: str, what: str) -> dict[str, Any]:
        return {"row": name, "size": self.arguments.size, "what": what, "training": flatten(data.run.config)}

    def _record(self, data: RunData, name: str, what: str, metrics: dict[str, Any], seconds: float) -> None:
        record(
            self.arguments.output,
            name="study_cifar10",
            protocol="512 pictures: a trial"
            if self.arguments.size == "trial"
            else "fid-10k and others, see the script",
            command=["python", *sys.argv],
            config=self._config(data, name, what),
            seed=data.run.config.seed,
            seconds=seconds,
            metrics=metrics,
        )


def main() -> int:
    arguments = parse_arguments()
    study = Study(arguments)
    if arguments.list:
        for name, part in study.slices():
            steps = study.steps(name, part) if name != KL else None
            print(f"{name}, {part}" + (f": {steps:,} steps" if steps else ""))
        return 0
    if arguments.seconds:
        # SIGTERM is what trainings save at; between them it ends the script, and lines written are kept
        timer = threading.Timer(arguments.seconds, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(UNFINISHED))
    for name, part in study.slices():
        start = time.perf_counter()
        try:
            study.run(name, part)
        except Unfinished:
            print(f"{name}, {part}: the time is up; the same command goes on", flush=True)
            return UNFINISHED
        print(f"{name}, {part}: done, {time.perf_counter() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    run_script(main)
