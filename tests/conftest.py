"""Set before anything imports dfm or jax: shape checking, four virtual CPU devices, quick and shared compilation."""

import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

# Both workers and every subprocess of a test compile a program once. JAX's keys hold its version, the flags and the
# program, so nothing in it goes stale; it lies in the temporary folder because programs compiled for one machine are
# of no use to another; `pytest_configure` empties it when it has grown.
COMPILED = Path(tempfile.gettempdir()) / f"dfm-tests-{os.getuid()}" / "compiled"
COMPILED_BYTES_AT_MOST = 256 << 20

os.environ.setdefault("DFM_CHECK_SHAPES", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: threads of theirs would wait for each other
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
# jax_numpy_rank_promotion stays "allow". Tried on seven files with "raise" (models, ELBO, likelihoods, priors,
# distances): 27 of 151 tests failed, all where a vector of the last axis meets rows of them, [..., d] + [d], as a bias
# or a mean does; no mistake was found. What shapes are is checked by signatures, DFM_CHECK_SHAPES.
# Compiling takes most of the time of the tests: without LLVM's optimisations half of that, and half of this with the
# older emitters of fused loops. Flags that XLA_FLAGS names already stay as they are, so that
# XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true" tests what users run.
flags = ["--xla_force_host_platform_device_count=4", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end the process on this flag
    flags.append("--xla_cpu_use_fusion_emitters=false")
for flag in flags:
    if flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import UInt8  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # before the workers start
        files = list(COMPILED.glob("*"))
        if sum(path.stat().st_size for path in files) > COMPILED_BYTES_AT_MOST:
            for path in files:
                path.unlink(missing_ok=True)


def pytest_runtest_setup() -> None:
    """From the first test on that has imported orbax, trainings of this process save whole arrays.

    Of an array of which four devices hold a copy, orbax writes a quarter of each copy: a program to compile for each
    shape, at every first save, to share the work on kilobytes. Processes that tests start save as users' do.
    """
    if "orbax.checkpoint" in sys.modules:
        import jax

        handler = sys.modules["orbax.checkpoint"].type_handlers.get_type_handler(jax.Array)
        handler._min_slice_bytes_for_replica_parallel = 1 << 20


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
