"""Contents of files that no picture was fitted to: random networks and latents."""

import numpy as np

from dfm.codec.latents import quantization, shapes
from dfm.codec.latents.payload import Content
from dfm.codec.latents.quantization import Quantized
from dfm.codec.latents.shapes import Layout


def random_networks(layout: Layout, seed: int = 0, spread: float = 6.0) -> Quantized:
    """Integers of this standard deviation under the usual steps; narrow distributions of latents."""
    rng = np.random.default_rng(seed)
    exponents = {group: quantization.GROUPS[group][1] for group in quantization.groups(layout)}
    integers = {
        name: np.rint(rng.normal(0, spread, shape)).astype(np.int64)
        for name, shape in shapes.array_shapes(layout).items()
    }
    integers["bias"] += 2 ** (exponents["bias"] - 1)
    return Quantized(exponents, integers)


def random_content(
    height: int, width: int, channels: int = 3, seed: int = 0, spread: float = 6.0, latent_spread: float = 1.0
) -> Content:
    layout = Layout(height, width, channels, shapes.usual_grids(height, width))
    rng = np.random.default_rng(seed + 1)
    grids = {
        level: np.clip(np.rint(rng.laplace(0, latent_spread, shape)), -64, 63).astype(np.int64)
        for level, shape in enumerate(layout.grid_shapes)
    }
    return Content(layout, random_networks(layout, seed, spread), grids)
