"""Rate-distortion runs: pictures x codecs x settings -> points, curves in CompressAI's shape, BD-rates, a plot.

Rates are lengths of real files, and distortion is measured on the pixels decoded from them. Every point is appended to
`OUTPUT.rows.jsonl` as soon as it is known, so an interrupted run goes on where it stopped. Encoding and decoding
seconds are wall clock on the stated hardware and contain compilation where a codec compiles.
"""

import argparse
import dataclasses
import difflib
import hashlib
import importlib.util
import io
import json
import math
import re
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dfm import results
from dfm.codec import baselines, coin
from dfm.codec.picture import Picture, central_crop, check_writable, load_picture, write_atomically
from dfm.errors import UserError
from dfm.metrics.picture_quality import PEAK, mse, psnr, ssim

PROTOCOLS = {
    "as-is": "every picture of the folder as it is",
    "kodak": "Kodak pictures, full size",
    "kodak-256": "central 256x256 crops of Kodak pictures",
}
QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # on CompressAI's ladder, which is every fifth
RATES = (0.15, 0.3, 0.6, 1.0)  # bits per pixel, the range in which published picture codecs are compared
COIN_STEPS = 3000  # the paper's 50,000 are hours a picture on a CPU; summaries and plots name the number used
COIN_LEARNING_RATE = 1e-3  # the paper's 2e-4 belongs to 50,000 steps, see coin.py
COIN_BATCH_PIXELS = 8192
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".jp2", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm")
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
PUBLISHED = ("compressai/jpeg", "compressai/webp", "compressai/av1", "compressai/vtm", "c3/COIN", "nif25/nif24_psnr",
             "c3/C3", "cool-chic/v5.0")  # what is drawn of a longer file: anchors, and the best of each class


@dataclasses.dataclass(frozen=True)
class Codec:
    """A codec as a run sees it.

    Attributes:
        name: in results; description: the options in words.
        settings: points of its curve: "q30" a quality, "0.3bpp" a target size, "10x28" layers x width.
        encode: (picture, setting) -> bytes of a file.
        decode: (bytes, channels) -> uint8 [H, W, channels].
        options: everything else that the bytes depend on; rows measured with other options are not taken up again.
    """

    name: str
    description: str
    settings: tuple[str, ...]
    encode: Callable[[Picture, str], bytes]
    decode: Callable[[bytes, int], Picture]
    options: dict = dataclasses.field(default_factory=dict)


def baseline_codec(name: str, qualities: Sequence[int] = QUALITIES) -> Codec:
    """A codec of `baselines.CODECS` at these qualities."""
    baseline = baselines.CODECS[name]
    return Codec(name, baseline.description, tuple(f"q{quality}" for quality in qualities),
                 lambda image, setting: baseline.encode(image, int(setting[1:])), baseline.decode,
                 {baseline.library: baseline.library_version()})


def dfm_codec(settings: Sequence[str], effort: int = 3, seed: int = 0) -> Codec:
    """Our codec at target sizes ("0.3bpp") or qualities ("q60")."""
    import dfm.codec

    def encode(image: Picture, setting: str) -> bytes:
        if setting.startswith("q"):
            return dfm.codec.encode(image, quality=int(setting[1:]), effort=effort, seed=seed)
        return dfm.codec.encode(image, target_bytes=int(target_bytes(image, setting)), effort=effort, seed=seed)

    return Codec("dfm", f"Deep Fourier Machine, effort {effort}", tuple(settings), encode,
                 lambda data, channels: dfm.codec.decode(data), {"effort": effort, "seed": seed})


def coin_codec(settings: Sequence[str], total_steps: int = COIN_STEPS, seed: int = 0,
               learning_rate: float = COIN_LEARNING_RATE, batch_pixels: int | None = COIN_BATCH_PIXELS) -> Codec:
    """The peer: SIREN with float16 weights, at target sizes ("0.3bpp") or layers x width ("10x28")."""

    def encode(image: Picture, setting: str) -> bytes:
        if setting.endswith("bpp"):
            height, picture_width, channels = image.shape
            width, depth = coin.size_for_bytes(height * picture_width, target_bytes(image, setting), channels)
        else:
            depth, width = (int(part) for part in setting.split("x"))
        return coin.encode_coin(image, width, depth, total_steps, learning_rate, seed, batch_pixels=batch_pixels)

    batch = "full batch" if batch_pixels is None else f"{batch_pixels} pixels a step"
    return Codec("coin", f"COIN-style SIREN (own implementation), float16 weights, {total_steps:,} Adam steps "
                 f"at {learning_rate:g} (paper: {coin.PAPER_STEPS:,} at {coin.PAPER_LEARNING_RATE:g}), {batch}",
                 tuple(settings), encode,
                 lambda data, channels: coin.decode_coin(data),
                 {"steps": total_steps, "learning_rate": learning_rate, "batch_pixels": batch_pixels, "seed": seed})


