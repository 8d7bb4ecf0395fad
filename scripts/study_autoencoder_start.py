"""How an AutoencoderKL should begin: start, optimizer and learning rate of the CIFAR-10 preset, all combinations.

  python scripts/study_autoencoder_start.py --lpips_weights=alex.npz                 # 200 steps a run, one seed: 25 min
  python scripts/study_autoencoder_start.py --lpips_weights=alex.npz --seeds=3       # what is missing of more seeds
  python scripts/study_autoencoder_start.py --summary

Trains without the discriminator and prints the PSNR of the training's last hundred steps. Starts:
  ours       variance kept by every layer, zero biases, residual branches at a tenth (dfm/models/layers.py, blocks.py)
  branches   the same with whole residual branches
  reference  U(-1 / sqrt(inputs), 1 / sqrt(inputs)) for kernels and biases, as PyTorch's convolutions begin
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dfm import models
from dfm.config import config_module, flatten, resolve
from dfm.conversion import save_pretrained
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.metrics.lpips import LpipsFile
from dfm.results import read_lines, record
from dfm.train import train

STARTS = ("ours", "branches", "reference")
OPTIMIZERS = ("muon", "adam")
RATES = (1e-3, 3e-3)
WARMUP = 30


def make_config(optimizer: str, rate: float, steps: int, seed: int) -> ConfigDict:
    """The preset at so many steps, without discriminator, pictures and averages."""
    module = config_module(Path(__file__).parents[1] / "configs" / "autoencoder_kl_imagenet.py")
    config = module.get_config("cifar10")
    config.objective.adversarial_weight = 0.0
    config.optimizer.update({"name": optimizer, "learning_rate": rate, "warmup_steps": WARMUP})
    config.optimizer.groups = {}
    config.seed, config.total_steps, config.ema_decay = seed, steps, 0.0
    config.log_every_steps = min(100, steps)
    config.checkpoint_every_steps, config.sample_every_steps, config.keep_best = steps, 0, 0
    return resolve(config)


def first_params(config: ConfigDict, start: str) -> Any:
    """Parameters of this start, of the same seed."""
    model: Any = models.build(config.model)
    key = jax.random.key(config.seed)
    params = model.init(key, jnp.zeros((1, 8, 8, model.in_channels)))["params"]
    leaves = jax.tree.leaves_with_path(params)
    fans = {path[:-1]: leaf[..., 0].size for path, leaf in leaves if path[-1].key == "kernel"}

    def changed(path, leaf):
        if start == "branches":
            return leaf * 10 if path[-2].key == "conv2" and path[-1].key == "kernel" else leaf
        if path[:-1] not in fans:
            return leaf
        number = [path for path, _ in leaves].index(path)
        bound = fans[path[:-1]] ** -0.5
        return jax.random.uniform(jax.random.fold_in(key, number), leaf.shape, leaf.dtype, -bound, bound)

    return jax.tree_util.tree_map_with_path(changed, params)


def measure(start: str, config: ConfigDict, arguments: argparse.Namespace) -> dict[str, Any]:
    """{"psnr": of the last hundred steps, ...}."""
    with tempfile.TemporaryDirectory() as folder:
        if start != "ours":
            config.pretrained.path = f"{folder}/start"
            model: Any = models.build(config.model)
            save_pretrained(model, first_params(config, start), config.pretrained.path)
        train(config, f"{folder}/run", arguments.data_dir, lpips=LpipsFile(arguments.lpips_weights), quiet=True)
        lines = [json.loads(line) for line in Path(f"{folder}/run/metrics.jsonl").read_text().splitlines()]
        if lines[-1]["step"] < config.total_steps:
            raise UserError("interrupted; the rows measured so far are kept")
        return {
            "psnr": lines[-1]["psnr"],
            "psnr_by_step": {str(line["step"]): line["psnr"] for line in lines},
            "steps_per_second": lines[-1]["steps_per_second"],
        }


def find(rows: Sequence[dict], start: str, optimizer: str, rate: float, steps: int, seed: int) -> dict | None:
    """The newest row of this combination; which preset it was made with, its config says."""
    wanted = {"optimizer.name": optimizer, "optimizer.learning_rate": rate, "total_steps": steps, "seed": seed}
    for row in reversed(rows):
        training = row["config"]["training"]
        if row["config"]["start"] == start and all(training[key] == value for key, value in wanted.items()):
            return row
    return None


def run(arguments: argparse.Namespace) -> None:
    """Measures what is missing; every row is on the disk before the next run begins."""
    known = read_lines(arguments.output)
    cells = itertools.product(range(arguments.seeds), STARTS, OPTIMIZERS, RATES)
    for seed, start, optimizer, rate in cells:
        if find(known, start, optimizer, rate, arguments.steps, seed):
            continue
        begin, training = time.perf_counter(), make_config(optimizer, rate, arguments.steps, seed)
        config = {"start": start, "training": flatten(training)}
        metrics = measure(start, training, arguments)
        record(
            arguments.output,
            "study_autoencoder_start",
            f"CIFAR-10, {arguments.steps} steps",
            ["python", *sys.argv],
            config,
            seed,
            time.perf_counter() - begin,
            metrics,
        )
        print(f"{start}, {optimizer} at {rate:g}, seed {seed}: {metrics['psnr']:.2f} dB", flush=True)


def table(arguments: argparse.Namespace) -> list[str]:
    """Markdown: a line a start, a column an optimizer and rate, the seeds side by side."""
    rows, columns = read_lines(arguments.output), list(itertools.product(OPTIMIZERS, RATES))
    lines = ["| start | " + " | ".join(f"{optimizer}, {rate:g}" for optimizer, rate in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for start in STARTS:
        cells = []
        for optimizer, rate in columns:
            found = [find(rows, start, optimizer, rate, arguments.steps, seed) for seed in range(arguments.seeds)]
            cells.append(", ".join(f"{row['metrics']['psnr']:.2f}" for row in found if row) or "-")
        lines.append(f"| {start} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=int, default=200, help="of each run (%(default)s)")
    add("--seeds", type=int, default=1, help="0, 1, ... (%(default)s)")
    add("--lpips_weights", help="default $DFM_LPIPS_WEIGHTS")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--summary", action="store_true", help="run nothing")
    add("--output", default="results/study_autoencoder_start.jsonl", help="JSON lines (%(default)s)")
    arguments = parser.parse_args()
    if arguments.steps <= WARMUP or arguments.seeds < 1:
        raise UserError(f"--steps must be above {WARMUP}, --seeds at least 1")
    if not arguments.summary:
        run(arguments)
    print("\n".join(table(arguments)))


if __name__ == "__main__":
    run_script(main)
