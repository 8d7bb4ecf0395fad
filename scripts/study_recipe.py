"""The study behind the default recipe: one variable at a time, on real pictures, at equal size and equal steps.

    python scripts/study_recipe.py --part rate --pictures KODAK        # six pictures, widths 6,6,6,6, 1,000 steps
    python scripts/study_recipe.py --part robust --pictures KODAK      # thesis against default on every picture
    python scripts/study_recipe.py --summary                           # markdown tables of all rows

Parts:
  start        standard deviations of the first, hidden and last layers' outputs; the thesis' start
  rate         learning rate, with and without rates scaled by layer; length of the warm-up; schedule
  input_scale  share of the net's period that the picture covers
  batch        pixels a step
  shapes       hidden widths, at about equal numbers of coefficients and exactly equal limits of bytes
  rounding     share of the steps with rounded coefficients x bits a coefficient, in bytes
  robust       the thesis' and the default recipe on every picture of the folder: gain, mean gain, smallest gain

Variants differ from dfm.codec.weights.recipes.DEFAULT in the named variable alone, and are multiples of its value
where that makes sense, so the study follows the recipe. All pictures of a part are shrunk to --longest_side pixels and
fitted as one batch, from the same starts whatever the variant. Float weights, but for shapes and rounding, which count
real bytes through `dfm.codec.encode_batch`.

Each picture and variant is one JSON line. Lines with the same settings and picture are not measured again, whatever
part and commit made them. `seconds` is the time of the batch divided by its pictures, with compilation.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from tables.recipe import robust_table, variant_table

from dfm import codec
from dfm.codec.profiles import ProgressReport
from dfm.codec.weights import architectures, painting
from dfm.codec.weights.recipes import DEFAULT, THESIS, Recipe, effort_steps
from dfm.errors import UserError
from dfm.experiments import (
    PHOTOGRAPHS,
    FitProgress,
    Picture,
    fit_nets,
    integers,
    pictures_of,
    run_script,
    sample_photograph,
)
from dfm.metrics.picture_quality import psnr
from dfm.models.fourier import coefficient_count
from dfm.picture_files import downscale, load_picture
from dfm.results import finite, read_lines, record

PARTS = ("start", "rate", "input_scale", "batch", "shapes", "rounding", "robust")
CODED_PARTS = ("shapes", "rounding")
SIX = ("kodim05", "kodim08", "kodim13", "kodim15", "kodim20", "kodim23")  # texture, edges, and plain ground
GROUP = 6  # pictures fitted as one batch
SHAPE_TOLERANCE = 0.2  # of the number of coefficients: the limit of bytes does the rest
FLOAT: dict[str, Any] = {"quantized_fraction": 0.0}


@dataclass(frozen=True)
class Variant:
    """One setting to measure. `most_bytes`: of a coded file; None fits float weights."""

    variable: str
    value: Any
    recipe: Recipe
    widths: tuple[int, ...]
    most_bytes: int | None = None


def variants(part: str, widths: tuple[int, ...]) -> list[Variant]:
    """The settings of a part around the default recipe and these hidden widths; the default itself comes first."""
    if part == "shapes":
        limit = round(architectures.expected_bytes(widths, 3, "cos_sin", "quantized"))
        shapes = [widths, *(shape for shape in shapes_like(widths) if shape != widths)]
        return [Variant("widths", ",".join(map(str, shape)), DEFAULT, shape, limit) for shape in shapes]
    if part == "rounding":
        return list(_roundings(widths))
    default = Variant("default", "", dataclasses.replace(DEFAULT, **FLOAT), widths)
    if part == "robust":
        return [default, Variant("recipe", "thesis", THESIS, widths)]
    changes = {"start": _starts, "rate": _rates, "input_scale": _input_scales, "batch": _batches}[part]()
    return [default, *(_changed(widths, change) for change in changes)]


def _changed(widths: tuple[int, ...], change: dict[str, Any]) -> Variant:
    values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in change.values()]
    recipe = dataclasses.replace(DEFAULT, **FLOAT, **change)
    return Variant(", ".join(change), ", ".join(values), recipe, widths)


def _starts() -> Iterator[dict[str, Any]]:
    for name in ("first_scale", "hidden_scale", "last_scale"):
        for factor in (0.25, 0.5, 0.75, 1.33, 2.0, 4.0):
            yield {name: getattr(DEFAULT, name) * factor}
    yield {"coefficient_std": THESIS.coefficient_std}


def _rates() -> Iterator[dict[str, Any]]:
    rates = [DEFAULT.learning_rate * factor for factor in (0.125, 0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)]
    yield from ({"learning_rate": rate} for rate in rates if rate != DEFAULT.learning_rate)
    yield from ({"scaled_rates": not DEFAULT.scaled_rates, "learning_rate": rate} for rate in rates)
    for warmup in (0.0, 0.03, 0.1, 0.2, 0.4):
        if warmup != DEFAULT.warmup_fraction:
            yield {"warmup_fraction": warmup}
            yield {"warmup_fraction": warmup, "learning_rate": 2 * DEFAULT.learning_rate}
    yield {"schedule": "constant"}


def _input_scales() -> Iterator[dict[str, Any]]:
    scales = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
    yield from ({"input_scale": scale} for scale in scales if scale != DEFAULT.input_scale)


def _batches() -> Iterator[dict[str, Any]]:
    sizes = [2**power for power in (10, 11, 12, 13, 14, 16)]  # 2^16 is the whole of a picture of 256 x 256
    yield from ({"batch_pixels": size} for size in sizes if size != DEFAULT.batch_pixels)


def _roundings(widths: tuple[int, ...]) -> Iterator[Variant]:
    nominal = architectures.BITS_PER_COEFFICIENT["quantized"]
    overhead = architectures.expected_bytes(widths, 3, "cos_sin", "quantized")
    overhead -= coefficient_count(widths, 3) * nominal / 8
    names = "quantized_fraction, bits a coefficient"
    fractions = [DEFAULT.quantized_fraction, *(f for f in (0.0, 0.1, 0.25, 0.5) if f != DEFAULT.quantized_fraction)]
    for bits in (nominal, *(b for b in (3.5, 4.5, 5.5, 6.5, 8.0) if b != nominal)):
        for fraction in fractions:
            recipe = dataclasses.replace(DEFAULT, quantized_fraction=fraction)
            limit = round(overhead + coefficient_count(widths, 3) * bits / 8)
            yield Variant(names, f"{fraction:g}, {bits:g}", recipe, widths, limit)


def shapes_like(widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Nets of about as many coefficients: constant widths, the first one wider, the last one wider."""
    wanted = coefficient_count(widths, 3)

    def error(shape: tuple[int, ...]) -> float:
        return abs(coefficient_count(shape, 3) / wanted - 1)

    nearest = set()
    for width in range(2, 11):
        for first, last in ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1)):
            # all but the ends at `width`, as deep as comes nearest
            shapes = [(width + first, *(width,) * (depth - 2), width + last) for depth in range(2, 13)]
            nearest.add(min(shapes, key=error))
    return sorted(shape for shape in nearest if error(shape) <= SHAPE_TOLERANCE)