def target_bytes(image: Picture, setting: str) -> float:
    """Bytes that a setting such as "0.3bpp" allows for this picture."""
    return float(setting.removesuffix("bpp")) * image.shape[0] * image.shape[1] / 8


def run(pictures: Sequence[tuple[str, Picture]], codecs: Sequence[Codec], output, *, protocol: str = "as-is",
        anchor: str = "jpeg", seed: int | None = None, command="", report: Callable[[str], None] | None = None) -> dict:
    """Measure every picture with every codec at every setting, write the summary to `output` and return it.

    Args:
        pictures: (name, uint8 [H, W, C]), already cropped as the protocol says.
        codecs: the codecs with their settings.
        output: the summary, JSON, which appears when complete; rows gather in `<output>.rows.jsonl` on the way.
        protocol: name of the protocol; rows of another one are not taken up again.
        anchor: the codec that BD-rates compare with.
        seed, command: recorded.
        report: gets a line for every row, standard error by default.

    Raises:
        UserError: an output cannot be written. A codec's own UserError becomes a row with `error`, and a setting that
            lacks a picture stays out of the averaged curve.
    """
    rows_path = f"{output}.rows.jsonl"
    for path in (output, rows_path):
        check_writable(path)
    report = report or (lambda line: print(line, file=sys.stderr, flush=True))
    known = {_key(row): row for row in results.read_lines(rows_path) if "psnr" in row}  # errors are tried again
    commit, _ = results.code_state()
    plan = [(name, image, _digest(image), codec, setting)
            for name, image in pictures for codec in codecs for setting in codec.settings]
    clock = _Clock([codec.name for *_, codec, _ in plan])
    rows, started = [], time.monotonic()
    for number, (name, image, digest, codec, setting) in enumerate(plan, start=1):
        identity = {"sha256": digest, "codec": codec.name, "setting": setting, "protocol": protocol,
                    "options": codec.options}
        row = known.get(_key(identity))
        if row is None:
            begun = time.monotonic()
            row = {"picture": name, **identity, "commit": commit, **measure(codec, image, setting)}
            results.append_line(rows_path, row)
            row = known[_key(identity)] = results.finite(row)
            clock.count(codec.name, time.monotonic() - begun)
            report(f"[{number}/{len(plan)}] {_in_words(row)}; {clock.left()}")
        else:
            clock.count(codec.name, None)
        rows.append({**row, "picture": name})
    others = sorted({str(row.get("commit")) for row in rows} - {str(commit)})
    if others:
        report(f"note: some rows were measured by other versions of the code ({', '.join(others)}); "
               f"remove {rows_path} to measure them again")
    summary = summarise(rows, codecs, protocol, anchor)
    summary |= {"command": results.portable_command(command), "seed": seed, **results.provenance(),
                "libraries": {codec.library: codec.library_version() for codec in baselines.CODECS.values()},
                "seconds": time.monotonic() - started}
    summary["rows"] = rows
    write_atomically(output, _dump(summary).encode())
    return results.finite(summary)


def measure(codec: Codec, image: Picture, setting: str) -> dict:
    """One point: bytes, bits_per_pixel, psnr (dB), ssim, mse (squared levels), encode_seconds, decode_seconds."""
    height, width, channels = image.shape
    begun = time.perf_counter()
    try:
        data = codec.encode(image, setting)
    except UserError as error:
        return {"error": str(error)}
    encoded = time.perf_counter()
    decoded = codec.decode(data, channels)
    finished = time.perf_counter()
    return {"width": width, "height": height, "bytes": len(data), "bits_per_pixel": 8 * len(data) / (height * width),
            "psnr": psnr(image, decoded), "ssim": ssim(image, decoded), "mse": mse(image, decoded),
            "encode_seconds": round(encoded - begun, 5), "decode_seconds": round(finished - encoded, 5)}


