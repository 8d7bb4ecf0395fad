"""The study behind `input_shift`: where the first layer's period is cut, on digits, and a probe on MNIST and CIFAR-10.

    python scripts/study_crease.py                                  # digits, 10,000 steps, three seeds: 20 minutes
    python scripts/study_crease.py --dataset mnist --data_dir DATA  # one seed of 3,000 steps, old and new
    python scripts/study_crease.py --dataset cifar10 --data_dir DATA
    python scripts/study_crease.py --summary                        # tables of the rows that are there

dfm/models/dfm.py derives it: with the basis cas, scale 1/2 and no shift, the first layer gives (x1, x2) and (x2, x1)
the same features wherever x1 + x2 = 1/2. Every run is the tuned preset of the data set with these keys changed.
Measured, from the moving average and the table of latents: PSNR of training pictures (all of digits, 5,000 otherwise; 8
bits), how many times the mean the squared error is on the pixels whose centres lie on that line, the least distance of
two pixels' features in units of their mean distance to the next pixel, and on digits fd-digits (10,000 samples of a
mixture of ten Gaussians against the test split) and rfd-digits (test pictures by inversion).
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from dfm.config import config_module, flatten, resolve
from dfm.errors import UserError
from dfm.experiments import find_row, measured_rows, run_script, squared_errors
from dfm.metrics import networks
from dfm.metrics.features import Extractor
from dfm.metrics.frechet import FrechetReference
from dfm.metrics.moments import Moments
from dfm.metrics.picture_quality import decibels
from dfm.models.dfm import pixel_centres
from dfm.models.literal_fourier import basis_functions
from dfm.results import read_lines, record
from dfm.sampling import draw, invert
from dfm.sampling.fitted_priors import stored_or_fitted
from dfm.sampling.run_data import RunData
from dfm.train import train
from dfm.training.runs import load_run

SAMPLES = 10_000
MEASURED_PICTURES = 5_000
STEPS = {"digits": 10_000, "mnist": 3_000, "cifar10": 1_000}
SEEDS = {"digits": 3, "mnist": 1, "cifar10": 1}

# name -> (basis, input_scale, input_shift); cos_sin has twice the coefficients
VARIANTS: dict[str, tuple[str, float, float]] = {
    "half a period, no shift": ("cas", 0.5, 0.0),
    "half a period, shifted": ("cas", 0.5, 0.125),
    "7/16 of a period, shifted": ("cas", 0.4375, 0.15625),
    "3/8 of a period, shifted": ("cas", 0.375, 0.1875),
    "3/4 of a period, no shift": ("cas", 0.75, 0.0),
    "a period, no shift": ("cas", 1.0, 0.0),
    "cos_sin, half a period": ("cos_sin", 0.5, 0.0),
}
PROBES = ("half a period, no shift", "half a period, shifted", "7/16 of a period, shifted")


def make_config(dataset: str, variant: str, steps: int, seed: int) -> ConfigDict:
    module = config_module(Path(__file__).parents[1] / "configs" / f"dfm_{dataset}.py")
    config = module.get_config()
    config.optimizer.warmup_steps = max(1, config.optimizer.warmup_steps * steps // config.total_steps)
    config.total_steps, config.seed = steps, seed
    basis, scale, shift = VARIANTS[variant]
    config.model.update({"basis": basis, "input_scale": scale, "input_shift": shift})
    config.checkpoint_every_steps, config.sample_every_steps, config.keep_best = steps, 0, 0
    return resolve(config)


def least_distance(variant: str, side: int) -> float:
    """Of the first layer's features of two pixels, over the mean distance of horizontal neighbours."""
    basis, scale, shift = VARIANTS[variant]
    points = np.asarray(pixel_centres(side, side), np.float64) * scale + shift
    features = np.asarray(basis_functions(jnp.asarray(points), basis))
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    grid = features.reshape(side, side, -1)
    step = np.linalg.norm(np.diff(grid, axis=1), axis=-1).mean()
    return float(distances[~np.eye(len(points), dtype=bool)].min() / step)


def crease(errors: Float[np.ndarray, "height width"]) -> float:
    """Mean squared error on the pixels with x1 + x2 = 1/2, over that of all pixels."""
    height, width = errors.shape
    x1, x2 = np.asarray(pixel_centres(height, width)).T.reshape(2, height, width)
    return float(errors[np.isclose(x1 + x2, 0.5)].mean() / errors.mean())


