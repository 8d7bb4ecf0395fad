"""Rate-distortion runs: pictures x codecs x settings -> points, curves in CompressAI's shape, BD-rates, a plot.

Rates are lengths of real files, and distortion is measured on the pixels decoded from them. Every point is appended to
`OUTPUT.rows.jsonl` as soon as it is known, so an interrupted run goes on where it stopped. Encoding and decoding
seconds are wall clock on the stated hardware, cold: the seconds of compilation in them stand beside them, and without
those they are warm.
"""

import hashlib
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from dfm import results
from dfm.codec.bench import baselines
from dfm.codec.bench.codecs import Codec
from dfm.codec.bench.compilation import compilation_seconds
from dfm.codec.bench.plot import numbers
from dfm.command_line import say
from dfm.errors import UserError
from dfm.files import check_writable, write_atomically
from dfm.metrics.picture_quality import decibels, mse, psnr, ssim
from dfm.picture_files import Picture

CURVE_FIELDS = (
    *("setting", "bpp", "psnr-rgb", "psnr-of-mean-mse", "ssim"),
    *("encoding_time", "encoding_compile_time", "decoding_time", "decoding_compile_time"),
)
KODAK_8 = ("kodim01", "kodim03", "kodim05", "kodim07", "kodim13", "kodim15", "kodim20", "kodim23")
PROTOCOLS = {
    "as-is": "every picture of the folder as it is",
    "kodak": "Kodak pictures, full size",
    "kodak-8": f"eight Kodak pictures, full size: {', '.join(KODAK_8)}",
    "kodak-256": "central 256x256 crops of Kodak pictures",
}


def run(
    pictures: Sequence[tuple[str, Picture]],
    codecs: Sequence[Codec],
    output,
    *,
    protocol: str = "as-is",
    anchor: str = "jpeg",
    seed: int | None = None,
    command="",
    report: Callable[[str], None] | None = None,
) -> dict:
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
    report = report or say
    known = {row_key(row): row for row in results.read_lines(rows_path) if "psnr" in row}  # errors are tried again
    commit, _ = results.code_state()
    plan = [
        (name, image, picture_digest(image), codec, setting)
        for name, image in pictures
        for codec in codecs
        for setting in codec.settings
    ]
    clock = _Clock([codec.name for *_, codec, _ in plan])
    rows, started = [], time.monotonic()
    for number, (name, image, digest, codec, setting) in enumerate(plan, start=1):
        identity = row_identity(digest, codec, setting, protocol)
        row = known.get(row_key(identity))
        if row is None:
            begun = time.monotonic()
            row = {"picture": name, **identity, "commit": commit, **measure(codec, image, setting)}
            results.append_line(rows_path, row)
            row = known[row_key(identity)] = results.finite(row)
            clock.count(codec.name, time.monotonic() - begun)
            report(f"[{number}/{len(plan)}] {_in_words(row)}; {clock.left()}")
        else:
            clock.count(codec.name, None)
        rows.append({**row, "picture": name})
    others = sorted({str(row.get("commit")) for row in rows} - {str(commit)})
    if others:
        report(
            f"note: some rows were measured by other versions of the code ({', '.join(others)}); "
            f"remove {rows_path} to measure them again"
        )
    summary = summarise(rows, codecs, protocol, anchor)
    summary |= {
        "command": results.portable_command(command),
        "seed": seed,
        **results.provenance(),
        "libraries": {codec.library: codec.library_version() for codec in baselines.CODECS.values()},
        "seconds": time.monotonic() - started,
    }
    summary["rows"] = rows
    write_atomically(output, _dump(summary).encode())
    return results.finite(summary)


def measure(codec: Codec, image: Picture, setting: str) -> dict:
    """One point: bytes, bits_per_pixel, psnr (dB), ssim, mse (squared levels); encode_seconds and decode_seconds, and
    how much of each was compilation."""
    height, width, channels = image.shape
    try:
        with compilation_seconds() as encode_compilation:
            begun = time.perf_counter()
            data = codec.encode(image, setting)
            encoded = time.perf_counter()
    except UserError as error:
        return {"error": str(error)}
    with compilation_seconds() as decode_compilation:
        decoding = time.perf_counter()
        decoded = codec.decode(data, channels)
        finished = time.perf_counter()
    return {
        "width": width,
        "height": height,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (height * width),
        "psnr": psnr(image, decoded),
        "ssim": ssim(image, decoded),
        "mse": mse(image, decoded),
        "encode_seconds": round(encoded - begun, 5),
        "encode_compile_seconds": round(encode_compilation.total, 5),
        "decode_seconds": round(finished - decoding, 5),
        "decode_compile_seconds": round(decode_compilation.total, 5),
    }


