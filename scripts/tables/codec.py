"""The picture codec: rate and distortion, the recipe of the fit, the thesis' claim, the layer."""

import json
from statistics import mean

from tables.lines import RESULTS, Row, latest, rows, table


def summary() -> Row:
    return json.loads((RESULTS / "rate_distortion" / "kodak-256" / "bench.json").read_text(encoding="utf-8"))


def rate_distortion_points() -> str:
    head = ["codec", "setting", "bits a pixel", "PSNR, mean of pictures", "PSNR of the mean squared error", "encode"]
    body = []
    for name, curve in summary()["codecs"].items():
        if not name.startswith("dfm"):
            continue
        result = curve["results"]
        columns = ("bpp", "psnr-rgb", "psnr-of-mean-mse", "encoding_time")
        for setting, rate, psnr, of_mean, seconds in zip(
            curve["settings"], *(result[column] for column in columns), strict=True
        ):
            body.append([name, setting, f"{rate:.3f}", f"{psnr:.2f} dB", f"{of_mean:.2f} dB", f"{seconds:.0f} s"])
    return table(head, body)


def bd_rates() -> str:
    found = summary()
    head = ["codec", "averaged curve", "between", "mean of the pictures' BD-rates"]
    body = []
    for name, entry in found["bd_rate"]["codecs"].items():
        if name == found["bd_rate"]["anchor"]:
            continue
        averaged, single = entry["averaged_curve"], entry["per_picture_mean"]
        low, high = averaged["psnr_range"]
        body.append(
            [
                found["codecs"][name]["description"],
                f"{averaged['percent']:+.1f} %",
                f"{low:.1f} and {high:.1f} dB",
                f"{single['percent']:+.1f} %",
            ]
        )
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


CODEC = (rate_distortion_points, bd_rates, recipe_robust, thesis_claim, fourier_layer, auto)
