"""`load`: a data set by its name."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dfm.data.arrays import read_arrays
from dfm.data.dataset import ArrayPictures, Dataset, Pictures
from dfm.errors import UserError

SPLITS = ("train", "test", "train+test")
DIGITS_TRAIN_COUNT = 1500


def load(name: str, split: str = "train", data_dir: str | os.PathLike | None = None,
         label: int | None = None) -> Dataset:  # fmt: skip
    """A data set by name. Never touches the network.

    Args:
        name: `digits` (scikit-learn's, 8x8, no download), `folder:PATH` of pictures, or the name of a prepared data
            set: `mnist`, `cifar10`, `imagenet2012` and any other of tensorflow-datasets, or your own arrays.
        split: `train`, `test` or `train+test`.
        data_dir: where prepared data are; None: `default_data_dir()`.
        label: keeps one class only; None or -1 keeps all.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}' (known: {', '.join(SPLITS)})")
    reader = _reader(name)
    folder = Path(data_dir).expanduser() if data_dir else default_data_dir()
    parts = [reader(name, part, folder) for part in split.split("+")]
    labels = np.concatenate([labels for _, labels, _ in parts])
    dataset = Dataset(name, split, [pictures for pictures, _, _ in parts], labels, parts[0][2])
    return dataset if label is None or label == -1 else dataset.of_label(label)


def default_data_dir() -> Path:
    """$DFM_DATA_DIR, or ~/.cache/dfm/data."""
    return Path(os.environ.get("DFM_DATA_DIR") or Path.home() / ".cache" / "dfm" / "data").expanduser()


Split = tuple[Pictures, np.ndarray, tuple[str, ...]]  # pictures, labels, names of the labels
Reader = Callable[[str, str, Path], Split]


def _reader(name: str) -> Reader:
    return read_digits if name == "digits" else read_prepared


def read_digits(name: str, split: str, data_dir: Path) -> Split:
    """The 1,797 digits that come with scikit-learn, round(255 x / 16): the first 1,500 train, the others test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    chosen = slice(None, DIGITS_TRAIN_COUNT) if split == "train" else slice(DIGITS_TRAIN_COUNT, None)
    return ArrayPictures(images[chosen]), digits.target[chosen], ()


def read_prepared(name: str, split: str, data_dir: Path) -> Split:
    """Arrays under the data folder."""
    found = read_arrays(data_dir, name, split)
    if found is None:
        command = f"python -m dfm.data.prepare {name} --data_dir={data_dir}"
        raise UserError(f"{name}, {split} is not prepared in {data_dir}; run: {command}")
    return *found, ()
