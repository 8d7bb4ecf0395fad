"""The study behind the tuned preset of MNIST: one change at a time, equal steps, reconstruction PSNR.

    python scripts/study_generation.py --data_dir DATA            # 2,000 steps, two seeds: an hour or two on two cores
    python scripts/study_generation.py --data_dir DATA --quick    # 200 steps, one seed: minutes
    python scripts/study_generation.py --only tuned,input_scale   # these alone; the others' rows stay
    python scripts/study_generation.py --summary                  # table and plot of the rows that are there

Every run is configs/dfm_mnist.py:tuned, its schedule shrunk to --steps, with one named thing changed, trained by
dfm.train on MNIST's training pictures in a temporary folder. Measured: PSNR of the reconstructions of 5,000 training
pictures (evenly spread, all pixels, 8 bits, 10 log10(255^2 / mean squared error)), from the table of latents without
noise; beside it that of PCA with as many numbers a picture, fitted to all training pictures, on the same pictures.
Latent noise and penalty cost PSNR and are there for the samples: their rows say how much they cost.

Each run is one JSON line; those already there with the same config are not run again, whatever commit made them
(--again runs them anew, and the newest line counts). A run that diverges has a row that says so.
"""

import argparse
import functools
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from dfm.config import config_module, flatten, resolve
from dfm.data import Dataset, load
from dfm.errors import UserError
from dfm.experiments import find_row, measured_rows, parse, run_script, save_figure, squared_errors
from dfm.metrics.moments import Moments
from dfm.metrics.picture_quality import PEAK, decibels
from dfm.metrics.principal_components import principal_components
from dfm.results import read_lines, record
from dfm.sampling.run_data import RunData
from dfm.train import train
from dfm.training.runs import load_run

FULL, QUICK = {"steps": 2_000, "seeds": 2}, {"steps": 200, "seeds": 1}
MEASURED_PICTURES = 5_000
CHUNK = 5_000

# name -> settings in place of the tuned ones
VARIANTS: dict[str, dict[str, Any]] = {
    "tuned": {},
    "input_scale 1": {"model.input_scale": 1.0},
    "latent_start normal": {"objective.latent_start": "normal"},
    "latent_noise 0": {"objective.latent_noise": 0.0},
    "latent_noise 0, latent_penalty 1e-5": {"objective.latent_noise": 0.0, "objective.latent_penalty": 1e-5},
    "latent_penalty 1e-5": {"objective.latent_penalty": 1e-5},
    "points_per_picture 64": {"objective.points_per_picture": 64},
    "points_per_picture all": {"objective.points_per_picture": 0},
    "learning_rate 5e-4": {"optimizer.learning_rate": 5e-4},
    "learning_rate 5e-3": {"optimizer.learning_rate": 5e-3},
    "b2 0.999": {"optimizer.b2": 0.999},
    "first_scale 0.5": {"model.first_scale": 0.5},
    "hidden_scale 0.1": {"model.hidden_scale": 0.1},
    "hidden_scale 0.003": {"model.hidden_scale": 0.003},
    "decoder_start least_squares": {"objective.decoder_start": "least_squares"},
    "start of CIFAR-10": {
        "objective.decoder_start": "least_squares",
        "model.hidden_scale": 0.003,
        "model.first_scale": 0.45,
        "model.deviation_scale": 0.01,
    },
    "last_scale 0.05": {"model.last_scale": 0.05},
    "coefficient_rate 0.03": {"model.coefficient_rate": 0.03},
    "coefficient_rate 0.3": {"model.coefficient_rate": 0.3},
    "coefficient_rate 1": {"model.coefficient_rate": 1.0},
    "activation relu": {"model.activation": "relu"},
    "thesis start": {"model.kernel_variance": 2e-2},
}


def make_config(variant: str, steps: int, seed: int) -> ConfigDict:
    """The tuned preset at so many steps with the settings of one variant; no pictures, one checkpoint."""
    module = config_module(Path(__file__).parents[1] / "configs" / "dfm_mnist.py")
    config = module.get_config()
    module.tuned(config, total_steps=steps)
    for key, value in VARIANTS[variant].items():
        section, _, name = key.partition(".")
        config[section][name] = value
    config.seed = seed
    config.checkpoint_every_steps, config.sample_every_steps, config.keep_best = steps, 0, 0
    return resolve(config)


