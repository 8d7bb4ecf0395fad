"""`load`: a data set by its name.

Arrays under the data folder (dfm/data/prepared.py says how they are named) need no code. Another source is a `Reader`
in `READERS`, whose pictures are `ArrayPictures` or another of the `Pictures` of dfm/data/dataset.py.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dfm.data import folder, records
from dfm.data.dataset import ArrayPictures, Dataset, Pictures
from dfm.data.prepared import images_path, labels_path, read_arrays, read_labels
from dfm.errors import UserError
from dfm.files import home_folder
from dfm.registry import check, closest

SPLITS = ("train", "test", "train+test")
DIGITS_TRAIN_COUNT = 1500
# height, width and channels of the data sets that configs/ and scripts/ know without reading them
SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}

Split = tuple[Pictures, np.ndarray, tuple[str, ...]]  # pictures, labels, names of the labels
Reader = Callable[[str, str, Path], Split]  # of the data set's name, "train" or "test", and the data folder


def load(
    name: str, split: str = "train", data_dir: str | os.PathLike | None = None, label: int | None = None
) -> Dataset:
    """A data set by name. Never touches the network.

    Args:
        name: `digits` (scikit-learn's, 8x8, no download), `folder:PATH` of pictures, or the name of a prepared data
            set: `mnist`, `cifar10`, `imagenet2012` and any other of tensorflow-datasets, or your own arrays.
        split: `train`, `test` or `train+test`.
        data_dir: where prepared data are; None: `default_data_dir()`.
        label: keeps one class only; None or -1 keeps all.
    """
    check("split", split, SPLITS)
    if name.startswith("codes:"):
        raise UserError(f"{name}: codes of a run are for dfm.train alone; they have no pictures")
    reader = _reader(name)
    where = Path(data_dir).expanduser() if data_dir else default_data_dir()
    parts = [reader(name, part, where) for part in split.split("+")]
    labels = np.concatenate([labels for _, labels, _ in parts])
    dataset = Dataset(name, split, [pictures for pictures, _, _ in parts], labels, parts[0][2])
    return dataset if label is None or label == -1 else dataset.of_label(label)


def default_data_dir() -> Path:
    """$DFM_DATA_DIR, or ~/.cache/dfm/data."""
    return Path(os.environ.get("DFM_DATA_DIR") or home_folder() / ".cache" / "dfm" / "data").expanduser()


def _reader(name: str) -> Reader:
    if name.startswith(folder.PREFIX):
        return folder.read_folder
    return READERS.get(name, read_prepared)


def read_digits(name: str, split: str, data_dir: Path) -> Split:
    """The 1,797 digits that come with scikit-learn, round(255 x / 16): the first 1,500 train, the others test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    chosen = slice(None, DIGITS_TRAIN_COUNT) if split == "train" else slice(DIGITS_TRAIN_COUNT, None)
    return ArrayPictures(images[chosen]), digits.target[chosen], ()


READERS: dict[str, Reader] = {"digits": read_digits}  # data sets that need no preparation
KNOWN = (*READERS, "mnist", "cifar10", "imagenet2012")  # and all of tensorflow-datasets


def read_prepared(name: str, split: str, data_dir: Path) -> Split:
    """Arrays under the data folder; where pictures differ in size, labels there and records of tensorflow-datasets."""
    if not name or ".." in Path(name).parts or Path(name).is_absolute():
        raise unknown(name, data_dir)
    if arrays := read_arrays(data_dir, name, split):
        return *arrays, ()
    if labels_path(data_dir, name, split).exists() and (builder := records.find_builder(data_dir, name)):
        part = records.split_of(builder, split)
        if part is None:
            raise UserError(f"{name}: has no {split} split in {data_dir}")
        pictures = records.Records(builder, part)
        return pictures, read_labels(data_dir, name, split, len(pictures)), ()
    check_known(name, data_dir)
    if (data_dir / name).is_dir() and name not in KNOWN and not is_public(name):
        raise missing_split(name, split, data_dir)
    command = f"python -m dfm.data.prepare {name} --data_dir={data_dir}"
    raise UserError(f"{name}, {split}: not prepared in {data_dir}; run: {command}")


def check_known(name: str, data_dir: Path) -> None:
    """UserError, with the nearest name, for one that nobody knows: neither tensorflow-datasets nor the data folder."""
    if name not in KNOWN and not (name and (data_dir / name).is_dir()) and not is_public(name):
        raise unknown(name, data_dir)


def is_public(name: str) -> bool:
    """Whether tensorflow-datasets knows this name, NAME or NAME/CONFIG."""
    return name.partition("/")[0] in _public_names()


def missing_split(name: str, split: str, data_dir: Path) -> UserError:
    """What to say of a folder of arrays without those of a split."""
    return UserError(f"{name}: has no {split} split ({images_path(data_dir, name, split)}: no such file)")


def unknown(name: str, data_dir: Path) -> UserError:
    """What to say of a name that means nothing."""
    if name == "none":  # of a model that dfm.convert made a run of
        return UserError("the run names no data (dataset.name is 'none')")
    if name and Path(name).expanduser().is_dir():
        return UserError(f"unknown data set '{name}'; for a folder of pictures, say {folder.PREFIX}{name}")
    mine = [path.name for path in data_dir.iterdir() if path.is_dir()] if data_dir.is_dir() else []
    # ours first: `mnits` is to become mnist, not kmnist
    near = closest(name, [*KNOWN, *mine]) or closest(name, _public_names())
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(KNOWN)}, {folder.PREFIX}PATH"
    return UserError(f"unknown data set '{name}'; {hint}")


def _public_names() -> list[str]:
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)
