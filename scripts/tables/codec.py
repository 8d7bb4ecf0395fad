"""The picture codec: rate and distortion, the recipe of the fit, the thesis' claim, the layer."""

import json
import math
from statistics import mean

from dfm.codec.bench.rate_distortion import bd_rate
from dfm.codec.latents.profile import RATE_WEIGHTS
from dfm.codec.weights.recipes import effort_steps
from dfm.results import read_lines
from tables.lines import RESULTS, Row, latest, rows, table

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


STEP_PICTURES, STEP_SETTINGS = ("kodim01", "kodim05", "kodim15", "kodim23"), ("q20", "q60")


def rate_against_steps() -> str:
    """Four pictures at two qualities: the cost that the fit lowers, against that of 1,000 steps; rate and PSNR."""
    found: dict[int, dict[tuple[str, str], Row]] = {}
    for path in sorted((FOLDER / "kodak-256").glob("*.rows.jsonl")):
        for line in read_lines(path):
            if line["codec"] == "dfm-latents" and line["picture"] in STEP_PICTURES and line["setting"] in STEP_SETTINGS:
                found.setdefault(line["options"]["effort"], {})[line["picture"], line["setting"]] = line
    body = []
    for effort, lines in sorted(found.items()):
        cells = []
        for setting in STEP_SETTINGS:
            keys = [(picture, setting) for picture in STEP_PICTURES]
            if any(key not in lines for key in keys):
                cells += ["", "", ""]
                continue
            ratio = mean(math.log(_cost(lines[key]) / _cost(found[3][key])) for key in keys)
            rate, psnr = (mean(lines[key][name] for key in keys) for name in ("bits_per_pixel", "psnr"))
            cells += [f"{100 * (math.exp(ratio) - 1):+.1f} %", f"{rate:.3f}", f"{psnr:.2f} dB"]
        if any(cells):
            body.append([f"{effort_steps(effort):,}", *cells])
    head = ["steps"]
    for setting in STEP_SETTINGS:
        head += [f"cost at {setting}", "bits a pixel", "PSNR"]
    return table(head, body)


def _cost(line: Row) -> float:
    """Squared error of [0, 1] + weight x bits a pixel: what the latents profile lowers at the setting's quality."""
    first, last = RATE_WEIGHTS
    weight = first * (last / first) ** (float(line["setting"][1:]) / 100)
    return line["mse"] / 255**2 + weight * line["bits_per_pixel"]


def latent_speed() -> str:
    """scripts/bench_latent_codec.py: a step against its peers, whole encodes and decodes."""
    if not (RESULTS / "bench_latent_codec.jsonl").exists():
        return "Not measured yet."
    body = []
    for line in latest(rows("bench_latent_codec"), lambda line: line["config"]["size"]).values():
        found = line["metrics"]
        cells = [line["config"]["size"]]
        if "ours_milliseconds" in found:
            ours = found["ours_milliseconds"]
            cells.append(f"{found['fit_milliseconds']:.1f} ms")
            cells += [f"{found[name] / ours:.1f}x" for name in ("plain_milliseconds", "torch_milliseconds")]
        else:
            cells += ["", "", ""]
        steps = line["config"]["steps"] or effort_steps(line["config"]["effort"])
        cells += [f"{steps:,}", f"{found['encode_seconds_cold']:.0f} s", f"{found['encode_seconds']:.0f} s"]
        cells += [f"{found[name]:,.0f} MiB" for name in ("peak_mebibytes_cold", "peak_mebibytes")]
        body.append([*cells, f"{found['decode_seconds']:.2f} s, {found['decode_peak_mebibytes']:,.0f} MiB"])
    head = ["size", "step of a fit", "plain JAX / ours", "PyTorch eager / ours", "steps", "encode, cold", "warm"]
    return table([*head, "peak memory, cold", "warm", "decode"], body)


def latent_prior() -> str:
    """Cost with the sets of networks over the cost without, geometric mean over pictures; and bytes of networks."""
    found: dict[tuple, dict[bool, list[Row]]] = {}
    if not (RESULTS / "study_latent_prior.jsonl").exists():
        return "Not measured yet."
    for line in rows("study_latent_prior"):
        config = line["config"]
        key = (config["steps"], config["rate_weight"])
        found.setdefault(key, {}).setdefault(config["prior"] > 0, []).append(line["metrics"])
    body = []
    for (steps, weight), both in sorted(found.items()):
        costs = [mean(math.log(metrics["cost"]) for metrics in both[having]) for having in (False, True)]
        networks = [mean(metrics["network_bytes"] for metrics in both[having]) for having in (False, True)]
        sizes = [mean(metrics["bytes"] for metrics in both[having]) for having in (False, True)]
        body.append(
            [
                f"{steps:,}",
                f"{weight:g}",
                f"{100 * (math.exp(costs[1] - costs[0]) - 1):+.1f} %",
                *(f"{networks[i]:.0f} of {sizes[i]:,.0f}" for i in (0, 1)),
                str(len(both[True])),
            ]
        )
    head = ["steps", "rate weight", "cost", "bytes of networks, of the file, without", "with", "pictures"]
    return table(head, body)


