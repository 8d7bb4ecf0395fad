"""Fig. 5.3 of Asadi 2022: the thesis' net of 18 % of the raw size on further pictures, against JPEG of as many bytes.

    python scripts/figure_5_3.py            # 400 x 400 pixels, width 8, depth 6, 10,000 steps: for an accelerator
    python scripts/figure_5_3.py --quick    # 128 x 128 pixels, 500 steps: minutes on two cores
    python scripts/figure_5_3.py --pictures FOLDER    # scikit-learn's two photographs and those of a folder

For each picture:
  thesis    float32 weights in a real .dfm file. Width 8 and depth 6 are 18.4 % of 400 x 400 x 3 bytes; at another size,
            the net whose weights are nearest to that share is taken, and named.
  JPEG      the largest quality that is no larger than that file: `jpeg` (Pillow's default) and `jpeg-opt` (optimised,
            progressive, 4:4:4); and how few bytes a JPEG needs for the thesis net's PSNR.
  default   our codec with quantised weights, also no larger than that file.
The sentence that follows from the numbers is printed, drawn and kept in the JSON line, one a picture.
"""

import argparse
import dataclasses
import sys
import time
import warnings
from typing import Any
from zlib import crc32

import numpy as np
from matplotlib.figure import Figure

from dfm import codec
from dfm.codec.bench import baselines
from dfm.codec.weights.recipes import effort_steps
from dfm.experiments import (
    PHOTOGRAPHS,
    RECIPES,
    FitProgress,
    Picture,
    final_loss,
    fit_nets,
    float32_file,
    parse,
    percent_of_raw,
    pictures_of,
    run_script,
    sample_photograph,
    save_figure,
    square,
)
from dfm.metrics.picture_quality import psnr, ssim
from dfm.models.fourier import coefficient_count
from dfm.picture_files import load_picture
from dfm.results import record

FULL = {"side": 400, "steps": 10_000, "effort": 7}
QUICK = {"side": 128, "steps": 500, "effort": 2}
THESIS_SHARE = 22_080 * 4 / (400 * 400 * 3)  # width 8, depth 6, without a header
JPEGS = ("jpeg", "jpeg-opt")
MOST_COLUMNS = 6  # of the figure; the JSON lines hold all pictures


def net_of_share(side: int) -> tuple[int, ...]:
    """Hidden widths whose float32 weights are nearest to the thesis' share of side x side RGB pixels."""
    sizes = [(width,) * depth for width in range(3, 10) for depth in range(3, 11)]
    return min(sizes, key=lambda widths: abs(4 * coefficient_count(widths, 3) / (3 * side * side) - THESIS_SHARE))


def load_pictures(folder: str | None, side: int) -> list[tuple[str, Picture]]:
    """(name, central square) of scikit-learn's photographs, and of the colour pictures of a folder."""
    pictures = [(name, square(sample_photograph(name), side)) for name in PHOTOGRAPHS]
    if folder is not None:
        pictures += [(path.name, square(load_picture(path), side)) for path in pictures_of(folder).values()]
    return [(name, picture) for name, picture in pictures if picture.shape[-1] == 3]


def jpeg_against(name: str, picture: Picture, most_bytes: int, decibels: float) -> tuple[dict[str, Any], Picture]:
    """(numbers, decoded picture): a JPEG of at most `most_bytes`, and the smallest one with at least `decibels`."""
    jpeg = baselines.CODECS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too large a file is told by `fits`
        data = baselines.encode_to_size(jpeg, picture, most_bytes)
    decoded = jpeg.decode(data)
    numbers = _numbers(data, decoded, picture) | {"fits": len(data) <= most_bytes, "options": jpeg.description}
    files = [jpeg.encode(picture, quality) for quality in range(jpeg.lowest_quality, jpeg.highest_quality + 1)]
    as_good = [(len(data), psnr(jpeg.decode(data), picture)) for data in files]
    as_good = sorted(pair for pair in as_good if pair[1] >= decibels)
    numbers["bytes_for_thesis_psnr"], numbers["psnr_at_those_bytes"] = as_good[0] if as_good else (None, None)
    # then its bytes are an upper bound: no JPEG of these options is as bad as the net
    numbers["is_smallest_jpeg"] = bool(as_good) and as_good[0][0] == min(map(len, files))
    return numbers, decoded


