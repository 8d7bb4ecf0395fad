"""Times FID's Inception against the same net in PyTorch eager, in one run, and the Frechet step for 2,048 features.

    python scripts/bench_fid.py --batch_size 32 --repeats 5 --output results/bench_fid.jsonl

What is timed, each from uint8 pictures of --size pixels in the host's memory to float32 features there:
  ours                 dfm.metrics.features.Extractor, as `python -m dfm.evaluate` runs it
  torch                PyTorch eager, written plainly: convolution, batch norm, ReLU; channels first, as FID programs do
  torch channels last  the same in PyTorch's faster layout for CPUs
  frechet              two eigendecompositions of 2,048 columns, from two finished covariances

How: all nets get the same weights (random ones with the batch norms of a net at its start, or --inception_weights) and
must agree before anything is timed. They take turns, --repeats rounds; each turn begins with an untimed call. The
median counts. Measure on an idle machine: beside other processes PyTorch's spinning threads wait for each other, so
its ratio would flatter us. The load average at the start is recorded, and a high one gives a warning. Where no idle
machine is to be had, one core and processor time come near to it:

    OMP_WAIT_POLICY=passive taskset -c 0 python scripts/bench_fid.py --clock processor

Aims on two CPU cores: 1.0x the speed of torch; the Frechet step below 15 s.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from typing import Any

import numpy as np

from dfm.command_line import usable_cores
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.metrics import inception
from dfm.metrics.features import Extractor, FeatureNetwork
from dfm.metrics.frechet import frechet_distance
from dfm.metrics.inception_weights import canonical_arrays, flax_params
from dfm.metrics.moments import Moments
from dfm.peers.inception import TorchInception, random_arrays
from dfm.results import record

BUSY = 0.5  # load average: about half a core taken by others
TOLERANCE = 1e-4  # relative norm of the difference of features
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def our_form(arrays: dict[str, np.ndarray], batch_size: int):
    net = inception.Inception()

    def features(params: Any, pictures: Any) -> Any:
        return net.apply(params, inception.prepare(pictures))

    network = FeatureNetwork("inception", "fid", inception.FEATURES, flax_params(arrays), features, "", "", "")
    extractor = Extractor(network, batch_size)
    return lambda pictures: np.concatenate(list(extractor([pictures])))


def median_seconds(forms: dict, pictures: np.ndarray, repeats: int, clock: str) -> dict[str, float]:
    """Medians over rounds in which the forms take turns."""
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            form(pictures[: max(1, len(pictures) // 8)] if name.startswith("torch") else pictures)  # untimed
            start = now()
            form(pictures)
            seconds[name].append(now() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def frechet_seconds(repeats: int, seed: int, clock: str) -> float:
    """Median time of the distance between moments of 3,000 vectors with a decaying spectrum."""
    rng = np.random.default_rng(seed)
    scales = 1 / np.sqrt(1 + np.arange(inception.FEATURES))
    a, b = (Moments.of((rng.normal(size=(3000, inception.FEATURES)) * scales).astype(np.float32)) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        start = CLOCKS[clock]()
        frechet_distance(a, b)
        seconds.append(CLOCKS[clock]() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=64, help="in one turn; default 64")
    parser.add_argument("--size", type=int, default=32, help="of the pictures; default 32, as CIFAR-10")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inception_weights", metavar="FILE", help="the real weights; default random ones")
    parser.add_argument("--output", default="results/bench_fid.jsonl")
    args = parser.parse_args()
    start, load = time.perf_counter(), os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: load average {load:.1f}; the ratios are those of a busy machine", file=sys.stderr)
    if args.inception_weights:
        from dfm.array_files import read_arrays

        arrays, _ = canonical_arrays(read_arrays(args.inception_weights), args.inception_weights)
    else:
        arrays = random_arrays(args.seed)
    shape = (args.pictures, args.size, args.size, 3)
    pictures = np.random.default_rng(args.seed).integers(0, 256, shape, dtype=np.uint8)
    forms = {"ours": our_form(arrays, args.batch_size)}
    if importlib.util.find_spec("torch"):
        forms |= torch_forms(arrays, args.batch_size)
    check_agreement(forms, pictures[: args.batch_size])
    metrics = report(median_seconds(forms, pictures, args.repeats, args.clock), args.pictures)
    metrics |= {
        "frechet_seconds": frechet_seconds(args.repeats, args.seed, args.clock),
        "load_average": load,
        "multiply_adds_a_picture": inception.MULTIPLY_ADDS,
    }
    print(f"frechet: {metrics['frechet_seconds']:.2f} s for {inception.FEATURES:,} features")
    config = {name: value for name, value in vars(args).items() if name not in ("output", "inception_weights")}
    config["weights"] = "real" if args.inception_weights else "random"
    record(
        args.output,
        "bench_fid",
        "inception-299",
        ["python", *sys.argv],
        config,
        args.seed,
        time.perf_counter() - start,
        metrics,
    )


def torch_forms(arrays: dict[str, np.ndarray], batch_size: int) -> dict:
    import torch

    torch.set_num_threads(usable_cores())

    def form(net):
        return lambda pictures: np.concatenate(
            [net(pictures[i : i + batch_size]) for i in range(0, len(pictures), batch_size)]
        )

    return {"torch": form(TorchInception(arrays)), "torch channels last": form(TorchInception(arrays, True))}


def check_agreement(forms: dict, pictures: np.ndarray) -> None:
    reference = forms["ours"](pictures)
    for name, form in forms.items():
        difference = np.linalg.norm(form(pictures) - reference) / np.linalg.norm(reference)
        if not difference < TOLERANCE:
            raise UserError(f"{name}: features differ by {difference:.1e}; nothing is timed")


def report(seconds: dict[str, float], pictures: int) -> dict:
    metrics: dict = {"pictures_per_second": {name: pictures / value for name, value in seconds.items()}}
    metrics["speed_against"] = {name: value / seconds["ours"] for name, value in seconds.items() if name != "ours"}
    for name, rate in metrics["pictures_per_second"].items():
        billions = rate * inception.MULTIPLY_ADDS / 1e9
        against = f", ours is {metrics['speed_against'][name]:.2f}x" if name != "ours" else ""
        print(f"{name:20} {rate:7.2f} pictures/s, {billions:6.1f} billion multiply-adds/s{against}")
    return metrics


if __name__ == "__main__":
    run_script(main)