def summarise(rows: Sequence[dict], codecs: Sequence[Codec], protocol: str, anchor: str) -> dict:
    """Averaged curves of all codecs and their BD-rates against the anchor, from rows."""
    pictures = sorted({row["picture"] for row in rows})
    curves = {codec.name: _averaged_curve(codec, rows, len(pictures)) for codec in codecs}
    return {
        "schema": results.SCHEMA,
        "name": "rate_distortion",
        "protocol": protocol,
        "description": f"{PROTOCOLS.get(protocol, protocol)}; {len(pictures)} pictures; bytes of complete files; "
        "psnr-rgb is the mean of the pictures' PSNR, psnr-of-mean-mse the PSNR of their mean squared "
        "error; seconds contain compilation where a codec compiles, which is stated beside them",
        "pictures": pictures,
        "codecs": curves,
        "bd_rate": _bd_rates(rows, curves, anchor),
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
            return float(np.mean([math.inf if row.get(field) is None else row[field] for row in group]))

        mean_mse = mean("mse")
        points.append(
            {
                "setting": setting,
                "bpp": mean("bits_per_pixel"),
                "psnr-rgb": mean("psnr"),
                "psnr-of-mean-mse": decibels(mean_mse),
                "ssim": mean("ssim"),
                "encoding_time": mean("encode_seconds"),
                "decoding_time": mean("decode_seconds"),
                "encoding_compile_time": mean("encode_compile_seconds"),
                "decoding_compile_time": mean("decode_compile_seconds"),
            }
        )
    points.sort(key=lambda point: point["bpp"])
    curve = {field: [point[field] for point in points] for field in CURVE_FIELDS}
    missing = [setting for setting in codec.settings if len(groups[setting]) < picture_count]
    return {
        "name": codec.name,
        "description": codec.description,
        "options": codec.options,
        "settings": curve.pop("setting"),
        "settings_missing_pictures": missing,
        "results": results.finite(curve),
    }


def _bd_rates(rows: Sequence[dict], curves: dict, anchor: str) -> dict:
    found: dict = {}
    report = {
        "anchor": anchor,
        "codecs": found,
        "method": "PCHIP of log rate over PSNR, mean over the PSNR range that both curves cover; "
        "points that cost more bits than a better one are left out",
    }
    points = defaultdict(list)
    for row in rows:
        if not row.get("error"):
            points[row["codec"], row["picture"]].append((row["bits_per_pixel"], row["psnr"]))
    for name, curve in curves.items():
        if anchor not in curves:
            reason = f"no {anchor} in this run"
            found[name] = {"averaged_curve": _no_bd_rate(reason), "per_picture_mean": None}
            continue
        averaged = [
            list(zip(each["results"]["bpp"], each["results"]["psnr-rgb"], strict=True))
            for each in (curves[anchor], curve)
        ]
        pictures = sorted({picture for codec, picture in points if codec == name})
        single = {picture: bd_rate(points[anchor, picture], points[name, picture]) for picture in pictures}
        percents = [entry["percent"] for entry in single.values() if entry["percent"] is not None]
        found[name] = {
            "averaged_curve": bd_rate(*averaged),
            "per_picture_mean": {
                "percent": float(np.mean(percents)) if percents else None,
                "pictures": len(percents),
                "without": [picture for picture in pictures if single[picture]["percent"] is None],
            },
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
        return _no_bd_rate(
            f"no common PSNR: {anchor[0][1]:.2f} to {anchor[-1][1]:.2f} dB and {test[0][1]:.2f} to {test[-1][1]:.2f} dB"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of small overlaps, which are reported below
        percent = bjontegaard.bd_rate(
            *zip(*anchor, strict=True), *zip(*test, strict=True), method="pchip", require_matching_points=False
        )
    whole = max(anchor[-1][1], test[-1][1]) - min(anchor[0][1], test[0][1])
    return {"percent": float(percent), "psnr_range": [low, high], "overlap": (high - low) / whole, "reason": None}


def _no_bd_rate(reason: str) -> dict:
    return {"percent": None, "psnr_range": None, "overlap": None, "reason": reason}


def _front(points: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    """Points by increasing rate, only those that raise the PSNR: rate must be a function of PSNR. No nulls."""
    usable = [
        (rate, value)
        for rate, value in points
        if rate and value is not None and math.isfinite(rate) and math.isfinite(value)
    ]
    front: list[tuple[float, float]] = []
    for rate, value in sorted(usable, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((rate, value))
    return front


def row_identity(digest: str, codec: Codec, setting: str, protocol: str) -> dict:
    """What a row is of: one with an equal identity is not measured again."""
    return {"sha256": digest, "codec": codec.name, "setting": setting, "protocol": protocol, "options": codec.options}


def picture_digest(image: Picture) -> str:
    """Of shape and pixels, 16 hexadecimal digits."""
    header = f"{image.dtype} {image.shape} ".encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


def row_key(row: dict) -> str:
    """The identity of a row as text."""
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
    quality, similarity = numbers([row["psnr"], row["ssim"]])
    return (
        f"{place}: {row['bytes']:,} bytes, {row['bits_per_pixel']:.4f} bits/pixel, {quality:.2f} dB, "
        f"SSIM {similarity:.4f}, encode {row['encode_seconds']:.2f} s ({row['encode_compile_seconds']:.2f} s of it "
        f"compiling), decode {row['decode_seconds']:.2f} s ({row['decode_compile_seconds']:.2f} s)"
    )


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