def pca_psnr(dataset: Dataset, rows: Int[np.ndarray, " n"], size: int) -> dict[str, float]:
    """PSNR of these pictures from `size` principal components of the whole data set.

    {"pca_psnr": as PCA gives them, "pca_psnr_8_bits": after rounding to 0 ... 255, as pictures are}.
    """
    chunks = np.array_split(np.arange(len(dataset)), -(-len(dataset) // CHUNK))
    moments = functools.reduce(Moments.merge, (Moments.of(_flat(dataset, rows)) for rows in chunks))
    components = principal_components(moments, size)
    errors, rounded_errors = [], []
    for part in np.array_split(rows, -(-len(rows) // CHUNK)):
        flat = _flat(dataset, part)
        restored = components.restored(flat)
        errors.append(np.square(restored - flat).sum())
        rounded_errors.append(np.square(np.clip(np.rint(restored), 0, PEAK) - flat).sum())
    numbers = len(rows) * len(components.mean)
    return {"pca_psnr": decibels(sum(errors) / numbers), "pca_psnr_8_bits": decibels(sum(rounded_errors) / numbers)}


def _flat(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    return dataset.take(rows).reshape(len(rows), -1).astype(np.float32)


def measure(config: ConfigDict, data_dir: str | None) -> dict[str, Any]:
    """{"psnr", "seconds_of_training"}, or {"psnr": None, "diverged": why}."""
    with tempfile.TemporaryDirectory() as workdir:
        start = time.perf_counter()
        try:
            train(config, workdir, data_dir, quiet=True)
        except UserError as error:
            if "training stopped" not in str(error):
                raise
            return {"psnr": None, "diverged": str(error).partition(";")[0]}
        seconds = time.perf_counter() - start
        run = load_run(workdir)
        if run.step < config.total_steps:
            raise UserError("interrupted; the rows measured so far are kept")
        data = RunData(run, data_dir)
        return {
            "psnr": decibels(squared_errors(data, measured_rows(data.train, MEASURED_PICTURES)).mean()),
            "seconds_of_training": seconds,
        }


def run(arguments: argparse.Namespace, chosen: Sequence[str]) -> None:
    """Measures what is missing; every row is on the disk before the next run begins."""
    known = [] if arguments.again else read_lines(arguments.output)
    todo = []
    for seed in range(arguments.seeds):  # all variants of the first seed first: a table early
        for variant in chosen:
            config = row_config(variant, arguments.steps, seed)
            if find_row(known, config) is None:
                todo.append((variant, seed, config))
    print(f"{len(todo)} runs of {arguments.steps:,} steps")
    if not todo:
        return
    dataset = load("mnist", "train", arguments.data_dir)
    latent_size = make_config("tuned", arguments.steps, 0).model.latent_size
    pca = pca_psnr(dataset, measured_rows(dataset, MEASURED_PICTURES), latent_size)
    print(f"PCA with {latent_size} numbers: {pca['pca_psnr']:.2f} dB ({pca['pca_psnr_8_bits']:.2f} dB in 8 bits)")
    for variant, seed, config in todo:
        start = time.perf_counter()
        measured = measure(make_config(variant, arguments.steps, seed), arguments.data_dir)
        record(
            arguments.output,
            name="study_generation",
            protocol=f"{MEASURED_PICTURES:,} training pictures of MNIST",
            command=["python", *sys.argv],
            config=config,
            seed=seed,
            seconds=time.perf_counter() - start,
            metrics=measured | pca,
        )
        print(f"{variant}, seed {seed}: {_shown(measured['psnr'])} dB", flush=True)


def row_config(variant: str, steps: int, seed: int) -> dict[str, Any]:
    """What names a row: the whole config of the training."""
    return {"variant": variant, "steps": steps, "training": flatten(make_config(variant, steps, seed))}


def found_rows(path: str, steps: int, seeds: int) -> dict[str, list[dict]]:
    """Variant -> its rows around the tuned preset of today."""
    rows = read_lines(path)
    found = {}
    for variant in VARIANTS:
        of_variant = [find_row(rows, row_config(variant, steps, seed)) for seed in range(seeds)]
        if present := [row for row in of_variant if row is not None]:
            found[variant] = present
    return found


def table(found: dict[str, list[dict]]) -> list[str]:
    """Markdown: a line a variant, with its difference from the tuned preset over the seeds that both have."""
    lines = ["| variant | seeds | dB | to tuned | s |", "|---|---|---|---|---|"]
    tuned = {row["seed"]: row["metrics"]["psnr"] for row in found.get("tuned", [])}
    for variant, rows in found.items():
        psnr = {row["seed"]: row["metrics"]["psnr"] for row in rows}
        gains = [psnr[seed] - tuned[seed] for seed in psnr if None not in (psnr[seed], tuned.get(seed))]
        values = ", ".join(_shown(value) for value in psnr.values())
        gain = f"{np.mean(gains):+.2f}" if gains else "-"
        lines.append(f"| {variant} | {len(rows)} | {values} | {gain} | {np.mean([r['seconds'] for r in rows]):.0f} |")
    return lines


def _shown(psnr: float | None) -> str:
    return "diverged" if psnr is None else f"{psnr:.2f}"


def draw(found: dict[str, list[dict]], title: str) -> Figure:
    """A bar a variant, the mean of its seeds, with a dot for each seed; a line for PCA."""
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(found)), layout="constrained")
    axes = figure.subplots()
    for position, (variant, rows) in enumerate(found.items()):
        values = [row["metrics"]["psnr"] for row in rows if row["metrics"]["psnr"] is not None]
        colour = "#08306b" if variant == "tuned" else "#6baed6"
        axes.barh(position, np.mean(values) if values else 0.0, color=colour)
        axes.plot(values, [position] * len(values), "k.", markersize=5)
        if len(values) < len(rows):
            axes.text(0.1, position, "diverged", va="center", size=8)
    pca = next(iter(found.values()))[0]["metrics"]["pca_psnr"]
    axes.axvline(pca, color="#cb181d", linestyle="--", label=f"PCA with as many numbers, {pca:.2f} dB")
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    everything = [row["metrics"]["psnr"] for rows in found.values() for row in rows]
    lowest = min([value for value in everything if value is not None] + [pca])
    axes.set_xlim(left=max(0.0, math.floor(lowest - 1)))
    axes.set(xlabel="PSNR of reconstructed training pictures, dB", title=title)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="200 steps, one seed; its rows are apart from the others")
    add("--steps", type=int, help="training steps of each run (2,000; quick 200)")
    add("--seeds", type=int, help="runs of each variant, with seeds 0, 1, ... (2; quick 1)")
    add("--only", metavar="NAME,NAME", help="the variants whose names begin so")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--again", action="store_true", help="run again what --output has already")
    add("--summary", action="store_true", help="run nothing")
    add("--output", default="results/study_generation.jsonl", help="JSON lines (%(default)s)")
    add("--plot", default="results/study_generation.png", help="the plot (%(default)s)")
    arguments = parse(parser, FULL, QUICK)
    return arguments


def choose(only: str | None) -> list[str]:
    """The variants whose names begin with one of these words; all of them without words."""
    if only is None:
        return list(VARIANTS)
    words = [word.strip() for word in only.split(",")]
    for word in words:
        if not any(name.startswith(word) for name in VARIANTS):
            raise UserError(f"--only: no variant begins with '{word}' (there are: {'; '.join(VARIANTS)})")
    return [name for name in VARIANTS if any(name.startswith(word) for word in words)]


def main() -> None:
    arguments = parse_arguments()
    chosen = choose(arguments.only)
    if not arguments.summary:
        run(arguments, chosen)
    found = found_rows(arguments.output, arguments.steps, arguments.seeds)
    if not found:
        raise UserError(f"no rows of the tuned preset of today with {arguments.steps} steps in {arguments.output}")
    print("\n".join(table(found)))
    quick = "QUICK SETTING: " if arguments.quick else ""
    save_figure(arguments.plot, draw(found, f"{quick}MNIST, {arguments.steps:,} steps, one change at a time"))
    print(f"drawn: {arguments.plot}")


if __name__ == "__main__":
    run_script(main)
