"""Golden features of the FID Inception, so that a published FID is tested without 512 forward passes.

    python scripts/make_inception_features.py --test_vectors=test_vectors.npz --inception_weights=WEIGHTS

Writes tests/golden/inception_{train,test}.npz: of CIFAR-10's pictures that the vectors name, `{split}_idx_256`,
the features by dfm/metrics/inception.py, rounded to float16. Tests compare the first with what the network gives now,
and the FID of all with the published one. About a minute.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from dfm.data import load
from dfm.experiments import run_script
from dfm.metrics import networks
from dfm.metrics.features import Extractor
from dfm.metrics.weight_files import WeightFiles

GOLDEN_DIR = Path(__file__).parents[1] / "tests" / "golden"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test_vectors", required=True, metavar="FILE.npz")
    parser.add_argument("--inception_weights", metavar="FILE", help="or DFM_INCEPTION_WEIGHTS")
    parser.add_argument("--data_dir", help="of the prepared CIFAR-10, or DFM_DATA_DIR")
    arguments = parser.parse_args()
    network = networks.load("inception", WeightFiles(inception=arguments.inception_weights))
    extractor = Extractor(network, devices=jax.local_devices()[:1])
    with np.load(arguments.test_vectors) as vectors:
        numbers = {split: vectors[f"{split}_idx_256"] for split in ("train", "test")}
    for split, rows in numbers.items():
        pictures = load("cifar10", split, arguments.data_dir).take(rows)
        features = np.concatenate(list(extractor([pictures])))
        path = GOLDEN_DIR / f"inception_{split}.npz"
        np.savez_compressed(path, features=features.astype(np.float16))
        print(f"wrote {path.name}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