def latent_synthesis() -> str:
    """Cost of each synthesis relative to ours, geometric mean over pictures, for each weight of the rate."""
    found: dict[tuple[str, float], dict[tuple, Row]] = {}
    for line in rows("study_latent_synthesis"):
        config = line["config"]
        costs = found.setdefault((config["synthesis"], config["factor"]), {})
        costs[config["picture"], config["rate_weight"]] = line["metrics"]
    if ("both", 0.2) not in found:
        return "Not measured yet."
    ours = found["both", 0.2]
    weights = sorted({weight for _, weight in ours}, reverse=True)
    body = []
    for (name, factor), costs in sorted(found.items()):
        cells = []
        for weight in weights:
            ratios = [
                math.log(metrics["cost"] / ours[key]["cost"]) for key, metrics in costs.items() if key[1] == weight
            ]
            if not ratios:
                cells += ["", ""]
                continue
            better = sum(ratio < 0 for ratio in ratios)
            cells += [f"{100 * (math.exp(mean(ratios)) - 1):+.1f} %", f"{better} of {len(ratios)}"]
        body.append([name, f"{factor:g}", str(next(iter(costs.values()))["parameters"]), *cells])
    head = ["synthesis", "rate of its arrays", "parameters in all"]
    for weight in weights:
        head += [f"cost at weight {weight:g}", "pictures better than ours"]
    return table(head, body)


def recipe_robust() -> str:
    """Gain of the default recipe over the thesis', per net: mean and least over pictures."""
    lines = [line for line in rows("study_recipe") if line["config"]["part"] == "robust"]
    found: dict[tuple, dict[str, dict[str, float]]] = {}
    for line in lines:
        config = line["config"]
        net = (tuple(config["widths"]), config["settings"]["steps"])
        decibels = found.setdefault(net, {}).setdefault(config["picture"]["name"], {})
        decibels[config["value"] or "default"] = line["metrics"]["psnr"]
    body = []
    for (widths, steps), pictures in found.items():
        gains = [psnr["default"] - psnr["thesis"] for psnr in pictures.values() if len(psnr) == 2]
        if not gains:
            continue
        body.append(
            [
                f"width {widths[0]}, depth {len(widths)}",
                f"{steps:,}",
                str(len(gains)),
                f"{mean(gains):+.1f} dB",
                f"{min(gains):+.1f} dB",
            ]
        )
    return table(["net", "steps", "pictures", "mean gain", "least gain"], body)


def thesis_claim() -> str:
    body = []
    for line in rows("figure_5_3"):
        found = line["metrics"]
        body.append(
            [
                line["config"]["picture"],
                *(
                    f"{found[name]['psnr']:.1f} dB in {found[name]['bytes']:,}"
                    for name in ("thesis", "jpeg", "default")
                ),
                f"{found['jpeg']['bytes_for_thesis_psnr']:,} bytes",
            ]
        )
    head = ["picture", "thesis' net, float32", "JPEG of no more bytes", "our codec", "JPEG at least as good as the net"]
    return table(head, body)


def fourier_layer() -> str:
    found = {
        (row["what"], row["pass"]): row["speedup_over"] for row in rows("bench_fourier_layer")[-1]["metrics"]["rows"]
    }
    body = []
    for what in dict.fromkeys(what for what, _ in found):
        cells = [found[what, way][peer] for way in ("forward", "forward_backward") for peer in ("literal", "torch")]
        body.append([what, *(f"{ratio:.1f}x" for ratio in cells)])
    head = ["", "forward, against the literal form", "against PyTorch eager"]
    return table([*head, "forward and backward, against literal", "against PyTorch eager"], body)


def auto() -> str:
    head = ["side", "quality", "bits a pixel", "latents", "latents - weights", "latents win"]
    body = []
    for line in latest(rows("study_auto"), lambda line: (line["config"]["side"], line["config"]["quality"])).values():
        config, found = line["config"], line["metrics"]
        gain = "no net is as small" if found["gain_db"] is None else f"{found['gain_db']:+.2f} dB"
        wins = f"{found['latents_win']} of {len(config['pictures'])}"
        columns = [f"{found['bits_per_pixel']:.2f}", f"{found['latents_psnr']:.2f} dB", gain, wins]
        body.append([str(config["side"]), str(config["quality"]), *columns])
    return table(head, body)


CODEC = (
    rate_distortion_points,
    latents_against,
    bd_rates,
    full_size_points,
    full_size_bd_rates,
    picture_bd_rates,
    full_size_picture_bd_rates,
    published_rates,
    coin_points,
    rate_against_steps,
    latent_speed,
    latent_prior,
    latent_synthesis,
    recipe_robust,
    thesis_claim,
    fourier_layer,
    auto,
)
