"""Fig. 5.1 of Asadi 2022: size of the net in percent of the raw picture, and final loss, for widths x depths.

    python scripts/figure_5_1.py            # 400 x 400 pixels, 54 sizes, 5 seeds, 10,000 steps: for an accelerator
    python scripts/figure_5_1.py --quick    # 128 x 128 pixels, 9 sizes, 2 seeds, 500 steps: minutes on two cores

Every size is fitted with the thesis' recipe (Adam, constant 4e-4, 2^14 pixels a step, variance 2e-10) and, beside it,
with the codec's default recipe, both as float32 weights and for the same number of steps; the seeds of one size are one
batch of independently drawn nets. A box shows the percentage, weights * 4 / (height * width * 3) as in the thesis, and
the mean PSNR in dB on 8 bits; its colour is the interval of the mean final loss, the darker the better. The four
intervals hold a quarter of all boxes each, since the thesis does not state its own.

Each size and recipe is one JSON line of --output. Those already there with the same settings are not fitted again,
whatever commit made them; --again fits them anew, and the newest line counts. The plot is drawn from the lines.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dfm.codec.profiles import ProgressReport
from dfm.experiments import (
    RECIPES,
    FitProgress,
    Picture,
    final_loss,
    find_row,
    fit_nets,
    float32_file,
    in_words,
    integers,
    parse,
    percent_of_raw,
    run_script,
    sample_photograph,
    save_figure,
    square,
)
from dfm.metrics.picture_quality import psnr
from dfm.models.fourier import coefficient_count
from dfm.picture_files import load_picture
from dfm.results import read_lines, record

FULL = {"side": 400, "widths": [4, 5, 6, 7, 8, 9], "depths": [2, 3, 4, 5, 6, 7, 8, 9, 10], "seeds": 5, "steps": 10_000}
QUICK = {"side": 128, "widths": [4, 6, 8], "depths": [2, 4, 6], "seeds": 2, "steps": 500}
COLOURS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef")  # best loss first


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """What names the rows of this figure; scripts/figure_5_2.py takes the same."""
    add = parser.add_argument
    add("--quick", action="store_true", help="the small setting: " + in_words(QUICK))
    add("--picture", metavar="PATH", help="a picture file; default: scikit-learn's china.jpg")
    add("--side", type=int, help="the picture's central square is resized to this many pixels")
    add("--widths", type=integers, metavar="W,W,...", help="widths of the nets")
    add("--depths", type=integers, metavar="D,D,...", help="depths of the nets: numbers of hidden vectors")
    add("--seeds", type=int, help="nets a size, fitted as one batch")
    add("--steps", type=int, help="training steps")
    add("--seed", type=int, default=0, help="of the starts and the pixels drawn (%(default)s)")


def load_square(arguments: argparse.Namespace) -> tuple[str, Picture]:
    """(name, picture) of --picture and --side."""
    if arguments.picture is None:
        return "china.jpg", square(sample_photograph("china.jpg"), arguments.side)
    return Path(arguments.picture).name, square(load_picture(arguments.picture), arguments.side)


def cells(arguments: argparse.Namespace) -> list[tuple[str, int, int]]:
    """(recipe, width, depth) of every box, cheap ones first."""
    grid = [(name, width, depth) for name in RECIPES for width in arguments.widths for depth in arguments.depths]
    return sorted(grid, key=lambda cell: cell_cost(arguments, *cell))


def cell_cost(arguments: argparse.Namespace, recipe: str, width: int, depth: int) -> float:
    """Of one box, relative to the others."""
    points = min(RECIPES[recipe].batch_pixels, arguments.side**2)
    return coefficient_count((width,) * depth, 3) * points


def cell_config(
    arguments: argparse.Namespace, name: str, picture: Picture, recipe: str, width: int, depth: int
) -> dict[str, Any]:
    """Everything that shapes the numbers of one box, and names its row."""
    return {
        "quick": arguments.quick,
        "picture": name,
        "pixel_checksum": f"{crc32(picture.tobytes()):08x}",
        "side": arguments.side,
        "width": width,
        "depth": depth,
        "seeds": arguments.seeds,
        "steps": arguments.steps,
        "seed": arguments.seed,
        "recipe_name": recipe,
        "recipe": dataclasses.asdict(RECIPES[recipe]),
    }


def measure(config: dict, picture: Picture, progress: ProgressReport) -> dict[str, Any]:
    """The numbers of one box; losses that are not finite count as no loss at all (null)."""
    recipe, widths = RECIPES[config["recipe_name"]], (config["width"],) * config["depth"]
    copies = [picture] * config["seeds"]
    nets, halvings = fit_nets(recipe, widths, copies, config["steps"], config["seed"], progress)
    losses = [final_loss(net, picture, recipe.input_scale) for net in nets]
    files = [float32_file(net, picture, widths, recipe.input_scale) for net in nets]
    decibels = [psnr(painted, picture) for _, painted in files]
    return {
        "percent": percent_of_raw(widths, picture),
        "coefficients": coefficient_count(widths, picture.shape[-1]),
        "file_bytes": len(files[0][0]),
        "loss": float(np.mean(losses)),
        "psnr": float(np.mean(decibels)),
        "losses": losses,
        "psnrs": decibels,
        "rate_halvings": halvings,
    }


def loss_edges(rows: Sequence[dict]) -> list[float]:
    """Three losses that cut the rows into four groups of about equal number, in three significant digits."""
    losses = [row["metrics"]["loss"] for row in rows if row["metrics"]["loss"] is not None]
    return [float(f"{edge:.2e}") for edge in np.quantile(losses, [0.25, 0.5, 0.75])] if losses else [0.0, 0.0, 0.0]


def interval(loss: float | None, edges: Sequence[float]) -> int:
    """0 (best) ... 3 (worst, and diverged fits)."""
    return 3 if loss is None else sum(loss > edge for edge in edges)


def interval_names(edges: Sequence[float]) -> list[str]:
    low, middle, high = (f"{edge:g}" for edge in edges)
    return [f"loss up to {low}", f"up to {middle}", f"up to {high}", f"above {high}"]


def draw(rows: dict[tuple[str, int, int], dict], arguments: argparse.Namespace, name: str) -> Figure:
    """One heat map a recipe, on common intervals of the loss."""
    edges = loss_edges(list(rows.values()))
    columns, lines = len(arguments.widths), len(arguments.depths)
    size = (1.5 + len(RECIPES) * max(3.6, 0.95 * columns), 2.1 + 0.62 * lines)
    figure = Figure(figsize=size, layout="constrained")
    for axes, recipe in zip(figure.subplots(1, len(RECIPES)), RECIPES, strict=True):
        table = np.full((lines, columns), np.nan)
        for i, depth in enumerate(arguments.depths):
            for j, width in enumerate(arguments.widths):
                if (recipe, width, depth) in rows:
                    numbers = rows[recipe, width, depth]["metrics"]
                    table[i, j] = interval(numbers["loss"], edges)
                    colour = "white" if table[i, j] < 2 else "black"
                    axes.text(j, i - 0.14, _digits(numbers["percent"]), ha="center", va="center", color=colour)
                    axes.text(j, i + 0.24, f"{numbers['psnr']:.1f} dB", ha="center", va="center", color=colour, size=7)
        axes.imshow(table, cmap=ListedColormap(COLOURS), vmin=0, vmax=3, aspect="auto")
        axes.set_xticks(range(columns), arguments.widths)
        axes.set_yticks(range(lines), arguments.depths)
        axes.set(xlabel="width", ylabel="depth", title=f"{recipe} recipe")
    quick = "QUICK SETTING: " if arguments.quick else ""
    figure.suptitle(
        f"{quick}float32 weights in percent of the raw picture, and final loss (Eq. 4.7)\n{name}, {arguments.side} x "
        f"{arguments.side} pixels, {arguments.steps:,} steps, mean of {arguments.seeds} seeds",
        fontsize=10,
    )
    patches = [Patch(color=c, label=label) for c, label in zip(COLOURS, interval_names(edges), strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _digits(percent: float) -> str:
    return f"{percent:.0f}" if percent >= 10 else f"{percent:.1f}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_grid_arguments(parser)
    parser.add_argument("--again", action="store_true", help="fit again what --output has already")
    parser.add_argument("--output", default="results/figure_5_1.jsonl", help="JSON lines (%(default)s)")
    parser.add_argument("--plot", default="results/figure_5_1.png", help="the figure (%(default)s)")
    return parse(parser, FULL, QUICK)


def main() -> None:
    arguments = parse_arguments()
    name, picture = load_square(arguments)
    configs = {cell: cell_config(arguments, name, picture, *cell) for cell in cells(arguments)}
    known = [] if arguments.again else read_lines(arguments.output)
    rows = {cell: row for cell, config in configs.items() if (row := find_row(known, config))}
    missing = [cell for cell in configs if cell not in rows]
    print(f"{len(missing)} boxes to fit, {len(rows)} already in {arguments.output}")
    costs = {cell: cell_cost(arguments, *cell) for cell in missing}
    with FitProgress(sum(costs.values())) as bar:
        for cell in missing:
            label = f"{cell[0]}, width {cell[1]}, depth {cell[2]}"
            start = time.perf_counter()
            metrics = measure(configs[cell], picture, bar.of_fit(label, costs[cell]))
            rows[cell] = record(
                arguments.output,
                name="figure_5_1",
                protocol=f"central square of {name} at {arguments.side} pixels",
                command=["python", *sys.argv],
                config=configs[cell],
                seed=arguments.seed,
                seconds=time.perf_counter() - start,
                metrics=metrics,
            )
            bar.print(f"{label}: {metrics['percent']:.1f} %, loss {metrics['loss']:.4g}, {metrics['psnr']:.2f} dB")
    save_figure(arguments.plot, draw(rows, arguments, name))
    print(f"drawn: {arguments.plot}")


if __name__ == "__main__":
    run_script(main)
