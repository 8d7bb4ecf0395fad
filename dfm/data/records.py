"""Data sets that tensorflow-datasets has prepared as array_record, read without TensorFlow."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dfm.data.dataset import DecodedPictures, Shape
from dfm.data.fingerprint import Fingerprint, sha256
from dfm.errors import UserError

HASHED_RECORDS = 1_000  # of a fingerprint, evenly spaced
# its own test split has no labels
TEST_SPLITS = {"imagenet2012": ("validation",)}


class Records(DecodedPictures):
    """One split, prepared by tensorflow-datasets: pictures decoded when asked for, and their labels."""

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        self.name = f"{builder.name}, {split}"
        image_key, self._label_key = _keys(builder)
        self._image_key = image_key
        features = builder.info.features[image_key]
        self.channels = features.shape[-1]
        if self.channels not in (1, 3) or features.np_dtype != np.uint8:
            raise UserError(f"{builder.name}: its pictures are not 8-bit grey or RGB ({features})")
        self.shape: Shape | None = None if None in features.shape else tuple(features.shape)
        self._source = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def picture(self, row: int) -> np.ndarray:
        with self._lock:  # the reader is one file with one position; decoding, which takes longer, goes on beside it
            data = self._source[row][self._image_key]
        return self._decode(data, row)

    def fingerprint(self, rows: np.ndarray | None) -> Fingerprint:
        count = len(self) if rows is None else len(rows)
        chosen = [i if rows is None else int(rows[i]) for i in range(0, count, max(1, count // HASHED_RECORDS))]
        with self._lock:
            return {"contents": sha256([str(count).encode(), *(self._source[row][self._image_key] for row in chosen)])}

    def read(self, rows: range) -> tuple[list[bytes], np.ndarray]:
        """Encoded pictures and labels (0 where there are none) of some rows."""
        records = self._source.__getitems__(list(rows))
        labels = [int(record[self._label_key]) if self._label_key else 0 for record in records]
        return [record[self._image_key] for record in records], np.array(labels, np.int32)

    def decode(self, data: list[bytes], rows: range) -> np.ndarray:
        """Pictures of one size from their encoded bytes."""
        return np.stack([self._decode(*pair) for pair in zip(data, rows, strict=True)])

    def _decode(self, data: bytes, row: int) -> np.ndarray:
        mode = "L" if self.channels == 1 else "RGB"
        try:
            with Image.open(io.BytesIO(data)) as image:
                picture = np.array(image if image.mode == mode else image.convert(mode))
        except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
            raise UserError(f"{self.name}: picture {row} is damaged ({type(error).__name__})") from None
        return picture.reshape(*picture.shape[:2], self.channels)


def find_builder(data_dir: Path, name: str) -> Any | None:
    """The newest prepared version of a data set, or None. `name` is `NAME` or `NAME/CONFIG`. Reads the disk alone."""
    folders = sorted((data_dir / name).glob("*/dataset_info.json")) or sorted(
        (data_dir / name).glob("*/*/dataset_info.json")
    )
    configs = sorted({folder.parents[1].name for folder in folders})
    if len(configs) > 1:
        raise UserError(f"{name} is prepared in several kinds; choose one: {', '.join(f'{name}/{c}' for c in configs)}")
    versions = [(_version(path.parent.name), path.parent) for path in folders]
    newest = max((pair for pair in versions if pair[0]), default=None)
    if newest is None:
        return None
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(newest[1])
    except Exception as error:
        raise UserError(f"{newest[1]}: damaged description of a data set ({type(error).__name__})") from None
    file_format = builder.info.file_format.value if builder.info.file_format else "unknown"
    if file_format != "array_record":
        raise UserError(
            f"{newest[1]}: is prepared as {file_format}, which takes TensorFlow to read; move it away and prepare it "
            "again, where TensorFlow is installed with: tfds build --file_format=array_record"
        )
    return builder


def split_of(builder: Any, split: str) -> str | None:
    """The data set's own name for our `train` or `test`; None where it has no such split."""
    names = (split,) if split == "train" else TEST_SPLITS.get(builder.name, ("test", "validation"))
    return next((name for name in names if name in builder.info.splits), None)


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def _keys(builder: Any) -> tuple[str, str | None]:
    """The names under which a record holds its picture and its label (None: no label)."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    pictures = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not pictures:
        raise UserError(f"{builder.name}: has no pictures (its records hold {', '.join(features)})")
    supervised = builder.info.supervised_keys or ()  # the data set's own choice, where it made one
    picture = next((key for key in supervised if key in pictures), pictures[0])
    label = next((key for key in supervised if key in labels), labels[0] if labels else None)
    return picture, label