def load_pictures(arguments: argparse.Namespace) -> dict[str, Picture]:
    """Name -> colour picture at --longest_side: of the folder by --names, or scikit-learn's photographs."""
    if arguments.pictures is None:
        found = {name: sample_photograph(name) for name in PHOTOGRAPHS}
    else:
        paths = pictures_of(arguments.pictures)
        names = arguments.names.split(",") if arguments.names else list(SIX)
        if arguments.names is None and (arguments.part == "robust" or not set(paths) >= set(SIX)):
            names = list(paths)
        if unknown := set(names) - set(paths):
            raise UserError(f"{arguments.pictures}: no picture named {', '.join(sorted(unknown))}")
        found = {name: load_picture(path) for name, path in paths.items() if name in names}
    pictures = {name: downscale(picture, arguments.longest_side) for name, picture in found.items()}
    pictures = {name: picture for name, picture in pictures.items() if picture.shape[-1] == 3}
    if not pictures:
        raise UserError(f"{arguments.pictures}: no colour pictures")
    return pictures


def settings_of(variant: Variant, arguments: argparse.Namespace) -> dict[str, Any]:
    """What names a variant's rows, besides the picture."""
    return finite(
        {
            "recipe": dataclasses.asdict(variant.recipe),
            "widths": variant.widths,
            "steps": arguments.steps,
            "seed": arguments.seed,
            "longest_side": arguments.longest_side,
            "most_bytes": variant.most_bytes,
        }
    )


