"""Tensors of .safetensors files: what is cut off or damaged is named; types beside floats are read."""

import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from dfm.array_files import read_arrays
from dfm.errors import UserError
from dfm.safetensors_files import list_tensors


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({"a": np.arange(6, dtype=np.float32), "b.weight": np.ones((2, 3), np.float32)}, path)
    return path


def test_truncated_files_name_the_tensor(file):
    whole = file.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    cut = list_tensors(file)["b.weight"]
    for length, message in (
        (cut.end - 4, "truncated: it ends within tensor b.weight"),
        (start - 10, "truncated within its header"),
        (3, "truncated within its header"),
        (0, "truncated within its header"),
    ):
        file.write_bytes(whole[:length])
        for read in (list_tensors, read_arrays):
            with pytest.raises(UserError, match=message):
                read(file)
    file.write_bytes(whole[:8] + b"x" * (len(whole) - 8))
    with pytest.raises(UserError, match="damaged header"):
        list_tensors(file)


def test_every_type_is_read_as_it_is_stored(tmp_path):
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_)
    arrays = {np.dtype(kind).name: np.array([0, 1, 1], kind) for kind in kinds} | {"scalar": np.array(7, np.int64)}
    save_file(arrays, tmp_path / "all.safetensors")
    found = read_arrays(tmp_path / "all.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(UserError, match="no such file"):
        read_arrays(tmp_path / "none.safetensors")
