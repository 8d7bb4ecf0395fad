"""Generators: reconstructions, distances of samples, the training step; FID's network."""

import re
from statistics import mean

from tables.lines import latest, minutes, rows, table


def generation() -> str:
    body = []
    for line in latest(rows("figures_generation"), lambda line: line["metrics"]["training_command"]).values():
        found, training = line["metrics"], line["config"]["training"]
        command = found["training_command"].replace("python -m ", "")
        config = re.search(r"--config=(\S+)", command)
        body.append(
            [
                f"`{config[1] if config else command}`",
                str(training["model"]["latent_size"]),
                f"{found['step']:,}, {minutes(found['training_seconds'])}",
                f"{found['psnr']:.2f} dB",
                f"{found['pca_psnr']:.2f} dB",
            ]
        )
    return table(["training", "numbers a picture", "steps, time on one core", "PSNR", "PCA of as many numbers"], body)


def crease() -> str:
    """Digits: what part of the period a picture covers, means over seeds."""
    groups: dict[str, list[dict]] = {}
    for line in rows("study_crease"):
        if line["config"]["training"]["dataset.name"] == "digits":
            groups.setdefault(line["config"]["variant"], []).append(line["metrics"])
    columns = {"psnr": ".2f", "crease": ".1f", "fd_digits": ".1f", "rfd_digits": ".1f"}
    body = []
    for variant, found in groups.items():
        means = [f"{mean(metrics[name] for metrics in found):{form}}" for name, form in columns.items()]
        body.append([variant, str(len(found)), *means])
    return table(["the picture covers", "seeds", "PSNR, dB", "error on the line", "fd-digits", "rfd-digits"], body)


def digits_distances() -> str:
    lines = latest(
        rows("evaluate"), lambda line: (line["run"]["config"]["dataset"]["name"], line["metric"], line.get("prior"))
    )
    priors = list(dict.fromkeys(prior for _, _, prior in lines if prior))
    body = []
    for data in dict.fromkeys(data for data, _, _ in lines):
        for prior in priors:
            if (data, f"fd-{data}", prior) not in lines:
                continue
            cells = [lines.get((data, metric, prior)) for metric in (f"fd-{data}", "memorisation")]
            floor = lines.get((data, f"rfd-{data}", None))
            body.append([data, prior, *(f"{cell['value']:.2f}" if cell else "" for cell in (*cells, floor))])
    return table(
        ["data", "prior", "FD of samples", "distance to training pictures, ratio", "FD of reconstructions"], body
    )


def mnist_recognised() -> str:
    """Samples of the tuned machine by two priors at several temperatures."""
    lines = latest(rows("evaluate_mnist"), lambda line: (line["prior"], line["temperature"], line["metric"]))
    metrics = ("recognised-mnist", "precision-mnist", "recall-mnist", "fd-mnist")
    body = []
    for prior, temperature in dict.fromkeys(key[:2] for key in lines):
        share, precision, recall, distance = (lines[prior, temperature, metric]["value"] for metric in metrics)
        numbers = [f"{100 * share:.0f} %", f"{precision:.2f}", f"{recall:.2f}", f"{distance:.1f}"]
        body.append([prior, f"{temperature:g}", *numbers])
    return table(["prior", "temperature", "recognised", "precision", "recall", "FD of samples"], body)


def train_step() -> str:
    body = []
    for row in rows("bench_train")[-1]["metrics"]["rows"]:
        speed, ratio = row["steps_per_second"], row["speedup"]
        body.append(
            [
                f"{row['what']}, {row['batch_size']} pictures",
                *(f"{speed[name]:.3g} steps/s" for name in ("one_device", "all_devices", "torch")),
                f"{ratio['one_device']:.1f}x and {ratio['all_devices']:.1f}x",
            ]
        )
    return table(["", "ours, one device", "ours, two CPU devices", "PyTorch eager", "ratio"], body)


GENERATION = (generation, crease, digits_distances, mnist_recognised, train_step)
