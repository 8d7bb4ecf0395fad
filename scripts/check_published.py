"""Published likelihoods of MNIST by the same nets: does a training here end where theirs does?

  python scripts/check_published.py                       both, results/check_published.jsonl; minutes on an accelerator
  python scripts/check_published.py --only=jaanli         half an hour on two cores
  python scripts/check_published.py --steps=200           does it run? rows of their own

jaanli: github.com/jaanli/variational-autoencoder, JAX, mean field: 784-512-512-z128, RMSprop 1e-3 (decay 0.9), batch
128, 30,000 steps. Test ELBO -104.87 nats, log p(x) -96.72 nats by 1,000 draws. pythae:
examples/scripts/reproducibility/vae.py, 784-400-z40, Adam 1e-3 that falls by 10^(-1/5) after epochs 200 and 350 (here
linearly to the same end), batch 100, 500 epochs, the state of the best validation: -log p(x) 89.78 nats by 200 draws.

Both read the files of Larochelle and Murray 2011: pictures binarised once, each pixel drawn with its grey value as
probability (static), 50,000 to train, 10,000 to validate, 10,000 to test. These files are not used here: the same
draw is made anew of MNIST, with a seed. A check holds where it is within 1.5 nats. The same command goes on where it
was stopped.
"""

import argparse
import io
import math
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dfm.config import config_module, flatten, resolve
from dfm.data import load
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate_run
from dfm.experiments import find_row, run_script, steps_per_call, training_facts
from dfm.files import write_atomically
from dfm.registry import check
from dfm.results import read_lines, record
from dfm.train import train
from dfm.training.runs import Run, load_run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DATASET, VALIDATION = "mnist_static", "mnist_static_validation"
TRAINED = 50_000  # of MNIST's 60,000; the others validate
BINARISATION = "static: each pixel drawn once with its grey value as probability, seed 0"
TOLERANCE_NATS = 1.5
TRIED_PICTURES, TRIED_DRAWS = 100, 2  # of the test split, where --steps asks for a trial
VALIDATED = 25  # states of a training that are compared on the validation pictures


@dataclass(frozen=True)
class Published:
    """A training and the numbers it is known for, in nats a picture, means over the test split.

    Attributes:
        optimizer: its name and settings.
        validates: the best of VALIDATED states by the ELBO of the validation pictures counts, and not the last.
    """

    source: str
    widths: tuple[int, ...]
    latent: int
    batch_size: int
    steps: int
    draws: int
    numbers: dict[str, float]
    optimizer: dict[str, Any]
    final_learning_rate: float = 1e-3
    validates: bool = False


CHECKS = {
    "jaanli": Published(
        "github.com/jaanli/variational-autoencoder",
        (512, 512),
        128,
        128,
        30_000,
        1_000,
        {"elbo_nats": -104.87, "iwae_1000_nats": -96.72},
        {"name": "rmsprop", "b2": 0.9},
    ),
    "pythae": Published(
        "github.com/clementchadebec/benchmark_VAE",
        (400,),
        40,
        100,
        500 * TRAINED // 100,
        200,
        {"iwae_200_nats": -89.78},
        {"name": "adam"},
        final_learning_rate=1e-3 * 10**-0.4,
        validates=True,
    ),
}


def binarise(data_dir: str | None, folder: Path) -> None:
    """Writes the three parts as data sets of black and white pictures, once."""
    if (folder / VALIDATION / "test-images.npy").exists():
        return
    draw = np.random.default_rng(0)
    train_pictures, test_pictures = (_drawn(load("mnist", split, data_dir), draw) for split in ("train", "test"))
    parts = {
        (DATASET, "train"): train_pictures[:TRAINED],
        (DATASET, "test"): test_pictures,
        (VALIDATION, "test"): train_pictures[TRAINED:],
    }
    for (name, split), pictures in parts.items():
        stream = io.BytesIO()
        np.save(stream, pictures)
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name / f"{split}-images.npy", stream.getvalue())


def _drawn(dataset: Any, draw: np.random.Generator) -> np.ndarray:
    grey = dataset.take(np.arange(len(dataset)))
    return np.where(draw.random(grey.shape) < grey / 255, 255, 0).astype(np.uint8)


