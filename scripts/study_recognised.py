"""What the metric `recognised` takes for a digit: unseen digits, broken ones, and none.

    python scripts/study_recognised.py --data_dir=DATA                # digits and MNIST: a minute of one core
    python scripts/study_recognised.py --datasets digits --output rows.jsonl

A share of samples that a classifier is sure of is worth no more than its answers to pictures that are no digit. A line
a data set: the test pictures; the same upside down, as negatives, overlaid with another and averaged with it; binary
noise of their mean; and blanks.
"""

import argparse
import sys
import time

import numpy as np

from dfm.data import load
from dfm.evaluation import evaluate
from dfm.experiments import run_script
from dfm.results import record

COUNT, SEED = 1_000, 0


def kinds(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures by what they are."""
    random = np.random.default_rng(SEED)
    other = pictures[random.permutation(len(pictures))]
    noise = random.random(pictures.shape) < pictures.mean() / 255
    return {
        "test pictures": pictures,
        "upside down": pictures[:, ::-1],
        "negatives": 255 - pictures,
        "two overlaid": np.maximum(pictures, other),
        "means of two": ((pictures.astype(np.int32) + other) // 2).astype(np.uint8),
        "binary noise": (255 * noise).astype(np.uint8),
        "blank": np.zeros_like(pictures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default="digits,mnist", help="of digits and mnist")
    parser.add_argument("--data_dir", help="where the data sets are; default $DFM_DATA_DIR")
    parser.add_argument("--output", default="results/study_recognised.jsonl")
    arguments = parser.parse_args()
    for name in arguments.datasets.split(","):
        start = time.perf_counter()
        test = load(name, "test", arguments.data_dir)
        pictures = test.take(np.arange(min(COUNT, len(test))))
        shares = {
            kind: evaluate(np.ascontiguousarray(some), pictures, f"recognised-{name}")[0]["value"]
            for kind, some in kinds(pictures).items()
        }
        for kind, share in shares.items():
            print(f"{name:8} {kind:15} {100 * share:5.1f} %")
        config = {"dataset": name, "count": len(pictures)}
        seconds = time.perf_counter() - start
        record(arguments.output, "study_recognised", f"recognised-{name}", sys.argv, config, SEED, seconds, shares)


if __name__ == "__main__":
    run_script(main)
