"""Prepared data: `<data_dir>/<name>/{train,test}-{images,labels}.npy`, read as memory maps, written by rename."""

import contextlib
import os
import secrets
from pathlib import Path

import numpy as np

from dfm.data.dataset import ArrayPictures
from dfm.errors import UserError


def images_path(data_dir: Path, name: str, split: str) -> Path:
    return data_dir / name / f"{split}-images.npy"


def labels_path(data_dir: Path, name: str, split: str) -> Path:
    return data_dir / name / f"{split}-labels.npy"


def read_arrays(data_dir: Path, name: str, split: str) -> tuple[ArrayPictures, np.ndarray] | None:
    """Pictures (memory-mapped) and labels of one split, or None where nothing is prepared.

    Without a file of labels they are all 0. Damaged and ill-shaped files raise UserError.
    """
    path = images_path(data_dir, name, split)
    if not path.exists():
        return None
    images = _open(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(f"{path}: holds {_kind(images)}; pictures are uint8 [N, height, width, 1 or 3]")
    if 0 in images.shape:
        raise UserError(f"{path}: holds no picture ({_kind(images)})")
    return ArrayPictures(images), read_labels(data_dir, name, split, len(images))


def read_labels(data_dir: Path, name: str, split: str, count: int) -> np.ndarray:
    """Labels of one split of `count` pictures, int32; without a file they are all 0."""
    path = labels_path(data_dir, name, split)
    if not path.exists():
        return np.zeros(count, np.int32)
    labels = _open(path)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UserError(f"{path}: holds {_kind(labels)}; labels are integers [N]")
    if len(labels) != count:
        raise UserError(f"{path}: {len(labels):,} labels, but {count:,} pictures; prepare it again")
    return np.array(labels, np.int32)


def _open(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError):
        raise UserError(f"{path}: damaged, or not a .npy file of numbers; remove it and prepare it again") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path}: an .npz archive, where a .npy file of one array is needed")
    return array


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


@contextlib.contextmanager
def writing(path: Path, shape: tuple[int, ...], dtype=np.uint8):
    """A memory-mapped array to fill; it appears under `path` when the block ends well, and not at all otherwise."""
    temporary = path.parent / f".dfm-{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        _claim(temporary)
        yield array
        array.flush()
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _claim(path: Path) -> None:
    # a full disk then fails here with an error: later, in the memory map, it would kill the process
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
