"""The table of generators: every row of the autoencoder family and both machines, a table a data set."""

from typing import Any

from dfm.results import read_lines
from tables.lines import RESULTS, latest, minutes, rows, table

NAMES = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
PRIORS = ("normal", "gaussian", "gmm", "two_stage", "flow", "vamp", "codes")
# FID of published tables, protocols of their own: Dai and Wipf 2019 (D&W, samples stretched, against test pictures),
# Ghosh et al. 2020 (RAE, 10,000 against test), Chadebec and Allassonniere 2022 (C&A), Asadi 2022 table 5.2
PUBLISHED = {
    "mnist": {
        "ae": "58.7, GMM 10.7 (RAE); GMM 9.6 (C&A)",
        "rae": "22.2, GMM 8.7 (RAE); GMM 9.9 (C&A)",
        "wae": "20.4, GMM 9.4 (RAE); 115.0 (D&W); 20.7 (C&A)",
        "vae": "19.2, GMM 17.7 (RAE); learned variance 54.5, two stages 12.6 (D&W); 40.7 (C&A)",
        "bernoulli_vae": "16.6 (D&W)",
    },
    "cifar10": {
        "ae": "84.7, GMM 76.5 (RAE); GMM 130.3 (C&A)",
        "rae": "80.8, GMM 74.2 (RAE); GMM 123.3 (C&A)",
        "wae": "117.4, GMM 93.5 (RAE); 80.9 (D&W, Asadi); 133.0 (C&A)",
        "vae": "106.4, GMM 103.8 (RAE); learned variance 76.7, two stages 72.9 (D&W); 162.6 (C&A); 106.0 (Asadi)",
        "gan": "DCGAN 30.9 (Asadi)",
        "dfm_thesis": "80.5 (Asadi)",
    },
}
Metrics = dict[str, Any]


def autoencoders() -> str:
    """A table for each data set that was measured at the full budget."""
    lines = [line for line in read_lines(RESULTS / "table_autoencoders.jsonl") if line["config"]["budget"] == "full"]
    found = latest(lines, lambda line: tuple(line["config"][key] for key in ("dataset", "row", "part")))
    parts = [_of_dataset(name, found) for name in NAMES if any(dataset == name for dataset, _, _ in found)]
    return "\n\n".join(parts) or "Not measured yet."


def _of_dataset(dataset: str, found: dict[tuple[str, str, str], Metrics]) -> str:
    rows = {row: line for (name, row, part), line in found.items() if (name, part) == (dataset, "main")}
    beside = {(row, part): line["metrics"] for (name, row, part), line in found.items() if name == dataset}
    measured = [line["metrics"] for line in rows.values() if "failed" not in line["metrics"]]
    priors = [prior for prior in PRIORS if any(prior in metrics["by_prior"] for metrics in measured)]
    published = dataset in PUBLISHED
    extra = sorted({part for _, part in beside if part != "main"})
    head = ["row", "latent", "parameters", "steps", "time", "PSNR", "reconstructions", *priors, *extra, "bits/dim"]
    body = [
        _cells(row, line["metrics"], priors, [beside.get((row, part)) for part in extra])
        + ([PUBLISHED[dataset].get(row, "")] if published else [])
        for row, line in rows.items()
    ]
    any_line = next(iter(rows.values()))
    caption = (
        f"**{NAMES[dataset]}**, {any_line['config']['operations']:.0e} operations a row; {any_line['protocol']} by "
        f"prior, and of reconstructed test pictures against the same"
    )
    return f"{caption}:\n\n{table([*head, *(['published FID'] if published else [])], body)}"


def _cells(row: str, metrics: Metrics, priors: list[str], beside: list[Metrics | None]) -> list[str]:
    if "failed" in metrics:
        return [row, f"failed: {metrics['failed']}", *[""] * (6 + len(priors) + len(beside))]
    bits = metrics.get("likelihood", {}).get("elbo_bits_per_dim")
    distances = [metrics.get("reconstruction_distance"), *(metrics["by_prior"].get(prior) for prior in priors)]
    return [
        row,
        f"{metrics['latent_size']:,}",
        f"{metrics['parameters']:,}",
        f"{metrics['steps']:,}",
        minutes(metrics["training_seconds"]),
        _number(metrics.get("psnr_of_mean_squared_error"), " dB"),
        *(_number(value) for value in distances),
        *(_beside(values) for values in beside),
        _number(bits, digits=2),
    ]


def _beside(metrics: Metrics | None) -> str:
    """FID by a protocol of its own, by prior."""
    if metrics is None:
        return ""
    if "failed" in metrics:
        return "failed"
    return ", ".join(f"{prior} {_number(value)}" for prior, value in metrics["by_prior"].items())


def _number(value: float | None, unit: str = "", digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}{unit}"


def recognised() -> str:
    """What the metric of this name says of pictures that are digits, and of others."""
    lines = latest(rows("study_recognised"), lambda line: line["config"]["dataset"])
    kinds = list(next(iter(lines.values()))["metrics"])
    body = [
        [f"`{line['protocol']}`", *(f"{100 * line['metrics'][kind]:.0f} %" for kind in kinds)]
        for line in lines.values()
    ]
    return table(["share of", *kinds], body)


FAMILY = (autoencoders, recognised)
