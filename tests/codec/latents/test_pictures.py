"""Pictures of every kind through a fit, a file and back; and on how many devices they were fitted."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dfm import codec
from dfm.codec.bench.compilation import compilation_seconds
from dfm.codec.weights import recipes
from dfm.metrics.picture_quality import psnr

pytestmark = pytest.mark.usefixtures("quick_compilation")
HEIGHT, WIDTH = 32, 48  # as in test_profile.py: every other size compiles anew
ROOT = Path(__file__).parents[3]


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(recipes, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), 150))


def gradient() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * x + y, 255 - 5 * x, 3 * y + 2 * x], -1).astype(np.uint8)


def text() -> np.ndarray:
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    ImageDraw.Draw(page).text((2, 4), "dfm 15\nlatent", fill=(20, 20, 90))
    return np.array(page)


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def two_colours() -> np.ndarray:
    """Black and white: the clip to 0 ... 255 comes before the cast."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.where((x // 8 + y // 8) % 2, 255, 0).astype(np.uint8)[..., None].repeat(3, -1)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("make, gained", [(gradient, 15), (text, 10), (two_colours, 10), (noise, 3)])
def test_pictures_beat_their_mean_colour(make, gained):
    """By this many dB after 150 steps. The file says what its parts are, and they sum to it."""
    picture = make()
    data = codec.encode(picture, profile="latents", quality=95)
    decoded = codec.decode(data)
    assert codec.is_reference_decode(data, decoded)
    flat = np.broadcast_to(np.rint(picture.mean((0, 1))).astype(np.uint8), picture.shape)
    assert psnr(decoded, picture) > psnr(flat, picture) + gained
    facts = codec.describe(data)
    parts = facts["header_bytes"] + facts["network_bytes"] + sum(facts["grid_bytes"])
    assert parts == pytest.approx(len(data), abs=0.5) and facts["bytes"] == len(data)


@pytest.mark.usefixtures("few_steps")
def test_a_second_picture_of_a_size_compiles_nothing():
    """Whatever its quality, seed and pixels."""
    codec.encode(gradient(), profile="latents", quality=40)
    with compilation_seconds() as compilation:
        codec.encode(noise(), profile="latents", quality=70, seed=3)
    assert compilation.count == 0


ENCODE = """
import sys
import jax
import numpy as np
from dfm import codec
from dfm.codec.latents import cores
from dfm.codec.weights import recipes
cores.PART_PIXELS = cores.PART_ROWS = 8  # a picture of these tests goes to all devices
assert cores.parts_of(32, 48) == int(sys.argv[2])
recipes.EFFORT_STEPS = dict.fromkeys(recipes.EFFORT_STEPS, 20)
assert jax.device_count() == int(sys.argv[2])
picture = np.load(sys.argv[1])
sys.stdout.buffer.write(codec.encode(picture, profile="latents", quality=60))
"""


def test_files_of_any_number_of_devices_decode_to_what_the_encoder_saw(tmp_path):
    """Slow, as three processes compile a fit."""
    picture = gradient() // 2 + noise() // 8
    np.save(tmp_path / "picture.npy", picture)
    running = []
    for devices in (1, 2, 4):
        flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        command = [sys.executable, "-c", ENCODE, str(tmp_path / "picture.npy"), str(devices)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    for process in running:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        assert codec.is_reference_decode(said, codec.decode(said))
        assert psnr(codec.decode(said), picture) > 20