def distances_of_digits(data: RunData) -> dict[str, float]:
    """{"fd_digits", "rfd_digits"} against the 297 test pictures."""
    extractor = Extractor(networks.load("digits"))
    test = data.test.take(np.arange(len(data.test)))
    reference = FrechetReference(_moments(extractor, iter([test])))
    prior = stored_or_fitted(data, "gmm")
    restored = data.painter.paint(invert(data, test).latents)
    return {
        "fd_digits": reference.distance(_moments(extractor, draw(data.run, prior, 0, 0, SAMPLES))).value,
        "rfd_digits": reference.distance(_moments(extractor, iter([restored]))).value,
    }


def _moments(extractor: Extractor, batches: Iterator[np.ndarray]) -> Moments:
    return Moments.of(np.concatenate(list(extractor(batches))))


def measure(config: ConfigDict, variant: str, data_dir: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as workdir:
        start = time.perf_counter()
        train(config, workdir, data_dir, quiet=True)
        seconds = time.perf_counter() - start
        run = load_run(workdir)
        if run.step < config.total_steps:
            raise UserError("interrupted; the rows measured so far are kept")
        data = RunData(run, data_dir)
        errors = squared_errors(data, measured_rows(data.train, MEASURED_PICTURES))
        found = {"psnr": decibels(errors.mean()), "crease": crease(errors)}
        found["least_distance"] = least_distance(variant, len(errors))
        if config.dataset.name == "digits":
            found |= distances_of_digits(data)
        return found | {"seconds_of_training": seconds}


def row_config(dataset: str, variant: str, steps: int, seed: int) -> dict[str, Any]:
    return {"variant": variant, "training": flatten(make_config(dataset, variant, steps, seed))}


def run(arguments: argparse.Namespace, variants: list[str]) -> None:
    """Measures what is missing, all variants of a seed before the next seed."""
    for seed in range(arguments.seeds):
        for variant in variants:
            config = row_config(arguments.dataset, variant, arguments.steps, seed)
            if find_row(read_lines(arguments.output), config) is not None:
                continue
            start = time.perf_counter()
            training = make_config(arguments.dataset, variant, arguments.steps, seed)
            metrics = measure(training, variant, arguments.data_dir)
            record(
                arguments.output,
                name="study_crease",
                protocol=f"training pictures of {arguments.dataset}",
                command=["python", *sys.argv],
                config=config,
                seed=seed,
                seconds=time.perf_counter() - start,
                metrics=metrics,
            )
            print(f"{arguments.dataset}, {variant}, seed {seed}: {_in_words(metrics)}", flush=True)


def _in_words(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in metrics.items())


def table(rows: list[dict], dataset: str) -> list[str]:
    """Markdown: a line a variant and number of steps, means over seeds with their standard deviations."""
    groups: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        config = row["config"]
        if config["training"]["dataset.name"] == dataset:
            groups.setdefault((config["variant"], config["training"]["total_steps"]), []).append(row)
    names = ["psnr", "crease", "least_distance"] + (["fd_digits", "rfd_digits"] if dataset == "digits" else [])
    lines = [f"| {dataset} | steps | seeds | {' | '.join(names)} |", "|---" * (len(names) + 3) + "|"]
    for (variant, steps), found in groups.items():
        values = np.array([[row["metrics"][name] for name in names] for row in found])
        shown = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(values.mean(0), values.std(0), strict=True)]
        lines.append(f"| {variant} | {steps:,} | {len(found)} | {' | '.join(shown)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", default="digits", choices=tuple(STEPS))
    add("--steps", type=int, help="of each training (digits 10,000, mnist 3,000, cifar10 1,000)")
    add("--seeds", type=int, help="seeds 0, 1, ... (digits 3, otherwise 1)")
    add("--only", metavar="NAME", help="the variants whose names begin so")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--summary", action="store_true", help="run nothing")
    add("--output", default="results/study_crease.jsonl", help="JSON lines (%(default)s)")
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or STEPS[arguments.dataset]
    arguments.seeds = arguments.seeds or SEEDS[arguments.dataset]
    variants = [name for name in VARIANTS if name.startswith(arguments.only or "")]
    if arguments.dataset != "digits" and arguments.only is None:
        variants = list(PROBES)
    if not arguments.summary:
        run(arguments, variants)
    for dataset in STEPS:
        print("\n".join(table(read_lines(arguments.output), dataset)))


if __name__ == "__main__":
    run_script(main)
