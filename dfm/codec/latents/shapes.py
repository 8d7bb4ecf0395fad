"""Shapes of the latents profile: grids, what each latent is predicted from, and the arrays of the three networks.

Both sides read them here, so this file imports neither JAX nor anything that fits.
"""

import math
from typing import NamedTuple

CHANNELS = (1, 3)
MOST_GRIDS = 9
LATENT_LIMIT = 64  # latents are integers in [-64, 63]

# Decoded before a latent, as (dx, dy). All reach right by at most one a row above, so that the latents with equal
# x + 2 y depend only on smaller x + 2 y: they are decoded together.
NEIGHBOURS = ((-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2), (0, -3), (-3, 0), (-2, -1), (1, -2))
WAVE_SLOPE = 2
REACH_UP, REACH_LEFT, REACH_RIGHT = 3, 3, 1
PARENTS = 4  # of the next coarser grid: the latent at the same place and its nearest three around the pixel
CONTEXT_INPUTS = len(NEIGHBOURS) + PARENTS
HIDDEN = 10  # ReLU units of the synthesis
UPSAMPLING_TAPS = 4  # of each of the two phases; one phase is the other one reversed


class Layout(NamedTuple):
    """Height and width of a picture, its channels and the number of its grids."""

    height: int
    width: int
    channels: int
    grids: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def grid_shapes(self) -> list[tuple[int, int]]:
        """[rows, columns] of each grid, finest first: ceil(height / 2^k), ceil(width / 2^k)."""
        return [(-(-self.height >> k), -(-self.width >> k)) for k in range(self.grids)]

    @property
    def latents(self) -> int:
        return sum(rows * columns for rows, columns in self.grid_shapes)

    @property
    def steps(self) -> int:
        """Sequential steps of decoding all grids."""
        return sum(sequential_steps(*shape) for shape in self.grid_shapes)


def sequential_steps(rows: int, columns: int) -> int:
    """Waves in which a grid is decoded, one after the other."""
    return columns + WAVE_SLOPE * (rows - 1)


def layout_of(shape: tuple[int, ...], grids: int | None = None) -> Layout:
    """Of a picture [height, width, channels]; the usual number of grids where none is given."""
    height, width, channels = shape
    return Layout(height, width, channels, usual_grids(height, width) if grids is None else grids)


def usual_grids(height: int, width: int) -> int:
    """Grids of a picture: down to about 4 latents on the longer side, 7 at most, and more above a megapixel."""
    most = 7 if height * width < 2**20 else 8 if height * width < 3 * 2**20 else MOST_GRIDS
    return max(1, min(most, int(math.log2(max(height, width))) - 1))


def most_grids(height: int, width: int) -> int:
    """The number of grids that a file may have: the coarsest that adds anything is a single latent."""
    return min(MOST_GRIDS, 1 + (max(height, width) - 1).bit_length())


def multiplications_per_pixel(layout: Layout) -> float:
    """Of the decoder: context model, upsampling, synthesis, filters."""
    grids, channels = layout.grids, layout.channels
    context = CONTEXT_INPUTS * (2 * CONTEXT_INPUTS + 2)
    upsampling = sum(3 * UPSAMPLING_TAPS * (grids - k) / 2 * 4.0 ** (1 - k) for k in range(1, grids))
    synthesis = channels * (grids + HIDDEN + 2 * grids * (2 * grids + 2)) + HIDDEN * grids + grids
    return context * layout.latents / layout.pixels + upsampling + synthesis + 18 * channels**2


def frequency_pairs(grids: int) -> list[tuple[int, int]]:
    """The frequency vectors with two ones, as positions i < j of the ones."""
    return [(i, j) for i in range(grids) for j in range(i + 1, grids)]


def array_shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all arrays of the networks, in the order of the file."""
    grids, channels = layout.grids, layout.channels
    pairs = len(frequency_pairs(grids))
    shapes: dict[str, tuple[int, ...]] = {
        "context_weights_1": (CONTEXT_INPUTS, CONTEXT_INPUTS),
        "context_weights_2": (CONTEXT_INPUTS, CONTEXT_INPUTS),
        "context_weights_3": (2, CONTEXT_INPUTS),
        "context_bias_1": (CONTEXT_INPUTS,),
        "context_bias_2": (CONTEXT_INPUTS,),
        "context_bias_3": (2,),
        "grid_scale": (grids,),
        "upsampling": (grids - 1, UPSAMPLING_TAPS),
        "linear": (channels, grids),
        "bias": (channels,),
        "hidden_weights": (HIDDEN, grids),
        "hidden_bias": (HIDDEN,),
        "output_weights": (channels, HIDDEN),
        "input_scale": (grids,),
        "single": (channels, 2 * grids),
        "pair_cos": (channels, pairs),
        "pair_sin": (channels, pairs),
        "filter_1": (channels, channels, 3, 3),
        "filter_2": (channels, channels, 3, 3),
        "filter_bias": (channels,),
    }
    return {name: shape for name, shape in shapes.items() if math.prod(shape)}


def parameter_count(layout: Layout) -> int:
    return sum(math.prod(shape) for shape in array_shapes(layout).values())
