"""MNIST, CIFAR and their kin from their original files, through tensorflow-datasets but without TensorFlow.

tensorflow-datasets' own builders leave unpacking and PNG encoding to TensorFlow. Here both are done by Python, and the
rest is theirs: checksums, keys, order and format of the records, so the result is their data set.
"""

import gzip
import hashlib
import io
import math
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from dfm.errors import UserError
from dfm.shapes import typechecked

MNIST_LIKE = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}  # name -> class of theirs
CIFAR_LIKE = {"cifar10": "Cifar10", "cifar100": "Cifar100"}
NAMES = (*MNIST_LIKE, *CIFAR_LIKE)
MNIST_STEMS = {"train": "train", "test": "t10k"}
MNIST_KINDS = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
IMAGES_MAGIC, LABELS_MAGIC = 0x00000803, 0x00000801  # uint8 in three dimensions, and in one


@dataclass
class Examples:
    """One split: pictures, and the other fields of a record by name."""

    images: UInt8[np.ndarray, "n height width channel"]
    fields: dict[str, list]


def builder_of(name: str, data_dir: Path, progress: Callable[[Any, str], Any]) -> Any:
    """tensorflow-datasets' builder of one of NAMES; `progress(iterable, description)` is put around its examples."""
    from tensorflow_datasets.core import registered
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.image_classification import cifar, mnist

    theirs = getattr(mnist, MNIST_LIKE[name]) if name in MNIST_LIKE else getattr(cifar, CIFAR_LIKE[name])
    with registered.skip_registration():  # the name is theirs already

        class Builder(theirs):  # type: ignore[misc, valid-type]
            def originals(self) -> dict[str, Any]:
                """Address of each original file -> its size, checksum and filename."""
                if name in CIFAR_LIKE:
                    urls = [self._cifar_info.url]
                else:
                    urls = [f"{self.URL}{stem}-{kind}" for stem in MNIST_STEMS.values() for kind in MNIST_KINDS]
                known = checksums.get_all_url_infos()
                return {url: known[url] for url in urls}

            def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
                paths = [Path(path) for path in dl_manager.download(list(self.originals()))]
                if name in MNIST_LIKE:
                    splits = {split: read_mnist(*paths[2 * i : 2 * i + 2]) for i, split in enumerate(MNIST_STEMS)}
                else:
                    splits, names = read_cifar(paths[0], self._cifar_info)
                    for key, values in names.items():
                        self.info.features[key].names = values
                return {split: self._generate_examples(split, examples) for split, examples in splits.items()}

            def _generate_examples(self, split: str, examples: Examples) -> Iterator[tuple[int, dict]]:
                for row, image in enumerate(progress(examples.images, f"{name} {split}: packing")):
                    fields = {key: values[row] for key, values in examples.fields.items()}
                    yield row, {"image": _as_png(image), **fields}

    Builder.name = name
    return Builder(data_dir=data_dir)


def read_mnist(images: Path, labels: Path) -> Examples:
    """One split from its two gzipped IDX files."""
    pictures = parse_idx(_gunzip(images), IMAGES_MAGIC, images.name)
    numbers = parse_idx(_gunzip(labels), LABELS_MAGIC, labels.name)
    if len(pictures) != len(numbers):
        raise UserError(f"{labels}: {len(numbers):,} labels for {len(pictures):,} pictures")
    return Examples(pictures[..., None], {"label": numbers.tolist()})


@typechecked
def parse_idx(data: bytes, magic: int, name: str) -> UInt8[np.ndarray, "..."]:
    """The array of an IDX file: magic number (type, number of dimensions), sizes, all big-endian, then the bytes."""
    header_size = 4 + 4 * (magic & 0xFF)  # the lowest byte is the number of dimensions
    if len(data) < header_size or int.from_bytes(data[:4], "big") != magic:
        raise UserError(f"{name}: not an IDX file of {'pictures' if magic == IMAGES_MAGIC else 'labels'}")
    shape = tuple(np.frombuffer(data[4:header_size], ">u4").tolist())
    body = np.frombuffer(data, np.uint8, offset=header_size)
    if len(body) != math.prod(shape):
        raise UserError(f"{name}: {len(body):,} bytes where its header says {shape}")
    return body.reshape(shape)


def read_cifar(archive: Path, info: Any) -> tuple[dict[str, Examples], dict[str, list[str]]]:
    """Splits and names of the labels from the binary version's .tar.gz; `info` is tensorflow-datasets' CifarInfo."""
    splits = {"train": info.train_files, "test": info.test_files}
    files = _untar(archive, info.prefix, [*info.train_files, *info.test_files, *info.label_files])
    examples = {}
    for split, names in splits.items():
        parts = [parse_cifar(files[name], len(info.label_keys), name) for name in names]
        images = np.concatenate([images for images, _ in parts])
        labels = np.concatenate([labels for _, labels in parts])
        fields: dict[str, list] = {key: labels[:, i].tolist() for i, key in enumerate(info.label_keys)}
        examples[split] = Examples(images, {"id": [f"{split}_{row:05d}" for row in range(len(images))], **fields})
    lines = [files[name].decode().split("\n") for name in info.label_files]
    return examples, {key: [word for word in words if word] for key, words in zip(info.label_keys, lines, strict=True)}


@typechecked
def parse_cifar(
    data: bytes, label_count: int, name: str
) -> tuple[UInt8[np.ndarray, "n 32 32 3"], UInt8[np.ndarray, "n labels"]]:
    """Pictures and labels of a .bin file: for each picture its label bytes, then 32x32 red, green and blue bytes."""
    size = label_count + 3 * 32 * 32
    if not data or len(data) % size:
        raise UserError(f"{name}: {len(data):,} bytes are no whole number of {size}-byte records")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    images = records[:, label_count:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, :label_count]


def file_order(split: str, count: int) -> Int[np.ndarray, "count"]:
    """For each record, its place in the original files.

    tensorflow-datasets sorts records by the md5 of the split's name and the example's key, here its number. Undone, so
    that row i means the same picture in every copy of the data: results and latent tables name rows.
    """
    salted = hashlib.md5(split.encode())
    digests = []
    for key in range(count):
        digest = salted.copy()
        digest.update(str(key).encode())
        digests.append(digest.digest())
    return np.array(sorted(range(count), key=digests.__getitem__), np.int64)


def _gunzip(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__})") from None


def _untar(archive: Path, prefix: str, names: list[str]) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(prefix)
                if name in names and member.isfile():
                    files[name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: damaged ({type(error).__name__})") from None
    if missing := [name for name in names if name not in files]:
        raise UserError(f"{archive}: does not hold {', '.join(missing)}")
    return files


def _as_png(image: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    buffer.seek(0)
    return buffer
