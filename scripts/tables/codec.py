"""The picture codec: steps and seconds, its studies, the recipe of the fit, the thesis' claim, the layer."""

import math
from statistics import mean

from dfm.codec.latents.profile import RATE_WEIGHTS
from dfm.codec.weights.recipes import effort_steps
from dfm.results import read_lines
from tables.lines import RESULTS, Row, latest, rows, table
from tables.rate_distortion import FOLDER

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


def latent_start() -> str:
    """scripts/study_latent_start.py: the cost over that of the long fit, by what a short one begins with."""
    found: dict[tuple[float, str], list[Row]] = {}
    for line in rows("study_latent_start"):
        found.setdefault((line["config"]["rate_weight"], line["config"]["start"]), []).append(line)
    body = []
    for (weight, start), lines in found.items():
        ratio = math.exp(mean(math.log(line["metrics"]["ratio"]) for line in lines))
        steps, long = (f"{lines[0]['config'][name]:,}" for name in ("steps", "long"))
        body.append([f"{weight:g}", start, str(len(lines)), f"{100 * (ratio - 1):+.1f} %", steps, long])
    return table(["rate weight", "start", "pictures", "cost over the long fit's", "steps", "of the long fit"], body)


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
    rate_against_steps,
    latent_speed,
    latent_prior,
    latent_start,
    latent_synthesis,
    recipe_robust,
    thesis_claim,
    fourier_layer,
    auto,
)
