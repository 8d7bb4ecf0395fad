"""Fig. 5.2 of Asadi 2022: one picture at four final losses, one from each colour of Fig. 5.1.

    python scripts/figure_5_1.py && python scripts/figure_5_2.py
    python scripts/figure_5_1.py --quick && python scripts/figure_5_2.py --quick

Takes the rows of scripts/figure_5_1.py with the same options, and of each interval of the loss the row with the median
loss. Its nets are fitted again, with the same recipe, steps and seeds, and the one whose loss is nearest to their mean
is painted. Sizes are those of the real .dfm file with float32 weights. One JSON line holds the whole strip.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from figure_5_1 import (
    FULL,
    QUICK,
    add_grid_arguments,
    cell_config,
    cell_cost,
    cells,
    interval,
    interval_names,
    load_square,
    loss_edges,
)
from matplotlib.figure import Figure

from dfm.errors import UserError
from dfm.experiments import (
    RECIPES,
    FitProgress,
    Picture,
    final_loss,
    find_row,
    fit_nets,
    float32_file,
    parse,
    run_script,
    save_figure,
)
from dfm.metrics.picture_quality import psnr, ssim
from dfm.results import read_lines, record


def choose(rows: Sequence[dict]) -> list[tuple[str, dict]]:
    """(interval in words, row) of the four intervals, worst first: the row of median loss in each.

    Raises:
        UserError: an interval without rows.
    """
    edges = loss_edges(rows)
    chosen = []
    for number, words in reversed(list(enumerate(interval_names(edges)))):
        inside = [row for row in rows if row["metrics"]["loss"] is not None]
        inside = [row for row in inside if interval(row["metrics"]["loss"], edges) == number]
        if not inside:
            raise UserError("Fig. 5.1 has too few rows for four intervals of the loss; run figure_5_1.py to its end")
        inside.sort(key=lambda row: row["metrics"]["loss"])
        chosen.append((words, inside[len(inside) // 2]))
    return chosen


def fit_again(row: dict, picture: Picture, progress: Any) -> tuple[dict, Picture]:
    """(numbers, painted picture) of the most typical net of a row of Fig. 5.1."""
    config = row["config"]
    recipe, widths = RECIPES[config["recipe_name"]], (config["width"],) * config["depth"]
    nets, _ = fit_nets(recipe, widths, [picture] * config["seeds"], config["steps"], config["seed"], progress)
    losses = [final_loss(net, picture, recipe.input_scale) for net in nets]
    typical = int(np.nanargmin(np.abs(np.array(losses) - np.nanmean(losses))))
    data, painted = float32_file(nets[typical], picture, widths, recipe.input_scale)
    return {
        "recipe_name": config["recipe_name"],
        "width": config["width"],
        "depth": config["depth"],
        "loss": losses[typical],
        "mean_loss": float(np.mean(losses)),
        "mean_loss_in_figure_5_1": row["metrics"]["loss"],
        "psnr": psnr(painted, picture),
        "ssim": ssim(painted, picture),
        "bytes": len(data),
        "percent": 100 * len(data) / picture.size,
    }, painted


def draw(original: Picture, strip: Sequence[tuple[dict, Picture]], title: str) -> Figure:
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    captions = [f"original\n{original.size:,} bytes raw"]
    for numbers, _ in strip:
        captions.append(
            f"loss {numbers['loss']:.3g} (mean of its box {numbers['mean_loss']:.3g})\n"
            f"{numbers['psnr']:.2f} dB, {numbers['bytes']:,} bytes ({numbers['percent']:.1f} %)\n"
            f"{numbers['recipe_name']} recipe, width {numbers['width']}, depth {numbers['depth']}"
        )
    pictures = [original, *(painted for _, painted in strip)]
    for axes, picture, caption in zip(figure.subplots(1, len(pictures)), pictures, captions, strict=True):
        axes.imshow(np.repeat(picture, 3, -1) if picture.shape[-1] == 1 else picture, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(caption, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_grid_arguments(parser)
    parser.add_argument("--rows", default="results/figure_5_1.jsonl", help="rows of Fig. 5.1 (%(default)s)")
    parser.add_argument("--output", default="results/figure_5_2.jsonl", help="JSON lines (%(default)s)")
    parser.add_argument("--plot", default="results/figure_5_2.png", help="the figure (%(default)s)")
    return parse(parser, FULL, QUICK)


def main() -> None:
    arguments = parse_arguments()
    name, picture = load_square(arguments)
    known = read_lines(arguments.rows)
    found = [find_row(known, cell_config(arguments, name, picture, *cell)) for cell in cells(arguments)]
    rows = [row for row in found if row is not None]
    if len(rows) < len(found):
        print(f"warning: {len(rows)} of the {len(found)} boxes of Fig. 5.1 are in {arguments.rows}", file=sys.stderr)
    if not rows:
        raise UserError(f"{arguments.rows} has no rows of these settings; run figure_5_1.py with the same options")
    chosen = choose(rows)

    def cost(row: dict) -> float:
        return cell_cost(arguments, *(row["config"][key] for key in ("recipe_name", "width", "depth")))

    start, strip = time.perf_counter(), []
    with FitProgress(sum(cost(row) for _, row in chosen)) as bar:
        for words, row in chosen:
            numbers, painted = fit_again(row, picture, bar.of_fit(words, cost(row)))
            strip.append(({"interval": words, **numbers}, painted))
            bar.print(f"{words}: loss {numbers['loss']:.4g}, {numbers['psnr']:.2f} dB, {numbers['bytes']:,} bytes")
    quick = "QUICK SETTING: " if arguments.quick else ""
    title = f"{quick}{name}, {arguments.side} x {arguments.side} pixels, {arguments.steps:,} steps, float32 weights"
    record(
        arguments.output,
        name="figure_5_2",
        protocol=f"central square of {name} at {arguments.side} pixels",
        command=["python", *sys.argv],
        config={"quick": arguments.quick, "rows": [row["config"] for _, row in chosen]},
        seed=arguments.seed,
        seconds=time.perf_counter() - start,
        metrics={"pictures": [numbers for numbers, _ in strip]},
    )
    save_figure(arguments.plot, draw(picture, strip, title))
    print(f"drawn: {arguments.plot}")


if __name__ == "__main__":
    run_script(main)
