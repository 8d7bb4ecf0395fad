"""The picture codec beside others: rates, distortions, BD-rates, and the published curves of its class."""

import io
import json
from statistics import median

import numpy as np
from PIL import Image

from dfm.codec.bench.rate_distortion import bd_rate
from tables.lines import RESULTS, Row, table

FOLDER = RESULTS / "rate_distortion"


def summary(name: str = "kodak-256/bench") -> Row:
    """results/rate_distortion/NAME.json, which `dfm bench` wrote."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def points_of(name: str, codecs: tuple[str, ...] = ("dfm-latents", "dfm-weights")) -> list[list[str]]:
    body = []
    for codec, curve in summary(name)["codecs"].items():
        if codec not in codecs:
            continue
        result = curve["results"]
        columns = ("bpp", "psnr-rgb", "psnr-of-mean-mse")
        for setting, *values in zip(curve["settings"], *(result[column] for column in columns), strict=True):
            rate, psnr, of_mean = values
            effort = curve["options"].get("effort")
            what = codec if effort is None else f"{codec}, effort {effort}"
            body.append([what, setting, f"{rate:.3f}", f"{psnr:.2f} dB", f"{of_mean:.2f} dB"])
    return body


POINTS_HEAD = ["codec", "setting", "bits a pixel", "PSNR, mean of pictures", "PSNR of the mean squared error"]


def rate_distortion_points() -> str:
    return table(POINTS_HEAD, [row for name in SUMMARIES["kodak-256"] for row in points_of(name)])


def full_size_points() -> str:
    return table(POINTS_HEAD, [row for name in SUMMARIES["kodak-8"] for row in points_of(name)])


def coin_points() -> str:
    """COIN beside both profiles, of the eight pictures that it was fitted to."""
    return table(POINTS_HEAD, points_of("kodak-256/coin", ("coin", "dfm-weights", "dfm-latents")))


SUMMARIES = {
    protocol: tuple(name for name in names if (FOLDER / f"{name}.json").exists())
    for protocol, names in {
        "kodak-256": ("kodak-256/effort_1", "kodak-256/bench", "kodak-256/effort_5"),
        "kodak-8": ("kodak-8/bench",),
    }.items()
}


ANCHORS = ("jpeg", "webp", "avif")


def against(name: str) -> list[Row]:
    """BD-rates of the latents profile's averaged curve, with each of ANCHORS as the anchor."""
    curves = {
        codec: list(zip(curve["results"]["bpp"], curve["results"]["psnr-rgb"], strict=True))
        for codec, curve in summary(name)["codecs"].items()
    }
    return [bd_rate(curves[anchor], curves["dfm-latents"]) for anchor in ANCHORS]


def latents_against() -> str:
    """The latents profile with each other codec as the anchor."""
    body = []
    for protocol, names in SUMMARIES.items():
        for name in names:
            found = summary(name)
            if "dfm-latents" not in found["codecs"]:
                continue
            cells = []
            for rate in against(name):
                low, high = rate["psnr_range"]
                cells.append(f"{rate['percent']:+.1f} % ({low:.1f} to {high:.1f} dB)")
            effort = found["codecs"]["dfm-latents"]["options"]["effort"]
            body.append([protocol, str(len(found["pictures"])), str(effort), *cells])
    return table(["protocol", "pictures", "effort", "against JPEG", "against WebP", "against AVIF"], body)


def jpeg_header() -> str:
    """What of each BD-rate against JPEG is due to the tables and markers in front of its data."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG", quality=50)
    scan = stream.getvalue().index(b"\xff\xda")  # its own length counts all of it but the marker
    header = scan + 2 + int.from_bytes(stream.getvalue()[scan + 2 : scan + 4], "big") + 2  # and the end's marker
    body = []
    for protocol, names in SUMMARIES.items():
        for name in names:
            found = summary(name)
            curves, pixels = found["codecs"], found["rows"][0]["width"] * found["rows"][0]["height"]
            ours, jpeg = (
                list(zip(curves[codec]["results"]["bpp"], curves[codec]["results"]["psnr-rgb"], strict=True))
                for codec in ("dfm-latents", "jpeg")
            )
            bare = [(rate - 8 * header / pixels, psnr) for rate, psnr in jpeg]
            rates = [f"{bd_rate(anchor, ours)['percent']:+.1f} %" for anchor in (jpeg, bare)]
            body.append([protocol, str(curves["dfm-latents"]["options"]["effort"]), *rates])
    return table(["protocol", "effort", "against JPEG files", f"without their {header} bytes of header"], body)


def at_equal_psnr() -> str:
    """Every point of the latents profile's averaged curves beside the bits that others take for its PSNR."""
    body = []
    for protocol, names in SUMMARIES.items():
        for name in names:
            curves = summary(name)["codecs"]
            ours = curves["dfm-latents"]
            for setting, rate, psnr in zip(
                ours["settings"], ours["results"]["bpp"], ours["results"]["psnr-rgb"], strict=True
            ):
                cells = []
                for anchor in ANCHORS:
                    theirs = _rate_at(curves[anchor]["results"], psnr)
                    cells.append("" if theirs is None else f"{theirs:.3f} ({100 * (rate / theirs - 1):+.0f} %)")
                effort = str(ours["options"]["effort"])
                body.append([protocol, effort, setting, f"{psnr:.2f} dB", f"{rate:.3f}", *cells])
    return table(["protocol", "effort", "setting", "PSNR", "latents", "JPEG", "WebP", "AVIF"], body)


