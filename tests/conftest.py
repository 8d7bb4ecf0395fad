"""Set before anything imports dfm or jax: shape checking on, four virtual CPU devices."""

import os

os.environ.setdefault("DFM_CHECK_SHAPES", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()

import importlib.util  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import UInt8  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is None:
        skip = pytest.mark.skip(reason="torch is not installed; `bash scripts/test.sh --peers` installs it")
        for item in items:
            if item.get_closest_marker("peers"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def photograph() -> UInt8[np.ndarray, "64 96 3"]:
    """scikit-learn's china.jpg, 427x640, at a longest side of 96; read-only, because tests share it."""
    return _sample_photograph("china.jpg")


@pytest.fixture(scope="session")
def other_photograph() -> UInt8[np.ndarray, "64 96 3"]:
    """scikit-learn's flower.jpg in the same size; read-only."""
    return _sample_photograph("flower.jpg")


def _sample_photograph(name: str) -> UInt8[np.ndarray, "64 96 3"]:
    from sklearn.datasets import load_sample_image

    from dfm.picture_files import downscale

    picture = downscale(load_sample_image(name), longest_side=96)
    picture.setflags(write=False)
    return picture
