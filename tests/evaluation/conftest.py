import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