def summarise(rows: Sequence[dict], codecs: Sequence[Codec], protocol: str, anchor: str) -> dict:
    """Averaged curves of all codecs and their BD-rates against the anchor, from rows."""
    pictures = sorted({row["picture"] for row in rows})
    curves = {codec.name: _averaged_curve(codec, rows, len(pictures)) for codec in codecs}
    return {
        "schema": results.SCHEMA, "name": "rate_distortion", "protocol": protocol,
        "description": f"{PROTOCOLS.get(protocol, protocol)}; {len(pictures)} pictures; bytes of complete files; "
                       "psnr-rgb is the mean of the pictures' PSNR, psnr-of-mean-mse the PSNR of their mean squared "
                       "error; seconds contain compilation where a codec compiles",
        "pictures": pictures, "codecs": curves, "bd_rate": _bd_rates(rows, curves, anchor),
    }


def _averaged_curve(codec: Codec, rows: Sequence[dict], picture_count: int) -> dict:
    """CompressAI's shape: {name, description, results: {bpp, psnr-rgb, ...}}, points by increasing rate."""
    groups = defaultdict(list)
    for row in rows:
        if row["codec"] == codec.name and not row.get("error"):
            groups[row["setting"]].append(row)
    points = []
    for setting in codec.settings:
        group = groups[setting]
        if len(group) < picture_count:
            continue

        def mean(field, group=group):
            return float(np.mean([math.inf if row[field] is None else row[field] for row in group]))

        mean_mse = mean("mse")
        points.append({
            "setting": setting, "bpp": mean("bits_per_pixel"), "psnr-rgb": mean("psnr"),
            "psnr-of-mean-mse": 10 * math.log10(PEAK**2 / mean_mse) if mean_mse else math.inf,
            "ssim": mean("ssim"), "encoding_time": mean("encode_seconds"), "decoding_time": mean("decode_seconds"),
        })
    points.sort(key=lambda point: point["bpp"])
    fields = ("setting", "bpp", "psnr-rgb", "psnr-of-mean-mse", "ssim", "encoding_time", "decoding_time")
    curve = {field: [point[field] for point in points] for field in fields}
    missing = [setting for setting in codec.settings if len(groups[setting]) < picture_count]
    return {"name": codec.name, "description": codec.description, "options": codec.options,
            "settings": curve.pop("setting"), "settings_missing_pictures": missing, "results": results.finite(curve)}


def _bd_rates(rows: Sequence[dict], curves: dict, anchor: str) -> dict:
    found: dict = {}
    report = {"anchor": anchor, "codecs": found,
              "method": "PCHIP of log rate over PSNR, mean over the PSNR range that both curves cover; "
                        "points that cost more bits than a better one are left out"}
    points = defaultdict(list)
    for row in rows:
        if not row.get("error"):
            points[row["codec"], row["picture"]].append((row["bits_per_pixel"], row["psnr"]))
    for name, curve in curves.items():
        if anchor not in curves:
            reason = f"no {anchor} in this run"
            found[name] = {"averaged_curve": _no_bd_rate(reason), "per_picture_mean": None}
            continue
        averaged = [list(zip(each["results"]["bpp"], each["results"]["psnr-rgb"], strict=True))
                    for each in (curves[anchor], curve)]
        pictures = sorted({picture for codec, picture in points if codec == name})
        single = {picture: bd_rate(points[anchor, picture], points[name, picture]) for picture in pictures}
        percents = [entry["percent"] for entry in single.values() if entry["percent"] is not None]
        found[name] = {
            "averaged_curve": bd_rate(*averaged),
            "per_picture_mean": {"percent": float(np.mean(percents)) if percents else None, "pictures": len(percents),
                                 "without": [picture for picture in pictures if single[picture]["percent"] is None]},
        }
    return report


