"""Files of named arrays: what is no such file is one line, and is closed."""

import numpy as np
import pytest

from dfm.array_files import read_arrays, write_npz
from dfm.errors import UserError
from dfm.evaluation.sources import npz_source
from dfm.priors.files import load


def test_named_arrays_come_back(tmp_path):
    write_npz(tmp_path / "two.npz", {"a": np.arange(3), "b": np.ones((2, 1), np.float32)})
    read = read_arrays(tmp_path / "two.npz")
    assert read["a"].tolist() == [0, 1, 2] and read["b"].dtype == np.float32 and len(read) == 2


@pytest.mark.parametrize("reader", [read_arrays, npz_source, load])
def test_a_lone_array_under_an_archive_s_name_is_refused(tmp_path, reader):
    path = tmp_path / "lone.npz"
    with open(path, "wb") as file:
        np.save(file, np.zeros((2, 3, 3, 3), np.uint8))
    with pytest.raises(UserError, match=r"lone\.npz: .*one array, not an archive"):
        reader(path)
