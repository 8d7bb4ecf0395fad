"""Named arrays in and out of .npz and .safetensors files, never a pickle; and hashes of arrays, not of files."""

import contextlib
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.safetensors_files import SUFFIXES, list_tensors

Arrays = dict[str, np.ndarray]


@contextlib.contextmanager
def open_npz(path: str | os.PathLike) -> Iterator[np.lib.npyio.NpzFile]:
    """The named arrays of an .npz file, never a pickle, read as they are asked for; ValueError for a lone array."""
    with open(path, "rb") as stream:  # np.load itself would leave a file that is no archive open
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array, not an archive of named ones")
        with file:
            yield file


def read_arrays(path: str | os.PathLike) -> Arrays:
    """All arrays of an .npz or .safetensors file; UserError, in one line that names the path, for everything else."""
    name = os.fspath(path)
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", *SUFFIXES):
        raise UserError(f"{name}: only .npz and .safetensors files are read here; pickles never are")
    if suffix in SUFFIXES:
        if not Path(path).exists():
            raise UserError(f"{name}: no such file")
        return {key: tensor.read() for key, tensor in list_tensors(Path(path)).items()}
    try:
        with open_npz(path) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged, or not of the kind its name says ({reason})") from None


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz file that is either complete or not there."""
    if Path(path).suffix.lower() != ".npz":
        raise UserError(f"{path}: the name must end in .npz")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes keyword arrays for its own options
    write_atomically(path, buffer.getvalue())


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over name, type, shape and bytes of each array, by name: the same however a file stores them."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{list(array.shape)}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def hash_parameters(tree: Any) -> str:
    """`hash_arrays` of the leaves of a tree of parameters, latents among them where a model has a table."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return hash_arrays({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})


def hash_pictures(digests: Iterable[bytes]) -> str:
    """sha256 of a set of pictures from their own digests, whatever their order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def picture_digest(picture: np.ndarray) -> bytes:
    """sha256 of one picture: type, shape and values."""
    header = f"{picture.dtype.str}|{list(picture.shape)}|".encode()
    return hashlib.sha256(header + np.ascontiguousarray(picture).tobytes()).digest()
