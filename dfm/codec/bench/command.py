"""`dfm bench`: the function `bench`, its arguments on the command line, and the table that it prints."""

import argparse
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dfm import registry, results
from dfm.codec.bench.codecs import COIN_STEPS, DFM_CODECS, known_codecs, make_codecs
from dfm.codec.bench.plot import numbers, plot
from dfm.codec.bench.rate_distortion import KODAK_8, PROTOCOLS, run
from dfm.command_line import Parser
from dfm.errors import UserError
from dfm.files import check_writable, refuse_same_file
from dfm.picture_files import PICTURE_SUFFIXES, Picture, central_crop, load_picture

RATES = (0.15, 0.3, 0.6, 1.0)  # bits per pixel, the range in which published picture codecs are compared
CODECS = ("dfm-latents", "dfm-weights", "jpeg", "webp", "avif")
PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def add_arguments(parser: Parser) -> None:
    """The arguments of `bench`."""
    parser.add_argument("folder", metavar="FOLDER", help="folder of pictures")
    parser.add_argument("--codecs", default=",".join(CODECS), help=f"comma-separated: {', '.join(known_codecs())}")
    parser.add_argument(
        "--output",
        required=True,
        metavar="RESULTS.json",
        help="summary; RESULTS.json.rows.jsonl beside it gathers the points and makes runs resumable",
    )
    parser.add_argument("--plot", metavar="CURVES.png", help="plot of the curves (.png, .svg or .pdf)")
    parser.add_argument(
        "--protocol",
        default="as-is",
        choices=PROTOCOLS,
        help="; ".join(f"{name}: {text}" for name, text in PROTOCOLS.items()),
    )
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="bits per pixel for dfm-weights and coin")
    parser.add_argument("--effort", type=int, default=3, help="effort of our codecs, 1 to 9")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", metavar="NAME,NAME", help="only these of the folder")
    parser.add_argument("--published", metavar="CURVES.json", help="also plot these published curves (protocol kodak)")
    parser.add_argument(
        "--coin-steps",
        type=int,
        default=COIN_STEPS,
        help=f"Adam steps of coin (default {COIN_STEPS:,}; the paper took {50_000:,})",
    )
    parser.add_argument("--json", action="store_true", help="print the summary without its rows as one JSON object")
    parser.meanings = {
        "effort": ("--codecs with dfm-latents or dfm-weights", lambda args: set(DFM_CODECS) & set(_words(args.codecs))),
        "rates": ("--codecs with dfm-weights or coin", lambda args: {"dfm-weights", "coin"} & set(_words(args.codecs))),
        "seed": (
            "--codecs with dfm-latents, dfm-weights or coin",
            lambda args: {*DFM_CODECS, "coin"} & set(_words(args.codecs)),
        ),
        "coin_steps": ("--codecs with coin", lambda args: "coin" in _words(args.codecs)),
        "published": ("the plot: give --plot too", lambda args: args.plot),
    }


def run_from_args(args: argparse.Namespace, command: Sequence[str] | None = None) -> int:
    """`bench` of the command line's words; prints the table, or JSON."""
    summary = bench(
        args.folder,
        args.output,
        codecs=_words(args.codecs),
        rates=_parse_rates(args.rates),
        effort=args.effort,
        seed=args.seed,
        coin_steps=args.coin_steps,
        protocol=args.protocol,
        pictures=_words(args.pictures) if args.pictures else None,
        plot_file=args.plot,
        published=args.published,
        command=sys.argv if command is None else command,
    )
    if args.json:
        print(results.dump({key: value for key, value in summary.items() if key != "rows"}))
    else:
        print(table(summary))
    return 0


def bench(
    folder: str | Path,
    output: str | Path,
    *,
    codecs: Sequence[str] = CODECS,
    rates: Sequence[float] = RATES,
    effort: int = 3,
    seed: int = 0,
    coin_steps: int = COIN_STEPS,
    protocol: str = "as-is",
    pictures: Sequence[str] | None = None,
    plot_file: str | Path | None = None,
    published: str | Path | None = None,
    command: Sequence[str] = (),
    report: Callable[[str], None] | None = None,
) -> dict:
    """Rate-distortion curves and BD-rates of codecs on a folder's pictures: the summary, also written to `output`.

    What a user can have got wrong is found before the first picture is encoded.

    Args:
        folder: of the pictures; names of some of them in `pictures`, or all.
        output: JSON; `<output>.rows.jsonl` gathers the points, and a run that was stopped goes on from there.
        codecs: names, see `known_codecs`.
        rates: bits per pixel for our codecs and coin.
        effort, seed: of our codecs; coin_steps: of coin.
        protocol: one of PROTOCOLS.
        plot_file: of the curves, and of the `published` ones, a JSON file.
        command: recorded; report: as of `rate_distortion.run`.

    Raises:
        UserError: what cannot be.
    """
    _check_outputs(output, plot_file)
    curves = _read_published(published, protocol) if published else None
    if os.path.isdir(folder):
        for file in (output, plot_file):
            if file:
                refuse_same_file(file, _picture_paths(Path(folder)))
    made = make_codecs(codecs, rates, effort, seed, coin_steps)
    loaded = load_pictures(folder, protocol, pictures)
    summary = run(loaded, made, output, protocol=protocol, seed=seed, command=command, report=report)
    if plot_file:
        plot(summary, plot_file, curves)
    return summary


