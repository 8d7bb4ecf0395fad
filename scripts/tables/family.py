"""The table of generators: every row of the autoencoder family and both machines, a table a data set."""

from typing import Any

from dfm.results import read_lines
from tables.lines import RESULTS, latest, minutes, rows, table
from tables.published_fids import published_fids

NAMES = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
PRIORS = ("normal", "gaussian", "gmm", "two_stage", "flow", "vamp", "codes")
Metrics = dict[str, Any]


def autoencoders() -> str:
    """A table for each data set that was measured at the full budget."""
    lines = [line for line in read_lines(RESULTS / "table_autoencoders.jsonl") if line["config"]["budget"] == "full"]
    found = latest(lines, lambda line: tuple(line["config"][key] for key in ("dataset", "row", "part")))
    parts = [_of_dataset(name, found) for name in NAMES if any(dataset == name for dataset, _, _ in found)]
    return "\n\n".join(parts) or "Not measured yet."


def _of_dataset(dataset: str, found: dict[tuple[str, str, str], Metrics]) -> str:
    order = list(dict.fromkeys(row for name, row, _ in found if name == "digits"))  # whose rows are all there
    rows = {row: line for (name, row, part), line in found.items() if (name, part) == (dataset, "main")}
    rows = dict(sorted(rows.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
    beside = {(row, part): line["metrics"] for (name, row, part), line in found.items() if name == dataset}
    measured = [line["metrics"] for line in rows.values() if "failed" not in line["metrics"]]
    priors = [prior for prior in PRIORS if any(prior in metrics["by_prior"] for metrics in measured)]
    extra = sorted({part for _, part in beside if part != "main"})
    head = ["row", "latent", "parameters", "steps", "time", "PSNR", "reconstructions", *priors, *extra, "bits/dim"]
    body = [
        _cells(row, line["metrics"], priors, [beside.get((row, part)) for part in extra]) for row, line in rows.items()
    ]
    any_line = next(iter(rows.values()))
    caption = (
        f"**{NAMES[dataset]}**, {any_line['config']['operations']:.0e} operations a row; {any_line['protocol']} by "
        f"prior, and of reconstructed test pictures against the same"
    )
    return f"{caption}:\n\n{table(head, body)}"


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


def published_likelihoods() -> str:
    """scripts/check_published.py: ours beside the published, nats a picture."""
    body = []
    for line in rows("check_published"):
        name, optimizer = line["config"]["check"], line["config"]["training"]["optimizer.name"]
        metrics = line["metrics"]
        for quantity, published in metrics["published"].items():
            difference = metrics["differences_nats"][quantity]
            numbers = (f"{metrics[quantity]:.2f}", f"{published:.2f}", f"{difference:+.2f}")
            body.append([name, optimizer, f"{metrics['step']:,}", quantity, *numbers, metrics["source"]])
    return table(["check", "optimizer", "step", "quantity", "ours", "published", "difference", "source"], body)


FAMILY = (autoencoders, published_fids, published_likelihoods, recognised)