def measure(
    variant: Variant, pictures: Sequence[Picture], arguments: argparse.Namespace, progress: ProgressReport
) -> list[dict[str, Any]]:
    """The numbers of each picture."""
    if variant.most_bytes is None:
        nets, halvings = fit_nets(variant.recipe, variant.widths, pictures, arguments.steps, arguments.seed, progress)
        scale = variant.recipe.input_scale
        painted = [painting.paint(net, p.shape[0], p.shape[1], scale) for net, p in zip(nets, pictures, strict=True)]
        return [{"psnr": psnr(a, b), "retreats": r} for a, b, r in zip(painted, pictures, halvings, strict=True)]
    files = codec.encode_batch(
        pictures,
        recipe=variant.recipe,
        widths=variant.widths,
        target_bytes=variant.most_bytes,
        effort=_effort(arguments.steps),
        seed=arguments.seed,
        progress=progress,
    )
    numbers = []
    for data, picture in zip(files, pictures, strict=True):
        rate = 8 * len(data) / (picture.shape[0] * picture.shape[1])
        numbers.append({"psnr": psnr(codec.decode(data), picture), "bytes": len(data), "bits_per_pixel": rate})
    return numbers


def _effort(steps: int) -> int:
    """The effort of so many steps, because files are made at efforts only."""
    efforts = {effort_steps(effort): effort for effort in range(1, 10)}
    if steps not in efforts:
        known = ", ".join(map(str, efforts))
        raise UserError(f"parts {' and '.join(CODED_PARTS)} take the steps of an effort: {known}")
    return efforts[steps]


def run(arguments: argparse.Namespace) -> None:
    """Measures what a part lacks; every row is on the disk before the next fit begins."""
    if arguments.part in CODED_PARTS:
        _effort(arguments.steps)  # refused now, not after the first rows
    pictures = load_pictures(arguments)
    names = list(pictures)
    groups = [names[first : first + GROUP] for first in range(0, len(names), GROUP)]
    rows = read_lines(arguments.output)
    done = {_key(row["config"]["settings"], row["config"]["picture"]) for row in rows if "settings" in row["config"]}
    checksums = {name: f"{crc32(picture.tobytes()):08x}" for name, picture in pictures.items()}
    labels = {name: {"name": name, "pixel_checksum": checksums[name]} for name in names}

    def missing(variant: Variant, group: list[str]) -> list[str]:
        return [name for name in group if _key(settings_of(variant, arguments), labels[name]) not in done]

    todo = [(v, group) for group in groups for v in variants(arguments.part, arguments.widths) if missing(v, group)]
    print(f"part {arguments.part}: {len(todo)} batches of up to {GROUP} pictures to fit")
    with FitProgress(sum(_cost(variant, pictures, group) for variant, group in todo)) as bar:
        for variant, group in todo:
            label = f"{variant.variable} {variant.value}".strip()
            # the whole group, though some of its rows may be there: starts depend on the place in the batch
            progress = bar.of_fit(label, _cost(variant, pictures, group))
            start = time.perf_counter()
            measured = measure(variant, [pictures[name] for name in group], arguments, progress)
            seconds = (time.perf_counter() - start) / len(group)
            for name, numbers in zip(group, measured, strict=True):
                if name in missing(variant, group):
                    config = {
                        "part": arguments.part,
                        "widths": arguments.widths,
                        "variable": variant.variable,
                        "value": variant.value,
                        "settings": settings_of(variant, arguments),
                        "picture": labels[name],
                    }
                    record(
                        arguments.output,
                        name="study_recipe",
                        command=["python", *sys.argv],
                        config=config,
                        protocol=f"pictures shrunk to {arguments.longest_side} pixels",
                        seed=arguments.seed,
                        seconds=seconds,
                        metrics=numbers,
                    )
            mean = np.mean([numbers["psnr"] for numbers in measured])
            bar.print(f"{label}: mean {mean:.2f} dB of {', '.join(group)}")