def _rate_at(results: Row, psnr: float) -> float | None:
    """Bits a pixel of an averaged curve at a PSNR, between points log-linearly; None outside of it."""
    if not results["psnr-rgb"][0] <= psnr <= results["psnr-rgb"][-1]:
        return None
    return float(np.exp(np.interp(psnr, results["psnr-rgb"], np.log(results["bpp"]))))


def codec_seconds() -> str:
    """Medians of the rows' seconds, a picture, without compilation."""
    body = []
    for protocol, names in SUMMARIES.items():
        told = set()
        for name in names:
            found = summary(name)
            for codec, curve in found["codecs"].items():
                lines = [row for row in found["rows"] if row["codec"] == codec and row["options"] == curve["options"]]
                key = (codec, curve["options"].get("effort"))
                if key in told or not lines:
                    continue
                told.add(key)
                seconds = [
                    median(row[f"{part}_seconds"] - row[f"{part}_compile_seconds"] for row in lines)
                    for part in ("encode", "decode")
                ]
                body.append(
                    [
                        protocol,
                        curve["description"],
                        *(f"{each:.0f} s" if each >= 10 else f"{each:.2g} s" for each in seconds),
                    ]
                )
    return table(["protocol", "codec", "encode", "decode"], body)


def bd_rates_of(protocol: str) -> str:
    head = ["codec", "averaged curve", "between", "mean of the pictures' BD-rates", "pictures"]
    body: list[list[str]] = []
    for name in SUMMARIES[protocol]:
        found = summary(name)
        for codec, entry in found["bd_rate"]["codecs"].items():
            if codec == found["bd_rate"]["anchor"]:
                continue
            if any(row[0] == found["codecs"][codec]["description"] for row in body):
                continue  # it stands beside each effort of ours
            averaged, single = entry["averaged_curve"], entry["per_picture_mean"]
            low, high = averaged["psnr_range"]
            body.append(
                [
                    found["codecs"][codec]["description"],
                    f"{averaged['percent']:+.1f} %",
                    f"{low:.1f} and {high:.1f} dB",
                    f"{single['percent']:+.1f} %",
                    str(single["pictures"]),
                ]
            )
    return table(head, body)


def bd_rates() -> str:
    return bd_rates_of("kodak-256")


def full_size_bd_rates() -> str:
    return bd_rates_of("kodak-8")


def picture_bd_rates_of(name: str) -> str:
    """Each picture's BD-rate against its own JPEG files."""
    found = summary(name)
    anchor = found["bd_rate"]["anchor"]
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in found["rows"]:
        curves.setdefault((row["codec"], row["picture"]), []).append((row["bits_per_pixel"], row["psnr"]))
    codecs = [codec for codec in ("dfm-latents", "webp", "avif") if codec in found["codecs"]]
    effort = found["codecs"]["dfm-latents"]["options"]["effort"]
    body = []
    for picture in found["pictures"]:
        rates = [bd_rate(curves[anchor, picture], curves[codec, picture])["percent"] for codec in codecs]
        body.append([picture, *("" if rate is None else f"{rate:+.1f} %" for rate in rates)])
    return table(["picture", *(f"{codec}, effort {effort}" if codec == codecs[0] else codec for codec in codecs)], body)


def picture_bd_rates() -> str:
    return picture_bd_rates_of("kodak-256/bench")


def full_size_picture_bd_rates() -> str:
    return picture_bd_rates_of("kodak-8/bench")


def published_rates() -> str:
    """results/rate_distortion/published.json: the first curve is the anchor of the others."""
    anchor, *others = json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))["curves"]
    points = {curve["codec"]: list(zip(curve["bpp"], curve["psnr"], strict=True)) for curve in (anchor, *others)}
    body = []
    for curve in (anchor, *others):
        rate = bd_rate(points[anchor["codec"]], points[curve["codec"]])
        low, high = rate["psnr_range"]
        against = "0" if curve is anchor else f"{rate['percent']:+.1f} % ({low:.1f} to {high:.1f} dB)"
        body.append([curve["codec"], against, curve["bytes"], curve["source"]])
    return table(["codec", f"against {anchor['codec']}", "bytes", "source"], body)


RATE_DISTORTION = (
    rate_distortion_points,
    latents_against,
    at_equal_psnr,
    jpeg_header,
    codec_seconds,
    bd_rates,
    full_size_points,
    full_size_bd_rates,
    picture_bd_rates,
    full_size_picture_bd_rates,
    published_rates,
    coin_points,
)