def bd_rate(anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> dict:
    """Bjontegaard delta rate of (bits per pixel, PSNR in dB) curves: mean difference in bits at equal PSNR.

    Returns:
        {percent, psnr_range, overlap, reason}: negative percents mean that `test` needs fewer bits; `psnr_range` is the
        range in dB that both cover, `overlap` its share of the range that either covers. Without a common range
        `percent` is None and `reason` says why.
    """
    import bjontegaard

    anchor, test = _front(anchor), _front(test)
    if min(len(anchor), len(test)) < 2:
        return _no_bd_rate("a curve has fewer than two points of increasing PSNR")
    low, high = max(anchor[0][1], test[0][1]), min(anchor[-1][1], test[-1][1])
    if high <= low:
        return _no_bd_rate(f"no common PSNR: {anchor[0][1]:.2f} to {anchor[-1][1]:.2f} dB "
                           f"and {test[0][1]:.2f} to {test[-1][1]:.2f} dB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of small overlaps, which are reported below
        percent = bjontegaard.bd_rate(*zip(*anchor, strict=True), *zip(*test, strict=True), method="pchip",
                                      require_matching_points=False)
    whole = max(anchor[-1][1], test[-1][1]) - min(anchor[0][1], test[0][1])
    return {"percent": float(percent), "psnr_range": [low, high], "overlap": (high - low) / whole, "reason": None}


def _no_bd_rate(reason: str) -> dict:
    return {"percent": None, "psnr_range": None, "overlap": None, "reason": reason}


def _front(points: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    """Points by increasing rate, only those that raise the PSNR: rate must be a function of PSNR. No nulls."""
    usable = [(rate, value) for rate, value in points
              if rate and value is not None and math.isfinite(rate) and math.isfinite(value)]
    front: list[tuple[float, float]] = []
    for rate, value in sorted(usable, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((rate, value))
    return front


def plot(summary: dict, path, published: dict | None = None) -> None:
    """Bits per pixel against PSNR, a line a codec; the picture appears at `path` (.png, .svg, .pdf) when complete.

    `published`: {name: {bpp, psnr or psnr-rgb}}, drawn dashed; of full-size Kodak, hence refused for other protocols.
    """
    from matplotlib.figure import Figure  # seconds to import

    if published and summary["protocol"] != "kodak":
        raise UserError(f"published curves are of full-size Kodak pictures, not of protocol {summary['protocol']}")
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    curves = {name: curve["results"] for name, curve in summary["codecs"].items() if curve["results"]["bpp"]}
    for name, curve in curves.items():
        axes.plot(curve["bpp"], _numbers(curve["psnr-rgb"]), marker="o", markersize=3,
                  label=_label(name, summary["codecs"][name]["options"]))
    drawn = [(curve["bpp"], _numbers(curve["psnr-rgb"])) for curve in curves.values()]
    published = published or {}
    for name in [name for name in PUBLISHED if name in published] or published:
        curve = published[name]
        drawn.append((curve["bpp"], curve.get("psnr-rgb") or curve["psnr"]))
        axes.plot(*drawn[-1], linestyle="--", linewidth=1, label=f"{name} (published, full-size Kodak)")
    if drawn:
        _set_limits(axes, drawn, [max(curve["bpp"]) for curve in curves.values()])
    axes.set(xlabel="rate: bits per pixel of the whole file", ylabel="mean PSNR (dB)",
             title=f"{summary['protocol']}, {len(summary['pictures'])} pictures")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format=Path(path).suffix[1:].lower(), dpi=120)
    write_atomically(path, stream.getvalue())


def _label(name: str, options: dict) -> str:
    """A fitted net's curve means nothing without how long it was fitted."""
    if "steps" in options:
        return f"{name}, {options['steps']:,} steps"
    return f"{name}, effort {options['effort']}" if "effort" in options else name


def _set_limits(axes, drawn, largest_rates) -> None:
    """Both axes end a little above the curve that ends first: JPEG at 6 bits per pixel would squeeze all the rest."""
    limit = max(1.0, 1.25 * min(largest_rates, default=1.0))
    visible = [value for rates, values in drawn for rate, value in zip(rates, values, strict=True)
               if rate <= limit and math.isfinite(value)]
    axes.set_xlim(0, limit)
    if visible:
        axes.set_ylim(min(visible) - 0.5, max(visible) + 0.5)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `bench`."""
    parser.add_argument("folder", metavar="FOLDER", help="folder of pictures")
    parser.add_argument("--codecs", default="dfm,jpeg,webp,avif", help=f"comma-separated: {', '.join(known_codecs())}")
    parser.add_argument("--output", required=True, metavar="RESULTS.json",
                        help="summary; RESULTS.json.rows.jsonl beside it gathers the points and makes runs resumable")
    parser.add_argument("--plot", metavar="CURVES.png", help="plot of the curves (.png, .svg or .pdf)")
    parser.add_argument("--protocol", default="as-is", choices=PROTOCOLS,
                        help="; ".join(f"{name}: {text}" for name, text in PROTOCOLS.items()))
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="bits per pixel for dfm and coin")
    parser.add_argument("--effort", type=int, default=3, help="effort of dfm, 1 to 9")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", metavar="NAME,NAME", help="only these of the folder")
    parser.add_argument("--published", metavar="CURVES.json", help="also plot these published curves (protocol kodak)")
    parser.add_argument("--coin-steps", type=int, default=COIN_STEPS,
                        help=f"Adam steps of coin (default {COIN_STEPS:,}; the paper took {coin.PAPER_STEPS:,})")
    parser.add_argument("--json", action="store_true", help="print the summary without its rows as one JSON object")


def run_from_args(args: argparse.Namespace, command=None) -> int:
    """Run `bench`; everything a user can have got wrong is found before the first picture is encoded."""
    published = _check_outputs(args)
    codecs = make_codecs(_words(args.codecs), _parse_rates(args.rates), args.effort, args.seed, args.coin_steps)
    pictures = load_pictures(args.folder, args.protocol, _words(args.pictures) if args.pictures else None)
    summary = run(pictures, codecs, args.output, protocol=args.protocol, seed=args.seed,
                  command=sys.argv if command is None else command)
    if args.plot:
        plot(summary, args.plot, published)
    if args.json:
        print(results.dump({key: value for key, value in summary.items() if key != "rows"}))
    else:
        print(table(summary))
    return 0


def known_codecs() -> list[str]:
    """Names that `--codecs` takes."""
    return ["dfm", *baselines.CODECS, "coin"]


def make_codecs(names: Sequence[str], rates: Sequence[float], effort: int, seed: int, coin_steps: int) -> list[Codec]:
    """Codecs by name, dfm and coin at these rates in bits per pixel."""
    if not names:
        raise UserError(f"no codec given; known: {', '.join(known_codecs())}")
    if coin_steps < 1:
        raise UserError(f"--coin-steps must be positive, not {coin_steps}")
    settings = [f"{rate:g}bpp" for rate in rates]
    names = [_known(name, known_codecs(), "codec") for name in dict.fromkeys(names)]
    makers = {"dfm": lambda: dfm_codec(settings, effort, seed), "coin": lambda: coin_codec(settings, coin_steps, seed)}
    return [makers[name]() if name in makers else baseline_codec(name) for name in names]


def load_pictures(folder, protocol: str, names: Sequence[str] | None = None) -> list[tuple[str, Picture]]:
    """(name, picture) of a folder, sorted by name and cropped as the protocol says."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
    stems = [path.stem for path in paths]
    by_name = {path.stem if stems.count(path.stem) == 1 else path.name: path for path in paths}
    if names is not None:
        by_name = {name: by_name[_known(name, list(by_name), "picture")] for name in names}
    pictures = [(name, load_picture(path)) for name, path in by_name.items()]
    if protocol == "as-is":
        return pictures
    for name, image in pictures:
        if not re.fullmatch(r"kodim(0[1-9]|1\d|2[0-4])", name) or sorted(image.shape) != [3, 512, 768]:
            raise UserError(f"{by_name[name]}: not one of the 24 Kodak pictures (kodim01 ... kodim24, 768x512), "
                            f"which protocol {protocol} is about; use --protocol as-is")
    return pictures if protocol == "kodak" else [(name, central_crop(image, 256)) for name, image in pictures]


def table(summary: dict) -> str:
    """The averaged curves and BD-rates as text."""
    lines = [f"{summary['protocol']}, {len(summary['pictures'])} pictures",
             "codec     setting    bits/pixel  PSNR dB  (of mean MSE)    SSIM   encode s   decode s"]
    for name, curve in summary["codecs"].items():
        for setting, *values in zip(curve["settings"], *curve["results"].values(), strict=True):
            rate, mean, of_mean, similarity, encode, decode = _numbers(values)
            lines.append(f"{name:9} {setting:10} {rate:10.4f} {mean:8.2f} {of_mean:14.2f} {similarity:7.4f} "
                         f"{encode:10.3f} {decode:10.3f}")
    for name, entry in summary["bd_rate"]["codecs"].items():
        averaged, single = entry["averaged_curve"], entry["per_picture_mean"] or {}
        if averaged["percent"] is None:
            lines.append(f"BD-rate of {name}: none, {averaged['reason']}")
        else:
            low, high = averaged["psnr_range"]
            of_pictures = ""
            if single.get("percent") is not None:
                of_pictures = f"; mean of {single['pictures']} pictures {single['percent']:+.1f} %"
            lines.append(f"BD-rate of {name} against {summary['bd_rate']['anchor']}: {averaged['percent']:+.1f} % "
                         f"({low:.1f} to {high:.1f} dB{of_pictures})")
    return "\n".join(lines)


def _check_outputs(args: argparse.Namespace) -> dict | None:
    """The published curves asked for; UserError where an output or a package is missing for what was asked."""
    if args.output == "-":
        raise UserError("bench keeps its rows beside the summary: --output must be a file")
    check_writable(args.output)
    if args.published and not args.plot:
        raise UserError("--published is for the plot: give --plot too")
    if args.plot:
        check_writable(args.plot)
        if Path(args.plot).suffix.lower() not in PLOT_SUFFIXES:
            raise UserError(f"{args.plot}: plots are written as {', '.join(PLOT_SUFFIXES)}")
    for package, needed in (("bjontegaard", True), ("matplotlib", bool(args.plot))):
        if needed and importlib.util.find_spec(package) is None:
            raise UserError(f"bench needs the package {package}: pip install '.[bench]'")
    if not args.published:
        return None
    if args.protocol != "kodak":
        raise UserError(f"published curves are of full-size Kodak pictures: use --protocol kodak, not {args.protocol}")
    try:
        published = json.loads(Path(args.published).read_text())
        usable = {name: curve for name, curve in published.items() if len(curve["bpp"]) == len(
            curve.get("psnr-rgb") or curve["psnr"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{args.published}: not a file of curves, name -> bpp and psnr ({error})") from None
    return usable


def _known(name: str, known: list[str], what: str) -> str:
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    raise UserError(f"unknown {what} {name!r}; known: {', '.join(known)}; nearest: {nearest[0]}")


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


def _digest(image: Picture) -> str:
    header = f"{image.dtype} {image.shape} ".encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


def _key(row: dict) -> str:
    fields = [row.get(field) for field in ("sha256", "codec", "setting", "protocol", "options")]
    return results.dump([*fields[:4], sorted((fields[4] or {}).items())])


def _dump(summary: dict) -> str:
    """JSON text, indented but with a row a line: two thousand rows stay readable and the file small."""
    head = results.dump({**summary, "rows": []}, indent=1)
    rows = ",\n  ".join(results.dump(row) for row in summary["rows"])
    return head[: head.rindex("[]")] + f"[\n  {rows}\n ]\n}}\n"


def _in_words(row: dict) -> str:
    place = f"{row['picture']} {row['codec']} {row['setting']}"
    if row.get("error"):
        return f"{place}: {row['error']}"
    quality, similarity = _numbers([row["psnr"], row["ssim"]])
    return (f"{place}: {row['bytes']:,} bytes, {row['bits_per_pixel']:.4f} bits/pixel, {quality:.2f} dB, "
            f"SSIM {similarity:.4f}, encode {row['encode_seconds']:.2f} s, decode {row['decode_seconds']:.2f} s")


class _Clock:
    """Time left, from what each codec's rows took so far: a fitted net takes ten thousand times as long as a JPEG."""

    def __init__(self, codecs: Sequence[str]):
        self.left_rows = {name: list(codecs).count(name) for name in codecs}
        self.taken: dict[str, list[float]] = defaultdict(list)

    def count(self, codec: str, seconds: float | None) -> None:
        """A row is done; `seconds` is None when it was there already."""
        self.left_rows[codec] -= 1
        if seconds is not None:
            self.taken[codec].append(seconds)

    def left(self) -> str:
        seconds = int(sum(self.left_rows[name] * float(np.mean(taken)) for name, taken in self.taken.items()))
        unknown = any(rows and name not in self.taken for name, rows in self.left_rows.items())
        return f"{'more than' if unknown else 'about'} {seconds // 60} min {seconds % 60:02} s left"
