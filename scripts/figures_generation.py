"""Figures 5.4 to 5.9 of Asadi 2022 from trained runs, with what it took to train them.

    python scripts/figures_generation.py --mnist runs/mnist --two runs/twos --seven runs/sevens --cifar10 runs/cifar10
    python scripts/figures_generation.py --mnist runs/mnist_thesis --suffix _thesis

  5.4  reconstructions of training pictures beside the originals, MNIST
  5.5  samples of nets trained on the class 2 alone and on the class 7 alone
  5.6  samples, MNIST
  5.7  interpolations between the digits 0, 1, ..., 9
  5.8  reconstructions, CIFAR-10
  5.9  samples, CIFAR-10

Pictures are those of dfm.sample: results/figure_5_X.png. results/figures_generation.jsonl gets a line for each, with
the training's command, commit, seconds and hardware, and its PSNR: 10 log10(4 / mean squared error) in [-1, 1] over the
first 5,000 training pictures, beside that of a PCA with as many numbers a picture, fitted to the training pictures and
measured on the same 5,000. Samples are drawn from a mixture of ten Gaussians at temperature 0.8
(--prior, --temperature).
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dfm import results
from dfm.errors import UserError
from dfm.experiments import run_script, squared_errors, training_facts
from dfm.metrics.picture_quality import decibels
from dfm.metrics.principal_components import principal_components
from dfm.models.latent_vectors import latent_size
from dfm.priors import PRIORS
from dfm.sampling.figures import FIGURES
from dfm.sampling.outputs import Outputs
from dfm.sampling.painter import Painter
from dfm.sampling.run_data import RunData
from dfm.training.runs import Run, load_run

RESULTS = Path(__file__).resolve().parents[1] / "results"
MEASURED = 5_000
PCA_PICTURES = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mnist", "two", "seven", "cifar10"):
        parser.add_argument(f"--{name}", metavar="WORKDIR", help="a finished run; two and seven: of that class alone")
    parser.add_argument("--data_dir")
    parser.add_argument("--prior", default="gmm", choices=PRIORS)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--suffix", default="", help="of the figures' names, such as _thesis")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder; default results/")
    args = parser.parse_args()
    samples = ("samples", {"prior": args.prior, "temperature": args.temperature, "count": 64})
    reconstructions: tuple[str, dict] = ("reconstructions", {})
    interpolation = ("interpolation", {"paths": ("linear",)})
    figures: dict[str, dict[str, tuple[str, dict]]] = {
        "mnist": {"5_4": reconstructions, "5_6": samples, "5_7": interpolation},
        "two": {"5_5_two": samples},
        "seven": {"5_5_seven": samples},
        "cifar10": {"5_8": reconstructions, "5_9": samples},
    }
    workdirs = {name: getattr(args, name) for name in figures if getattr(args, name)}
    if not workdirs:
        raise UserError("no run is named; see --help")
    for name, workdir in workdirs.items():
        run = load_run(workdir)
        training = training_facts(workdir) | quality(run, args.data_dir)
        for figure, (what, options) in figures[name].items():
            make(f"figure_{figure}{args.suffix}", run, what, options, training, args)


def make(name: str, run: Run, what: str, options: dict, training: dict, args: argparse.Namespace) -> None:
    """Paints one figure and appends its line."""
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        outputs = Outputs(folder, ["python", *sys.argv], {"step": run.step}, scale=2)
        FIGURES[what](RunData(run, args.data_dir), Painter(run), outputs, **options)
        (picture,) = Path(folder).glob("*.png")
        args.output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, args.output / f"{name}.png")
    config = run.config.to_dict()
    results.record(
        args.output / "figures_generation.jsonl",
        name,
        f"{config['dataset']['name']}:{config['dataset']['split']}",
        sys.argv,
        {"figure": {"what": what, **options}, "training": config},
        config["seed"],
        time.time() - start,
        training | {"step": run.step},
    )


def quality(run: Run, data_dir: str | None) -> dict:
    """PSNR of the run and of PCA over the same training pictures."""
    data = RunData(run, data_dir)
    rows = np.arange(min(MEASURED, len(data.train)))
    chosen = np.arange(len(data.train))[:: -(-len(data.train) // PCA_PICTURES)]
    originals, fitted = (_flat(data.train.take(some)) for some in (rows, chosen))
    restored = principal_components(fitted, latent_size(run.model)).restored(originals)
    pca_error = np.mean((restored - originals) ** 2, dtype=np.float64)
    return {
        "psnr": decibels(squared_errors(data, rows).mean()),
        "pca_psnr": decibels(float(pca_error)),
        "pictures": len(rows),
    }


def _flat(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1).astype(np.float32)


if __name__ == "__main__":
    run_script(main)
