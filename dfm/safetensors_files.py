"""Tensors in .safetensors files, by name: one file, or several with an index; only what is asked for is read.

A reader of our own and not the package's: it says which tensor is damaged, and reads bfloat16 into NumPy.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dfm.errors import UserError
from dfm.files import write_atomically

FLOATS = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
INTEGERS = {f"{sign}{8 * size}": np.dtype(f"<{sign.lower()}{size}") for sign in "IU" for size in (1, 2, 4, 8)}
DTYPES = FLOATS | INTEGERS | {"BOOL": np.dtype(bool)}
SUFFIX, INDEX_SUFFIX = ".safetensors", ".safetensors.index.json"
SUFFIXES = (SUFFIX, ".sft")
LARGEST_HEADER = 100_000_000  # bytes, the format's own limit


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies; `begin` and `end` in bytes from the start of the file."""

    path: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def read(self) -> np.ndarray:
        """Its values; UserError where the file ends before it does, or the type is not known here."""
        if self.kind not in DTYPES:
            raise UserError(f"{self.path}: tensor {self.name} is of type {self.kind}, not one of {', '.join(DTYPES)}")
        dtype = DTYPES[self.kind]
        if self.end - self.begin != dtype.itemsize * int(np.prod(self.shape, dtype=np.int64)):
            raise UserError(
                f"{self.path}: damaged: tensor {self.name} of {list(self.shape)} has {self.end - self.begin:,} bytes"
            )
        with open(self.path, "rb") as file:
            file.seek(self.begin)
            data = file.read(self.end - self.begin)
        if len(data) < self.end - self.begin:
            raise UserError(f"{self.path}: truncated: it ends within tensor {self.name}")
        return np.frombuffer(data, dtype).reshape(self.shape)


def list_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, or of the files that an index, .json, names.

    Raises:
        UserError: a missing or damaged file; a truncated one names the first tensor that is not whole.
    """
    path = Path(path)
    if path.suffix == ".json":
        return _list_shards(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: only {SUFFIX} files are read; pickles (.bin, .ckpt, .pt) never are")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise UserError(f"{path}: truncated within its header, or no {SUFFIX} file")
            header = json.loads(file.read(length))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path}: damaged header, or no {SUFFIX} file") from None
    tensors = _entries(path, header, 8 + length)
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.end):
        if not 8 + length <= tensor.begin <= tensor.end:
            raise UserError(f"{path}: damaged header: tensor {tensor.name} lies outside of the file")
        if tensor.end > size:
            raise UserError(f"{path}: truncated: it ends within tensor {tensor.name}")
    return tensors


def _entries(path: Path, header: Any, start: int) -> dict[str, Tensor]:
    tensors = {}
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            shape = tuple(int(size) for size in entry["shape"])
            tensors[name] = Tensor(path, name, str(entry["dtype"]), shape, begin, end)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: damaged header, or no {SUFFIX} file") from None
    return tensors


def _list_shards(index: Path) -> dict[str, Tensor]:
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(files.values()))
    except OSError as error:
        raise UserError(f"{index}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: damaged, or no index of {SUFFIX} files") from None
    found: dict[str, Tensor] = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise UserError(f"{index}: {shard!r} is not the name of a file beside it")
        if not (index.parent / shard).is_file():
            missing = next(name for name, file in files.items() if file == shard)
            raise UserError(f"{index.parent / shard}: missing; it holds tensor {missing} and others")
        found |= list_tensors(index.parent / shard)
    for name, shard in files.items():
        if name not in found:
            raise UserError(f"{index.parent / shard}: tensor {name} is missing, which {index.name} places there")
    return {name: found[name] for name in files}


def write_tensors(folder: Path, stem: str, tensors: Mapping[str, np.ndarray], shard_bytes: int | None = None) -> None:
    """<stem>.safetensors, or numbered files of at most `shard_bytes` with an index where one would be larger."""
    from safetensors.numpy import save

    shards = _split(tensors, shard_bytes)
    for number, shard in enumerate(shards):
        name = f"{stem}{SUFFIX}" if len(shards) == 1 else _shard_name(stem, number, len(shards))
        contiguous = {key: np.ascontiguousarray(value) for key, value in shard.items()}
        write_atomically(folder / name, save(contiguous, metadata={"format": "pt"}))  # as PyTorch's readers want it
    if len(shards) > 1:
        places = {key: _shard_name(stem, i, len(shards)) for i, shard in enumerate(shards) for key in shard}
        index = {"metadata": {"total_size": sum(value.nbytes for value in tensors.values())}, "weight_map": places}
        write_atomically(folder / f"{stem}{INDEX_SUFFIX}", (json.dumps(index, indent=2) + "\n").encode())


def _shard_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number + 1:05d}-of-{count:05d}{SUFFIX}"


def _split(tensors: Mapping[str, np.ndarray], shard_bytes: int | None) -> list[dict[str, np.ndarray]]:
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, value in tensors.items():
        if shard_bytes is not None and shards[-1] and size + value.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    return shards