def make_config(published: Published, steps: int | None) -> ConfigDict:
    config = config_module(CONFIGS / "autoencoders.py").get_config("bernoulli_vae,dataset=mnist")
    config.dataset.name = DATASET
    config.batch_size, config.total_steps, config.ema_decay = published.batch_size, steps or published.steps, 0.0
    config.model.update({"trunk": "dense", "widths": published.widths, "latent": (published.latent,)})
    config.optimizer.update(
        {
            **published.optimizer,
            "learning_rate": 1e-3,
            "final_learning_rate": published.final_learning_rate,
            "schedule": "linear" if published.final_learning_rate != 1e-3 else "constant",
            "warmup_steps": 0,
        }
    )
    config.sample_every_steps, config.keep_best = 0, 0
    config.keep_last = VALIDATED if published.validates else 1
    config.checkpoint_every_steps = max(1, config.total_steps // VALIDATED)
    config.log_every_steps = max(1, config.total_steps // 50)
    config.steps_per_call = steps_per_call()
    return resolve(config)


def measured(published: Published, config: ConfigDict, workdir: Path, folder: Path) -> dict[str, Any]:
    """Trains, or goes on, and bounds the test split's likelihood."""
    train(config, str(workdir), str(folder), quiet=True)
    run = load_run(workdir)
    if run.step < config.total_steps:
        raise UserError(f"interrupted at step {run.step} of {config.total_steps}; the same command goes on")
    if published.validates:
        run = _best(workdir, folder)
    trial = config.total_steps < published.steps
    lines = evaluate_run(
        run,
        "likelihood",
        f"{DATASET}:test",
        importance_samples=TRIED_DRAWS if trial else published.draws,
        options=Options(data_dir=str(folder), num_references=TRIED_PICTURES if trial else None),
    )
    found = {line["metric"]: line["value"] for line in lines if line["value"] is not None}
    differences = {name: found[name] - number for name, number in published.numbers.items() if name in found}
    return {
        **found,
        "step": run.step,
        "binarisation": BINARISATION,
        "published": published.numbers,
        "source": published.source,
        "differences_nats": differences,
        "within_tolerance": not trial and within(published.numbers, differences),
        "training_seconds": training_facts(workdir)["training_seconds"],
    }


def within(wanted: Iterable[str], differences: Mapping[str, float]) -> bool:
    """Whether every number that is wanted was measured, and is near."""
    return all(abs(differences.get(name, math.inf)) <= TOLERANCE_NATS for name in wanted)


def _best(workdir: Path, folder: Path) -> Run:
    """The kept state of the largest ELBO of the validation pictures."""
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())
    found = {}
    for step in steps:
        options = Options(data_dir=str(folder))
        lines = evaluate_run(load_run(workdir, step), "elbo", f"{VALIDATION}:test", options=options)
        found[step] = next(line["value"] for line in lines if line["metric"] == "elbo_nats")
    return load_run(workdir, max((bound, step) for step, bound in found.items())[1])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", metavar="NAME,...", help=f"of {', '.join(CHECKS)}; default all")
    add("--steps", type=int, metavar="N", help="in place of the published number: does it run?")
    add("--workdir", default="runs/published", metavar="DIR", help="runs and data; default %(default)s")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--output", default="results/check_published.jsonl", help="JSON lines; default %(default)s")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps < 1:
        raise UserError(f"--steps must be at least 1, not {arguments.steps}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    names = [word.strip() for word in arguments.only.split(",")] if arguments.only else list(CHECKS)
    for name in names:
        check("check", name, CHECKS)
    folder = Path(arguments.workdir) / "data"
    binarise(arguments.data_dir, folder)
    outcomes = []
    for name in names:
        begin, config = time.perf_counter(), make_config(CHECKS[name], arguments.steps)
        training = {
            key: value for key, value in flatten(config).items() if key != "steps_per_call"
        }  # changes no number
        whole = {"check": name, "training": training}
        line = find_row(read_lines(arguments.output), whole)
        if line is None:
            workdir = Path(arguments.workdir) / (name if arguments.steps is None else f"{name}-{arguments.steps}")
            metrics = measured(CHECKS[name], config, workdir, folder)
            line = record(
                arguments.output,
                "check_published",
                "MNIST test split, static binarisation",
                ["python", *sys.argv],
                whole,
                config.seed,
                round(time.perf_counter() - begin, 1),
                metrics,
            )
        outcomes.append(line["metrics"]["within_tolerance"])
        print(_in_words(name, line["metrics"]), flush=True)
    return 0 if all(outcomes) else 1


def _in_words(name: str, metrics: dict[str, Any]) -> str:
    published = metrics["published"].items()
    parts = [f"{key} {metrics.get(key, math.nan):.2f}, published {number:.2f}" for key, number in published]
    verdict = "within" if metrics["within_tolerance"] else "NOT within"
    return f"{name}: {'; '.join(parts)}: {verdict} {TOLERANCE_NATS} nats"


if __name__ == "__main__":
    run_script(main)