def _numbers(data: bytes, decoded: Picture, picture: Picture) -> dict[str, Any]:
    return {
        "bytes": len(data),
        "percent": 100 * len(data) / picture.size,
        "psnr": psnr(decoded, picture),
        "ssim": ssim(decoded, picture),
    }


def measure(
    picture: Picture, widths: tuple[int, ...], arguments: argparse.Namespace, bar: FitProgress
) -> tuple[dict[str, Any], dict[str, Picture]]:
    """(numbers, decoded pictures), each by codec."""
    recipe = RECIPES["thesis"]
    (net,), _ = fit_nets(recipe, widths, [picture], arguments.steps, arguments.seed, bar.of_fit("thesis", 1))
    thesis_file, painted = float32_file(net, picture, widths, recipe.input_scale)
    most_bytes = len(thesis_file)
    metrics: dict[str, Any] = {"thesis": _numbers(thesis_file, painted, picture)}
    metrics["thesis"]["loss"] = final_loss(net, picture, recipe.input_scale)
    shown = {"thesis": painted}
    for name in JPEGS:
        metrics[name], shown[name] = jpeg_against(name, picture, most_bytes, metrics["thesis"]["psnr"])
    progress = bar.of_fit("default", 1)
    data = codec.encode(
        picture, target_bytes=most_bytes, effort=arguments.effort, seed=arguments.seed, progress=progress
    )
    shown["default"] = codec.decode(data)
    metrics["default"] = _numbers(data, shown["default"], picture)
    metrics["default"] |= {"widths": codec.describe(data)["widths"], "steps": effort_steps(arguments.effort)}
    return metrics, shown


def finding(metrics: dict[str, Any]) -> str:
    """What the numbers of one picture say about the thesis' comparison with JPEG."""
    thesis, jpeg, default = metrics["thesis"], metrics["jpeg"], metrics["default"]
    size = "no more bytes" if jpeg["fits"] else f"the fewest bytes it can ({jpeg['bytes']:,})"
    sentences = [
        f"the thesis net takes {thesis['bytes']:,} bytes ({thesis['percent']:.1f} %) for {thesis['psnr']:.2f} dB; "
        f"a JPEG of {size} has {jpeg['psnr']:.2f} dB ({metrics['jpeg-opt']['psnr']:.2f} dB optimised, 4:4:4)"
    ]
    if jpeg["bytes_for_thesis_psnr"] is None:
        sentences.append("no default JPEG reaches the net's PSNR")
    else:
        few = jpeg["bytes_for_thesis_psnr"]
        most = ", its smallest file" if jpeg["is_smallest_jpeg"] else ""
        sentences.append(
            f"for the net's PSNR a JPEG needs {few:,} bytes{most} ({jpeg['psnr_at_those_bytes']:.2f} dB), "
            f"{thesis['bytes'] / few:.1f} times fewer"
        )
    sentences.append(f"our default codec has {default['psnr']:.2f} dB in {default['bytes']:,} bytes")
    return "; ".join(sentences)


