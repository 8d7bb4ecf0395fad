"""Parity with peers' code: with golden vectors always, live where torch is installed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models.fourier import fourier_net

GOLDEN = Path(__file__).parents[1] / "golden" / "torch_fourier_net.npz"


def assert_equal_to(vectors):
    """Value and all gradients of our net against the peer's, relative to the largest entry."""
    count = sum(name.startswith("cos_") and not name.endswith("_grad") for name in vectors)
    layers = [{part: jnp.float32(vectors[f"{part}_{i}"]) for part in ("cos", "sin")} for i in range(count)]
    x, weights = jnp.float32(vectors["x"]), jnp.float32(vectors["weights"])

    def total(layers, x):
        y = fourier_net(layers, x)
        return (weights * y).sum(), y

    (x_and_layers, y) = jax.grad(total, argnums=(1, 0), has_aux=True)(layers, x)
    ours = {"y": y, "x_grad": x_and_layers[0]}
    ours |= {f"{part}_{i}_grad": value for i, layer in enumerate(x_and_layers[1]) for part, value in layer.items()}
    for name, value in ours.items():
        np.testing.assert_allclose(value, vectors[name], rtol=0, atol=1e-5 * np.abs(vectors[name]).max(), err_msg=name)


def test_net_equals_torch_vectors():
    with np.load(GOLDEN) as vectors:
        assert_equal_to(dict(vectors))


@pytest.mark.peers
def test_net_equals_torch_live():
    from dfm.peers.fourier import torch_fourier_net

    live = torch_fourier_net()
    assert_equal_to(live)
    with np.load(GOLDEN) as vectors:
        for name, value in live.items():
            np.testing.assert_allclose(value, vectors[name], rtol=1e-9, atol=1e-9, err_msg=name)
