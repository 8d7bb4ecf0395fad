import jax
import pytest
from sample_command import any_size, own_cache, run, show, table, two_rows

__all__ = ["any_size", "own_cache", "run", "show", "table", "two_rows"]  # fixtures


@pytest.fixture(scope="package", autouse=True)
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
