"""AutoencoderKL: sizes, counts, pieces against NumPy and the lecture's worked examples."""

import jax
import jax.numpy as jnp
import pytest

from dfm.models.autoencoder_kl import (
    AutoencoderKL,
    published_variants,
)

TINY = AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name, total, encoder, decoder", [
    ("sd", 83_653_863, 34_163_592, 49_490_179),
    ("sdxl", 83_653_863, 34_163_592, 49_490_179),
    ("sd3", 83_819_683, 34_274_208, 49_545_475),
    ("flux", 83_819_683, 34_274_208, 49_545_475),
    ("kl-f4", 55_312_063, 22_351_238, 32_960_771),
])  # fmt: skip
def test_parameter_counts_are_the_published_ones(name, total, encoder, decoder):
    model = published_variants()[name]
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    assert (count(params), count(params["encoder"]), count(params["decoder"])) == (total, encoder, decoder)
