"""Small classifiers of digits and MNIST, trained in this repository, whose features stand in for Inception's.

    python -m dfm.metrics.classifier --dataset=digits --output=digits.npz    (seconds)

The weights in this folder were made so, and are kept so that a distance means the same on every machine. Distances
from them are called fd-digits and fd-mnist; they are no FID and compare with nothing outside this repository.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Num

from dfm.array_files import Arrays, read_arrays, write_npz
from dfm.command_line import Parser, run_command
from dfm.errors import UserError

SIDES = {"digits": 8, "mnist": 28}  # pixels; other pictures are refused
FEATURES = 64
CLASSES = 10
TRAIN_EPOCHS = {"digits": 60, "mnist": 6}
BATCH_SIZE = 100
LEARNING_RATE = 2e-3
FOLDER = Path(__file__).parent


class Classifier(nn.Module):
    """Two convolutions with pools, 64 features, ten logits."""

    side: int

    def setup(self) -> None:
        self.conv1 = nn.Conv(16, (3, 3))
        self.conv2 = nn.Conv(32, (3, 3))
        self.dense = nn.Dense(FEATURES)
        self.head = nn.Dense(CLASSES)

    def features(self, pictures: Num[Array, "batch side side channel"]) -> Float[Array, "batch 64"]:
        """Features of pictures in 0 ... 255; colours are averaged."""
        x = jnp.mean(pictures.astype(jnp.float32), axis=-1, keepdims=True) / 255
        x = nn.relu(self.conv1(x))
        if self.side > 8:
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.max_pool(nn.relu(self.conv2(x)), (2, 2), (2, 2))
        return nn.relu(self.dense(x.reshape(len(x), -1)))

    def __call__(self, pictures: Num[Array, "batch side side channel"]) -> Float[Array, "batch 10"]:
        return self.head(self.features(pictures))


def train(dataset: str, images: np.ndarray, labels: np.ndarray, seed: int = 0) -> Any:
    """Parameters after Adam with a cosine schedule on cross-entropy; the same seed gives the same order of batches."""
    model = Classifier(SIDES[dataset])
    params = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, *images.shape[1:]), jnp.uint8))
    steps_per_epoch = len(images) // BATCH_SIZE
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, TRAIN_EPOCHS[dataset] * steps_per_epoch)
    optimizer = optax.adam(schedule)

    def loss(params: Any, x: Array, y: Array) -> Array:
        logits = model.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params: Any, state: Any, x: Array, y: Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    generator = np.random.default_rng(seed)
    for _ in range(TRAIN_EPOCHS[dataset]):
        order = generator.permutation(len(images))
        for start in range(0, steps_per_epoch * BATCH_SIZE, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            params, state = step(params, state, images[rows], labels[rows].astype(np.int32))
    return params


def accuracy(dataset: str, params: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of pictures whose largest logit is that of their label."""
    apply = jax.jit(Classifier(SIDES[dataset]).apply)
    parts = [np.asarray(apply(params, images[i : i + 1000])).argmax(axis=1) for i in range(0, len(images), 1000)]
    return float(np.mean(np.concatenate(parts) == labels))


def to_arrays(params: Any) -> Arrays:
    """float16: the files lie in the repository."""
    layers = params["params"]
    return {
        f"{layer}.{part}": np.asarray(value, np.float16) for layer in layers for part, value in layers[layer].items()
    }


def stored_path(dataset: str) -> Path:
    return FOLDER / f"classifier_{dataset}.npz"


def load_params(dataset: str) -> tuple[Any, Arrays]:
    """Flax parameters of the stored classifier, and the arrays for its hash."""
    arrays = read_arrays(stored_path(dataset))
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, _, part = name.partition(".")
        params.setdefault(layer, {})[part] = array.astype(np.float32)
    return {"params": params}, arrays


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("dfm.metrics.classifier", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="dfm.metrics.classifier", description=__doc__, formatter_class=raw)
    parser.add_argument("--dataset", choices=sorted(SIDES), required=True)
    parser.add_argument("--output", required=True, metavar="FILE.npz")
    parser.add_argument("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    args = parser.parse_args(arguments)

    from dfm.data import load
    from dfm.files import check_writable

    if Path(args.output).suffix != ".npz":
        raise UserError(f"{args.output}: the name must end in .npz")
    check_writable(args.output)
    parts = {split: load(args.dataset, split, args.data_dir) for split in ("train", "test")}
    images, labels = ({split: getter(part) for split, part in parts.items()} for getter in (_all_images, _all_labels))
    params = train(args.dataset, images["train"], labels["train"])
    write_npz(args.output, to_arrays(params))
    share = accuracy(args.dataset, params, images["test"], labels["test"])
    print(f"{args.output}: accuracy {share:.4f} on the test split")


def _all_images(dataset: Any) -> np.ndarray:
    return dataset.take(np.arange(len(dataset)))


def _all_labels(dataset: Any) -> np.ndarray:
    return np.asarray(dataset.labels)


if __name__ == "__main__":
    sys.exit(main())
