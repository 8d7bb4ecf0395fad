"""What tests of the codec share: compilation is nearly all of their time, so they share small nets and few steps."""

import jax
import numpy as np
import pytest

from dfm.codec.latents import fitting as latents_fitting
from dfm.codec.weights import architectures, fitting, recipes
from dfm.picture_files import downscale

WIDTHS = (2, 2)
LADDER = ((2,), WIDTHS)
STEPS = 60


@pytest.fixture(scope="module")
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def few_steps_and_nets(monkeypatch):
    monkeypatch.setattr(recipes, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), STEPS))
    monkeypatch.setattr(architectures, "ladder", lambda channels, basis="cos_sin": LADDER)


@pytest.fixture(scope="session")
def photo(photograph):
    """12x16 RGB."""
    return np.ascontiguousarray(downscale(photograph, 18)[:12, :16])


@pytest.fixture
def no_fit(monkeypatch):
    """Fails the test where a fit is begun."""

    def refuse(*_, **__):
        pytest.fail("a fit was begun")

    monkeypatch.setattr(fitting, "train", refuse)
    monkeypatch.setattr(latents_fitting, "train_together", refuse)
