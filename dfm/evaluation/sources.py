"""Where pictures come from: a folder, an .npz file, a data set, the samples of a run; uint8, of one size, in order."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from dfm.array_files import open_npz
from dfm.errors import UserError, one_line
from dfm.picture_files import central_crop

if TYPE_CHECKING:
    from dfm.data import Dataset
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData

Shape = tuple[int, int, int]
CHUNK = 256
LOSSY_SUFFIXES = (".jpg", ".jpeg")
PICTURE_NAMES = ("images", "arr_0", "samples")  # ours; NumPy's own and guided-diffusion's; torch-fidelity's
SHUFFLE_SEED = 0  # of the pictures that are taken where fewer than all are wanted


class Source(Protocol):
    """A finite list of pictures.

    Attributes:
        id: what it is, as a result states it.
        count: number of pictures.
        shape: (height, width, channels) of each.
        warnings: what a reader of the numbers must know.
        labels: classes of the pictures, where they have some: a conditional model needs them.
    """

    id: str
    count: int
    shape: Shape
    warnings: list[str]
    labels: np.ndarray | None

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Pictures start, ..., stop - 1 in batches of any length."""


@dataclass
class ArraySource:
    """Pictures in memory, or mapped into it."""

    id: str
    images: np.ndarray = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.count = len(self.images)
        self.shape: Shape = self.images.shape[1:]

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, CHUNK):
            yield self.images[first : min(first + CHUNK, stop)]


def npz_source(path: str) -> ArraySource:
    """Pictures, uint8 [N, H, W, C], of an .npz file, under one of PICTURE_NAMES."""
    try:
        with open_npz(path) as file:
            name = next((name for name in PICTURE_NAMES if name in file.files), None)
            if name is None:
                names = ", ".join(file.files) or "none"
                raise UserError(f"{path}: holds no array named {' or '.join(PICTURE_NAMES)} (there are: {names})")
            images = file[name]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged, or no .npz file ({one_line(error)})") from None
    return ArraySource(Path(path).name, checked_pictures(images, path))