def load_pictures(folder, protocol: str, names: Sequence[str] | None = None) -> list[tuple[str, Picture]]:
    """(name, picture) of a folder, sorted by name and cropped as the protocol says."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    paths = _picture_paths(folder)
    if not paths:
        raise UserError(f"{folder}: holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    stems = [path.stem for path in paths]
    by_name = {path.stem if stems.count(path.stem) == 1 else path.name: path for path in paths}
    if names is None and protocol == "kodak-8":
        names = KODAK_8
    if names is not None:
        by_name = {name: registry.find("picture", name, by_name) for name in names}
    pictures = [(name, load_picture(path)) for name, path in by_name.items()]
    if protocol == "as-is":
        return pictures
    for name, image in pictures:
        if not re.fullmatch(r"kodim(0[1-9]|1\d|2[0-4])", name) or sorted(image.shape) != [3, 512, 768]:
            raise UserError(
                f"{by_name[name]}: not one of the 24 Kodak pictures (kodim01 ... kodim24, 768x512), "
                f"which protocol {protocol} is about; protocol as-is takes any"
            )
    if protocol != "kodak-256":
        return pictures
    return [(name, central_crop(image, 256)) for name, image in pictures]


def _picture_paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)


def table(summary: dict) -> str:
    """The averaged curves and BD-rates as text."""
    lines = [
        f"{summary['protocol']}, {len(summary['pictures'])} pictures; seconds without compilation, and of compilation",
        "codec     setting    bits/pixel  PSNR dB  (of mean MSE)    SSIM   encode s  (compile)   decode s  (compile)",
    ]
    for name, curve in summary["codecs"].items():
        for setting, *values in zip(curve["settings"], *curve["results"].values(), strict=True):
            rate, mean, of_mean, similarity, encode, encode_compile, decode, decode_compile = numbers(values)
            lines.append(
                f"{name:9} {setting:10} {rate:10.4f} {mean:8.2f} {of_mean:14.2f} {similarity:7.4f} "
                f"{encode - encode_compile:10.3f} {encode_compile:10.3f} {decode - decode_compile:10.3f} "
                f"{decode_compile:10.3f}"
            )
    for name, entry in summary["bd_rate"]["codecs"].items():
        averaged, single = entry["averaged_curve"], entry["per_picture_mean"] or {}
        if averaged["percent"] is None:
            lines.append(f"BD-rate of {name}: none, {averaged['reason']}")
        else:
            low, high = averaged["psnr_range"]
            of_pictures = ""
            if single.get("percent") is not None:
                of_pictures = f"; mean of {single['pictures']} pictures {single['percent']:+.1f} %"
            lines.append(
                f"BD-rate of {name} against {summary['bd_rate']['anchor']}: {averaged['percent']:+.1f} % "
                f"({low:.1f} to {high:.1f} dB{of_pictures})"
            )
    return "\n".join(lines)


def _check_outputs(output: str | Path, plot_file: str | Path | None) -> None:
    """UserError where an output or a package is missing for what was asked."""
    if str(output) == "-":
        raise UserError("bench keeps its rows beside the summary: its output must be a file")
    check_writable(output)
    if plot_file:
        check_writable(plot_file)
        if Path(plot_file).suffix.lower() not in PLOT_SUFFIXES:
            raise UserError(f"{plot_file}: plots are written as {', '.join(PLOT_SUFFIXES)}")
    for package, needed in (("bjontegaard", True), ("matplotlib", bool(plot_file))):
        if needed and importlib.util.find_spec(package) is None:
            raise UserError(f"bench needs the package {package}: pip install '.[bench]'")


def _read_published(path: str | Path, protocol: str) -> dict:
    """Name -> curve of a file of published curves."""
    if protocol != "kodak":
        raise UserError(f"published curves are of full-size Kodak pictures, protocol kodak, not {protocol}")
    try:
        published = json.loads(Path(path).read_text())
        return {
            name: curve
            for name, curve in published.items()
            if len(curve["bpp"]) == len(curve.get("psnr-rgb") or curve["psnr"])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a file of curves, name -> bpp and psnr ({error})") from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parse_rates(text: str) -> list[float]:
    try:
        rates = [float(word) for word in _words(text)]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < 1000 for rate in rates):
        raise UserError(f"--rates must be bits per pixel such as 0.15,0.3, not {text!r}")
    return rates