def draw(columns: list[tuple[str, Picture, dict, dict]], title: str) -> Figure:
    """Columns of (name, original, numbers, decoded pictures)."""
    rows = ["original", "thesis", "jpeg", "default"]
    figure = Figure(figsize=(max(7.5, 3.1 * len(columns)), 14.5), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for number, (name, original, metrics, shown) in enumerate(columns):
        for row, axes in zip(rows, grid[:, number], strict=True):
            axes.imshow(original if row == "original" else shown[row], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(_caption(row, name, original, metrics), fontsize=8)
    labels = ["original", "DFM, thesis recipe, float32", "JPEG, no more bytes", "DFM, default codec, no more bytes"]
    for axes, label in zip(grid[:, 0], labels, strict=True):
        axes.set_ylabel(label, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _caption(row: str, name: str, original: Picture, metrics: dict) -> str:
    if row == "original":
        return f"{name}, {original.size:,} bytes raw"
    numbers = metrics[row]
    caption = f"{numbers['psnr']:.2f} dB, {numbers['bytes']:,} bytes ({numbers['percent']:.1f} %)"
    jpeg = metrics["jpeg"]
    if row == "thesis" and jpeg["is_smallest_jpeg"]:
        best = f"{jpeg['psnr_at_those_bytes']:.2f} dB, {jpeg['bytes_for_thesis_psnr']:,} bytes"
        return caption + f"\nthe smallest JPEG: {best}"
    if row == "thesis" and jpeg["bytes_for_thesis_psnr"] is not None:
        return caption + f"\na JPEG as good: {jpeg['bytes_for_thesis_psnr']:,} bytes"
    if row == "jpeg":
        return caption + f"\noptimised, 4:4:4: {metrics['jpeg-opt']['psnr']:.2f} dB"
    return caption


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="128 x 128 pixels, 500 steps, effort 2 (548 steps) for the default codec")
    add("--pictures", metavar="FOLDER", help="further pictures")
    add("--side", type=int, help="the pictures' central squares are resized to this many pixels (400; quick 128)")
    add("--steps", type=int, help="training steps of the thesis' net (10,000; quick 500)")
    add("--effort", type=int, help="effort of the default codec, 1 to 9 (7: 10,000 steps; quick 2: 548)")
    add("--seed", type=int, default=0, help="of the starts and the pixels drawn (%(default)s)")
    add("--output", default="results/figure_5_3.jsonl", help="JSON lines (%(default)s)")
    add("--plot", default="results/figure_5_3.png", help="the figure, of the first six pictures (%(default)s)")
    return parse(parser, FULL, QUICK)


def main() -> None:
    arguments = parse_arguments()
    effort_steps(arguments.effort)  # refused now, not after the first fit
    pictures, widths = load_pictures(arguments.pictures, arguments.side), net_of_share(arguments.side)
    share = percent_of_raw(widths, pictures[0][1])
    quick = "QUICK SETTING: " if arguments.quick else ""
    title = (
        f"{quick}width {widths[0]}, depth {len(widths)} (float32 weights = {share:.1f} % of {arguments.side} x "
        f"{arguments.side} x 3), thesis recipe, {arguments.steps:,} steps;\nJPEG and our default codec "
        f"({effort_steps(arguments.effort):,} steps) in no more bytes"
    )
    print(title)
    columns = []
    with FitProgress(2 * len(pictures)) as bar:
        for name, picture in pictures:
            start = time.perf_counter()
            metrics, shown = measure(picture, widths, arguments, bar)
            metrics["finding"] = finding(metrics)
            config = {
                "quick": arguments.quick,
                "picture": name,
                "pixel_checksum": f"{crc32(picture.tobytes()):08x}",
                "side": arguments.side,
                "widths": widths,
                "steps": arguments.steps,
                "effort": arguments.effort,
                "recipes": {name: dataclasses.asdict(recipe) for name, recipe in RECIPES.items()},
            }
            record(
                arguments.output,
                name="figure_5_3",
                protocol=f"central squares at {arguments.side} pixels",
                command=["python", *sys.argv],
                config=config,
                seed=arguments.seed,
                seconds=time.perf_counter() - start,
                metrics=metrics,
            )
            bar.print(f"{name}: {metrics['finding']}")
            columns.append((name, picture, metrics, shown))
    gaps = [metrics["jpeg"]["psnr"] - metrics["thesis"]["psnr"] for _, _, metrics, _ in columns]
    print(f"JPEG of no more bytes minus thesis net, mean of {len(gaps)} pictures: {np.mean(gaps):+.2f} dB")
    save_figure(arguments.plot, draw(columns[:MOST_COLUMNS], title))
    print(f"drawn: {arguments.plot}")


if __name__ == "__main__":
    run_script(main)
