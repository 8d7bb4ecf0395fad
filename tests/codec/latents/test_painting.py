"""The integer synthesis: the same pixels for ever and everywhere, and those that the float model means."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_content import random_content

from dfm.codec.latents import painting, payload

SIZES = [(1, 1), (1, 9), (3, 50), (17, 16), (61, 75)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_int64_and_float64_paint_the_same(size, channels):
    content = random_content(*size, channels)
    grids = [content.grids[level] for level in range(content.layout.grids)]
    one, other = (painting.paint(content.integers, grids, dtype=kind) for kind in (np.float64, np.int64))
    assert one.shape == (*size, channels) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)


def test_extreme_networks_saturate():
    """Every product and sum stays in range: float64 and int64 differ as soon as one does not."""
    content = random_content(20, 24, spread=2000.0, latent_spread=60.0)
    for group in content.networks.exponents:
        content.networks.exponents[group] = 0
    grids = [content.grids[level] for level in range(content.layout.grids)]
    one, other = (painting.paint(content.integers, grids, dtype=kind) for kind in (np.float64, np.int64))
    np.testing.assert_array_equal(one, other)
    assert {0, 255} <= set(one.ravel())  # colours are clipped before they become uint8


def test_bands_and_pieces_do_not_show(monkeypatch):
    content = random_content(61, 75)
    whole = payload.paint(content)
    for points in (1, 150, 10**9):
        monkeypatch.setattr(painting, "POINTS", points)
        if points == 1:
            monkeypatch.setattr(painting, "POINTS", 75)
        np.testing.assert_array_equal(payload.paint(content), whole)


PAINT = """
import hashlib
from random_content import random_content
from dfm.codec.latents import payload
content = random_content(128, 200)
print(hashlib.sha256(payload.pack(content) + payload.paint(content).tobytes()).hexdigest())
"""


def test_files_and_pixels_do_not_depend_on_the_threads_of_blas():
    digests = set()
    for threads in ("1", "2"):
        environment = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        run = subprocess.run(
            [sys.executable, "-c", PAINT],
            env=os.environ | environment | {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[3]}"},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout)
    assert len(digests) == 1
