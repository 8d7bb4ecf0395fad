"""What some tests need of the machine, and how a new one gets it."""

import importlib.util

import pytest

needs_diffusers = pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None,
    reason="diffusers is not installed; `bash scripts/test.sh --peers` installs it",
)