def checked_pictures(images: np.ndarray, name: str) -> np.ndarray:
    """[N, H, W, C] of uint8 pictures whose grey ones may lack a channel; UserError for anything else."""
    if images.dtype != np.uint8:
        has_nan = images.dtype.kind == "f" and not np.all(np.isfinite(images))
        nan = ", and hold NaN or infinities" if has_nan else ""
        raise UserError(f"{name}: images must be uint8, 0 to 255; these are {images.dtype}{nan}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise UserError(f"{name}: images must be [N, H, W, C] with one or three channels, not {list(images.shape)}")
    return images


class FolderSource:
    """Picture files of a folder and its sub-folders in the order of their names, read when they are needed.

    As in training, grey ones among coloured ones become coloured, and all that are damaged are named at once: here,
    before any work is done with the others (of more than CHECKED_PICTURES, those whose first bytes show it).

    size: bring every picture to size x size: the shorter side to `size` (Pillow's bicubic, which averages where it
    shrinks), then the central window; grey ones become coloured. None: they must be of one size.
    may_resize: whether the user has a way to name a size, which the message about mixed sizes then offers.
    """

    def __init__(self, path: str, size: int | None = None, may_resize: bool = True):
        from dfm.data.folder import (
            CHECKED_PICTURES,
            FolderPictures,
            picture_paths,
            refuse_damaged,
            shapes_of,
            split_roots,
        )

        folder = Path(path)
        if split_roots(folder).keys() > {"train"}:
            raise UserError(f"{path}: holds train and test; name one of them, such as {folder / 'test'}")
        paths = list(picture_paths(folder))
        if not paths:
            raise UserError(f"{path}: no pictures in this folder")
        shapes = shapes_of(paths)
        self._size, self._may_resize = size, may_resize
        self._pictures = FolderPictures(folder, paths, shapes, max(shape[2] for shape in shapes))
        if size is None:
            self._check_sizes()
        if len(paths) <= CHECKED_PICTURES:
            refuse_damaged(self._pictures.damaged(None), len(paths))
        self.id, self.count = folder.resolve().name, len(paths)
        self.labels: np.ndarray | None = None
        if size is None:
            self.shape: Shape = (*shapes[0][:2], self._pictures.channels)
        else:
            self.id += f" at {size}x{size}"
            self.shape = (size, size, 3)
        lossy = sum(file.suffix.lower() in LOSSY_SUFFIXES for file in paths)
        self.warnings = [f"{self.id}: {lossy} JPEG files; their losses move every metric, use PNG"] if lossy else []
        if size is None and self._pictures.note:
            self.warnings.append(self._pictures.note)

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        from dfm.data.dataset import decode_side_by_side

        for first in range(start, stop, CHUNK):
            yield np.stack(decode_side_by_side(self._read, list(range(first, min(first + CHUNK, stop)))))

    def _read(self, row: int) -> np.ndarray:
        picture = self._pictures.picture(row)
        return picture if self._size is None else _central_square(picture, self._size)

    def _check_sizes(self) -> None:
        first, *others = self._pictures.shapes
        for path, shape in zip(self._pictures.paths[1:], others, strict=True):
            if shape[:2] != first[:2]:
                wanted, found = (" x ".join(map(str, size[:2])) for size in (first, shape))
                hint = " (or a size to bring them to)" if self._may_resize else ""
                raise UserError(
                    f"{path}: is {found} (height x width), but {self._pictures.paths[0].name} is {wanted}: "
                    f"pictures of one size are needed{hint}"
                )


def _central_square(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, 3], see FolderSource."""
    height, width, channels = picture.shape
    image = Image.fromarray(picture.squeeze(-1) if channels == 1 else picture).convert("RGB")
    height, width = (max(size, round(side * size / min(height, width))) for side in (height, width))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return central_crop(resized, size)


class DatasetSource:
    """One split of a data set by name, or one class of it."""

    def __init__(self, dataset: "Dataset", label: int = -1):
        self.dataset, self.label = dataset, label
        self.id, self.count = f"{dataset.name}:{dataset.split}", len(dataset)
        if label != -1:
            self.id += f"[label={label}]"
        self.rows = np.arange(self.count)
        self.labels: np.ndarray | None = dataset.labels
        if dataset.shape is None:
            raise UserError(f"{self.id}: its pictures differ in size; metrics need one size")
        self.shape: Shape = dataset.shape
        self.warnings: list[str] = []

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, CHUNK):
            yield self.dataset.take(np.arange(first, min(first + CHUNK, stop)))


class SampleSource:
    """Samples 0, ..., count - 1 of a run: sample i depends on the seed and i alone.

    label: their class, of a model or a prior that is conditioned on one; None: drawn as the training has them.
    """

    def __init__(
        self,
        data: "RunData",
        prior: Callable[[], "Prior"],
        seed: int,
        count: int,
        temperature: float = 1.0,
        label: int | None = None,
    ):
        self.data, self.prior, self.seed, self.count, self.temperature = data, prior, seed, count, temperature
        model = data.run.model
        self.label = label
        self.id = "samples" if label is None else f"samples[label={label}]"
        self.shape: Shape = (model.height, model.width, model.channels)
        self.warnings: list[str] = []
        self.labels: np.ndarray | None = None

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        from dfm.sampling import draw

        labels: Any = self.label
        if labels is None and self.data.run.model.classes:
            labels = self.data.sample_labels(self.seed, start, stop - start)
        run, count = self.data.run, stop - start
        return draw(run, self.prior(), self.seed, start, count, temperature=self.temperature, labels=labels)


@dataclass
class Subset:
    """Some pictures of a source, each at most once and in the source's order, drawn with a fixed seed.

    A drawn subset and not the first ones: folders and data sets are often sorted by class.
    """

    source: Source
    wanted: int

    def __post_init__(self) -> None:
        if self.wanted > self.source.count:
            raise UserError(f"{self.source.id}: has {self.source.count} pictures, not {self.wanted}")
        self.count, self.shape, self.warnings = self.wanted, self.source.shape, self.source.warnings
        self.id = f"{self.source.id}[{self.wanted}]"
        drawn = np.random.default_rng(SHUFFLE_SEED).permutation(self.source.count)[: self.wanted]
        self.rows = np.sort(drawn)
        self.labels = None if self.source.labels is None else self.source.labels[self.rows]

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        rows = self.rows[start:stop]
        position = 0  # of the next batch in the source
        for batch in self.source.batches(0, int(rows[-1]) + 1 if len(rows) else 0):
            inside = rows[(rows >= position) & (rows < position + len(batch))] - position
            if len(inside):
                yield batch[inside]
            position += len(batch)


@dataclass
class Transformed:
    """A source whose pictures go through a function first (legacy protocols)."""

    source: Source
    function: Callable[[np.ndarray], np.ndarray]
    id: str

    def __post_init__(self) -> None:
        self.count, self.warnings, self.labels = self.source.count, self.source.warnings, self.source.labels
        height, width, channels = self.function(np.zeros((1, *self.source.shape), np.uint8)).shape[1:]
        self.shape: Shape = (height, width, channels)

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        return map(self.function, self.source.batches(start, stop))


def names_dataset(spec: str) -> bool:
    """Whether this is NAME:SPLIT, and not the folder or the file of this name."""
    path = Path(spec.removeprefix("folder:")).expanduser()
    return not (path.exists() or path.suffix.lower() == ".npz" or spec.startswith("folder:")) and ":" in spec


def open_source(
    spec: str, data_dir: str | None = None, label: int | None = None, size: int | None = None, may_resize: bool = True
) -> Source:
    """A folder, an .npz of pictures, or a data set and its split such as cifar10:test.

    Args:
        label: one class of a data set, -1 for all; UserError for what has no classes.
        size: see FolderSource, and UserError for what is no folder.
    """
    path = Path(spec.removeprefix("folder:")).expanduser()
    is_archive = path.suffix.lower() == ".npz" and size is None
    if label is not None and (path.is_dir() or is_archive):
        raise UserError(f"{spec}: label chooses a class of a data set; a folder or an .npz has none")
    if path.is_dir():
        return FolderSource(str(path), size, may_resize)
    if is_archive:
        return npz_source(str(path))
    if path.is_file():
        needed = "a folder of pictures or an .npz file" if size is None else "a folder of pictures, with a size,"
        raise UserError(f"{spec}: {needed} is needed, not a single file")
    name, colon, split = spec.rpartition(":")
    if not colon or "/" in split or spec.startswith("folder:"):
        raise UserError(f"{spec}: no such folder or file, and not of the form NAME:SPLIT such as cifar10:test")
    if size is not None:
        raise UserError(f"{spec}: a size is for folders of pictures")
    from dfm.data import load

    label = -1 if label is None else label
    return DatasetSource(load(name, split, data_dir, label), label)
