"""Curves and reconstructions of an AutoencoderKL's training, beside the best linear code of as many numbers.

  python scripts/figures_autoencoder.py --workdir=runs/vae_cifar10 --name=autoencoder_cifar10
  python scripts/figures_autoencoder.py --workdir=runs/crops --name=autoencoder_crops --count=10 --pictures=20

results/NAME_curves.png: metrics of the training by step, with the steps at which the discriminator starts to learn and
is heard. results/NAME_reconstructions.png: originals above, reconstructions from the posterior's mode below, of the
test split where there is one. A line of results/figures_autoencoder.jsonl: PSNR over up to --pictures of these, and
that of the best linear codes of as many numbers, principal components fitted to training pictures: of f x f blocks with
latent_channels numbers each, and, of small pictures, of the whole.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from dfm.arrays import grid
from dfm.data import Dataset
from dfm.errors import UserError
from dfm.experiments import run_script, save_figure, training_facts
from dfm.metrics.picture_quality import decibels
from dfm.metrics.principal_components import principal_components
from dfm.models.latent_vectors import latent_size
from dfm.results import read_lines, record
from dfm.sampling.run_data import RunData
from dfm.training.runs import load_run

FITTED_PICTURES = 20_000
MOST_VALUES = 4_096  # of a picture whose own principal components are computed
LATENTS = "latents (log)"  # the two are orders of magnitude apart
# title -> metrics of one panel, with their labels
PANELS: dict[str, dict[str, str]] = {
    "PSNR, dB": {"psnr": "reconstruction"},
    "distance": {"l1": "L1", "lpips": "LPIPS"},
    LATENTS: {"latent_mean_square": "mean square", "posterior_variance": "posterior variance"},
    "discriminator's logits": {"logits_real": "real", "logits_fake": "reconstructions"},
}

Pictures = UInt8[np.ndarray, "n height width channels"]


def blocks_of(pictures: Pictures, side: int) -> Float[np.ndarray, "blocks numbers"]:
    """Pictures cut into squares, each as one vector."""
    n, height, width, channels = pictures.shape
    cut = pictures.reshape(n, height // side, side, width // side, side, channels).swapaxes(2, 3)
    return cut.reshape(-1, side * side * channels).astype(np.float64)


def block_pca_psnr(fitted: Pictures, pictures: Pictures, side: int, numbers: int) -> float:
    """PSNR of `pictures` from this many principal components of each block, those of `fitted`."""
    known, wanted = blocks_of(fitted, side), blocks_of(pictures, side)
    return psnr(wanted, principal_components(known, numbers).restored(wanted))


def picture_pca_psnr(fitted: Pictures, pictures: Pictures, numbers: int) -> float | None:
    """The same with whole pictures as blocks; None where they are not square, too large, or too few to fit to."""
    height, width, channels = pictures.shape[1:]
    if height != width or not len(fitted) > height * width * channels <= MOST_VALUES:
        return None
    return block_pca_psnr(fitted, pictures, height, numbers)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of the mean squared error over all pictures, in dB."""
    return decibels(float(np.square(a.astype(np.float64) - b).mean()))


def curves(lines: list[dict[str, Any]], objective: dict[str, Any], title: str) -> Figure:
    """A panel a group of metrics, over steps."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (name, metrics) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for metric, label in metrics.items():
            found = [(line["step"], line[metric]) for line in lines if line.get(metric) is not None]
            if found:
                axes.plot(*zip(*found, strict=True), label=label)
        if objective["adversarial_weight"]:
            for key, style in (("discriminator_start_step", ":"), ("adversarial_start_step", "--")):
                if objective.get(key) is not None and objective[key] < lines[-1]["step"]:
                    axes.axvline(objective[key], color="grey", linestyle=style, label=key.removesuffix("_step"))
        axes.set(xlabel="step", title=name)
        axes.grid(alpha=0.3)
        if name == LATENTS and axes.lines:
            axes.set_yscale("log")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.suptitle(title)
    return figure


def shown_split(data: RunData) -> Dataset:
    try:
        return data.test
    except UserError:  # a folder of pictures has no test split
        return data.train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--workdir", required=True, help="a run of configs/autoencoder_kl_imagenet.py")
    add("--name", required=True, help="the files' names begin with it")
    add("--count", type=int, default=16, help="pictures in the figure (%(default)s)")
    add("--pictures", type=int, default=2_000, help="for the PSNR, evenly spread (%(default)s)")
    add("--raw", action="store_true", help="parameters of the last step in place of their moving average")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--output", type=Path, default=Path("results"), help="folder (%(default)s)")
    arguments = parser.parse_args()
    if min(arguments.count, arguments.pictures) < 1:
        raise UserError("--count and --pictures must be at least 1")
    start = time.perf_counter()
    run = load_run(arguments.workdir, averaged=not arguments.raw)
    config, data = run.config.to_dict(), RunData(run, arguments.data_dir)
    if config["model"]["name"] != "autoencoder_kl":
        raise UserError(f"{arguments.workdir} is a run of {config['model']['name']}, not of autoencoder_kl")
    save_figure(
        str(arguments.output / f"{arguments.name}_curves.png"),
        curves(read_lines(Path(arguments.workdir) / "metrics.jsonl"), config["objective"], arguments.name),
    )
    split = shown_split(data)
    rows = np.unique(np.arange(arguments.pictures) * len(split) // arguments.pictures)
    originals = data.pictures(split, rows)
    painted = data.painter.paint(data.painter.encode(originals))
    shown = np.concatenate([originals[: arguments.count], painted[: arguments.count]])
    page = np.repeat(np.repeat(grid(shown, arguments.count), 3, 0), 3, 1)
    Image.fromarray(page.squeeze()).save(arguments.output / f"{arguments.name}_reconstructions.png")
    model: Any = run.model
    fitted = data.pictures(data.train, np.arange(min(FITTED_PICTURES, len(data.train))))
    metrics = {
        "psnr": psnr(originals, painted),
        "block_pca_psnr": block_pca_psnr(fitted, originals, model.stride, model.latent_channels),
        "picture_pca_psnr": picture_pca_psnr(fitted, originals, latent_size(run.model)),
        "pictures": len(rows),
        "split": split.split,
        "step": run.step,
        "averaged": not arguments.raw,
        **training_facts(arguments.workdir),
    }
    record(
        arguments.output / "figures_autoencoder.jsonl",
        arguments.name,
        f"{split.name}:{split.split}",
        ["python", *sys.argv],
        config,
        config["seed"],
        time.perf_counter() - start,
        metrics,
    )
    whole = metrics["picture_pca_psnr"]
    print(
        f"{metrics['psnr']:.2f} dB; PCA with as many numbers, of blocks: {metrics['block_pca_psnr']:.2f} dB"
        + ("" if whole is None else f", of whole pictures: {whole:.2f} dB")
    )


if __name__ == "__main__":
    run_script(main)
