"""A folder as diffusers writes it, of random weights."""

import pytest
from other_autoencoders import canonical_tensors, write_folder


@pytest.fixture(scope="session")
def tensors():
    return canonical_tensors()


@pytest.fixture
def folder(tmp_path, tensors):
    return write_folder(tmp_path / "vae", tensors)