def _key(settings: dict, picture: dict) -> str:
    return json.dumps([settings, picture], sort_keys=True)


def _cost(variant: Variant, pictures: dict[str, Picture], group: Sequence[str]) -> float:
    batch = min(variant.recipe.batch_pixels, max(pictures[name].size // 3 for name in group))
    return coefficient_count(variant.widths, 3) * batch * len(group)


def tables(rows: Sequence[dict], parts: Sequence[str]) -> Iterator[str]:
    """Markdown tables of the parts, one for each set of widths, steps, size and seed that the rows have."""
    rows = [row for row in rows if "settings" in row.get("config", {})]
    for part in parts:
        shared = {_shared(row) for row in rows if row["config"]["part"] == part}
        for widths, steps, side, seed in sorted(shared):
            frame = argparse.Namespace(steps=steps, longest_side=side, seed=seed)
            found = []
            for variant in variants(part, widths):
                wanted = settings_of(variant, frame)
                # a later row of the same settings and picture counts
                found.append({r["config"]["picture"]["name"]: r for r in rows if r["config"]["settings"] == wanted})
            if not found[0]:
                continue  # measured around another default recipe
            words = ",".join(map(str, widths))
            yield f"\n### {part}: widths {words}, {steps:,} steps, longest side {side}, seed {seed}\n"
            make = robust_table if part == "robust" else variant_table
            yield from make(variants(part, widths), found)


def _shared(row: dict) -> tuple:
    """(widths of the part, steps, longest side, seed) of a row."""
    settings = row["config"]["settings"]
    return tuple(row["config"]["widths"]), settings["steps"], settings["longest_side"], settings["seed"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--part", choices=PARTS, help="what to measure; with --summary, the table to print (all without it)")
    add("--summary", action="store_true", help="print markdown tables of the rows, around the default recipe of today")
    add("--pictures", metavar="FOLDER", help="default: scikit-learn's two photographs")
    add("--names", metavar="NAME,NAME", help="of the folder, without suffixes (six of Kodak's, or all; robust: all)")
    add("--widths", type=integers, default=[6, 6, 6, 6], metavar="W,W,...", help="hidden widths (6,6,6,6)")
    add("--steps", type=int, default=1_000, help="training steps (%(default)s)")
    add("--longest_side", type=int, default=256, help="pictures are shrunk to this (%(default)s)")
    add("--seed", type=int, default=0, help="of the starts and the pixels drawn (%(default)s)")
    add("--output", default="results/study_recipe.jsonl", help="JSON lines (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.summary and arguments.part is None:
        parser.error("--part or --summary is needed")
    if arguments.steps < 1 or arguments.longest_side < 1:
        parser.error("--steps and --longest_side must be positive")
    arguments.widths = tuple(arguments.widths)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if not arguments.summary:
        run(arguments)
    parts = [arguments.part] if arguments.part else PARTS
    print("\n".join(tables(read_lines(arguments.output), parts)) or f"no rows of these parts in {arguments.output}")


if __name__ == "__main__":
    run_script(main)
