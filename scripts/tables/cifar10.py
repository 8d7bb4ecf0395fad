"""The table of CIFAR-10: a line for each model and prior, by one protocol."""

from typing import Any

from dfm.results import read_lines
from tables.lines import RESULTS, latest, minutes, table

RECONSTRUCTIONS = "reconstructions"
HEAD = (
    "model",
    "numbers",
    "prior",
    "parameters",
    "operations",
    "training",
    "PSNR",
    "rFID",
    "fid-10k",
    "fid-2k",
    "rae-2020",
    "dai-wipf-2019",
    "precision",
    "recall",
)
Metrics = dict[str, Any]


def cifar10() -> str:
    """What scripts/study_cifar10.py has measured."""
    lines = read_lines(RESULTS / "study_cifar10.jsonl")
    found = latest(lines, lambda line: tuple(line["config"][key] for key in ("row", "size", "what")))
    body = []
    for (row, size, what), line in found.items():
        has_samples = any(key[:2] == (row, size) and key[2] != RECONSTRUCTIONS for key in found)
        if what == RECONSTRUCTIONS and has_samples:
            continue
        given_back = found.get((row, size, RECONSTRUCTIONS), {}).get("metrics", {})
        name = row if size == "small" else f"{row}, {size}"
        body.append(_cells(name, what if has_samples else "", line["metrics"], given_back))
    return table(HEAD, body) if body else "Not measured yet."


def _cells(row: str, prior: str, metrics: Metrics, given_back: Metrics) -> list[str]:
    """Parameters, operations and time of a flow are added to those of its model; a discriminator is not counted."""
    groups = {**metrics["parameters"], **metrics.get("flow_parameters", {})}
    parameters = sum(count for name, count in groups.items() if name != "discriminator")
    operations = metrics["training_operations"] + metrics.get("flow_training_operations", 0.0)
    return [
        row,
        f"{metrics['numbers']:,}",
        prior,
        f"{parameters / 1e6:.1f} M",
        f"{operations:.1e}",
        minutes(metrics["seconds_of_training"] + metrics.get("flow_seconds_of_training", 0)),
        f"{given_back['psnr']:.2f} dB" if "psnr" in given_back else "",
        f"{given_back['rfid']:.1f}" if "rfid" in given_back else "",
        *(_number(metrics, name, 1) for name in ("fid-10k", "fid-2k", "rae-2020", "dai-wipf-2019")),
        *(_number(metrics, name, 2) for name in ("precision", "recall")),
    ]


def _number(metrics: Metrics, name: str, digits: int) -> str:
    return f"{metrics[name]:.{digits}f}" if name in metrics else ""


CIFAR10 = (cifar10,)
