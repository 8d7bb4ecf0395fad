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
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from dfm.codec import container
from dfm.codec.weights import fitting, painting
from dfm.codec.weights.fitting import Recipe, Schedule
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.metrics.picture_quality import psnr
from dfm.models.fourier import coefficient_count, fourier_net
from dfm.picture_files import central_crop, load_picture
from dfm.progress import Progress
from dfm.results import finite, read_lines, record

Picture = np.ndarray  # uint8 [height, width, channel]
Net = list[dict[str, np.ndarray]]  # one picture's coefficients, [2^m, n] a layer and name

RECIPES = {
    "thesis": fitting.THESIS,
    "default": dataclasses.replace(fitting.DEFAULT, quantized_fraction=0.0),  # float weights, as the thesis'
}
FULL = {"side": 400, "widths": [4, 5, 6, 7, 8, 9], "depths": [2, 3, 4, 5, 6, 7, 8, 9, 10], "seeds": 5, "steps": 10_000}
QUICK = {"side": 128, "widths": [4, 6, 8], "depths": [2, 4, 6], "seeds": 2, "steps": 500}
COLOURS = ("#08306b", "#2171b5", "#6baed6", "#c6dbef")  # best loss first
TILE_POINTS = 2**14


def sample_photograph(name: str) -> Picture:
    """One of the two photographs that scikit-learn ships, "china.jpg" or "flower.jpg", 427 x 640."""
    from sklearn.datasets import load_sample_image

    return np.array(load_sample_image(name))


def square(picture: Picture, side: int) -> Picture:
    """The central square of a picture, at `side` pixels (Lanczos)."""
    cropped = central_crop(picture, min(picture.shape[:2]))
    image = Image.fromarray(cropped[..., 0] if cropped.shape[-1] == 1 else cropped)
    return np.array(image.resize((side, side), Image.Resampling.LANCZOS)).reshape(side, side, -1)


def fit_nets(
    recipe: Recipe,
    widths: Sequence[int],
    pictures: Sequence[Picture],
    total_steps: int,
    seed: int,
    progress: fitting.Progress | None = None,
) -> tuple[list[Net], list[int]]:
    """Float nets, one a picture, fitted side by side; and how often each one's learning rate was halved."""
    pixels = fitting.stack_pictures(pictures)
    key = jax.random.key(seed)
    state = fitting.start(recipe, widths, pixels, "cos_sin", key)
    state = fitting.train(recipe, state, pixels, key, Schedule(0, total_steps, total_steps), progress=progress)
    layers = jax.device_get(state.layers)
    nets = [[{name: c[i] for name, c in layer.items()} for layer in layers] for i in range(len(pictures))]
    return nets, [round(-math.log2(rate)) for rate in np.asarray(state.rate)]


def final_loss(net: Net, picture: Picture, input_scale: float) -> float:
    """Eq. 4.7 literally: mean over all pixels of the squared norm of a pixel's error, values in [-1, 1].

    A third of it is the mean over pixels and channels of an RGB picture.
    """
    height, width, channels = picture.shape
    targets = picture.reshape(-1, channels) / 127.5 - 1
    total = 0.0
    for first in range(0, height * width, TILE_POINTS):
        index = jnp.arange(first, min(first + TILE_POINTS, height * width))
        values = _values(net, painting.coordinates(index, height, width) * input_scale)
        total += float(np.sum((np.asarray(values, np.float64) - targets[np.asarray(index)]) ** 2))
    return total / (height * width)


_values = jax.jit(fourier_net)


def float32_file(net: Net, picture: Picture, widths: Sequence[int], input_scale: float) -> tuple[bytes, Picture]:
    """A .dfm file of one net with float32 weights, and the picture that it decodes to."""
    height, width, channels = picture.shape
    painted = painting.paint(net, height, width, input_scale)
    checksum = crc32(painted.tobytes())
    header = container.Header(
        width, height, channels, tuple(widths), "cos_sin", "float32", input_scale, pixel_checksum=checksum
    )
    return container.write(header, net), painted


def percent_of_raw(widths: Sequence[int], picture: Picture) -> float:
    """The thesis' size: 32-bit weights without any header, in percent of one byte a pixel and channel."""
    return 100 * 4 * coefficient_count(widths, picture.shape[-1]) / picture.size


class ProgressBar(Progress):
    """Progress over several fits of known relative cost, on standard error, with the time left."""

    def __init__(self, total_cost: float):
        super().__init__(100.0, unit="%")
        self._scale = 100.0 / total_cost

    def of_fit(self, name: str, cost: float) -> Callable[[int, int, float], None]:
        """The progress function of one fit, which is `cost` of the total."""
        before = self.done

        def update(done: int, total: int, decibels: float) -> None:
            self.reach(before + self._scale * cost * done / total, note=f"{name}: {decibels:.2f} dB")

        return update


def find_row(rows: Sequence[dict], config: dict) -> dict | None:
    """The newest of the rows that were measured with exactly this config."""
    wanted = finite(config)
    return next((row for row in reversed(rows) if row.get("config") == wanted), None)


def save_figure(path: str, figure: Figure) -> None:
    """The figure as a PNG, which appears when complete; its folder is made when missing."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    write_atomically(path, stream.getvalue())


def integers(text: str) -> list[int]:
    """Positive integers separated by commas, for argparse."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 4,6,8") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: all must be positive")
    return numbers


def exit_in_words(main: Callable[[], None]) -> NoReturn:
    """Runs a script's main; what the user can mend is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


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


def in_words(setting: dict) -> str:
    return ", ".join(f"{name} {','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in setting.items())


def complete(arguments: argparse.Namespace, full: dict, quick: dict) -> None:
    """Fills the options that were not given from the full or the quick setting."""
    for name, value in (quick if arguments.quick else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
        chosen = getattr(arguments, name)
        if isinstance(chosen, int) and chosen < 1:
            raise UserError(f"--{name} must be positive, not {chosen}")


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


def measure(config: dict, picture: Picture, progress: fitting.Progress) -> dict[str, Any]:
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
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    complete(arguments, FULL, QUICK)
    name, picture = load_square(arguments)
    configs = {cell: cell_config(arguments, name, picture, *cell) for cell in cells(arguments)}
    known = [] if arguments.again else read_lines(arguments.output)
    rows = {cell: row for cell, config in configs.items() if (row := find_row(known, config))}
    missing = [cell for cell in configs if cell not in rows]
    print(f"{len(missing)} boxes to fit, {len(rows)} already in {arguments.output}")
    costs = {cell: cell_cost(arguments, *cell) for cell in missing}
    with ProgressBar(sum(costs.values())) as bar:
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
    exit_in_words(main)
