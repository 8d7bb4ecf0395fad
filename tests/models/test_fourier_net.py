"""The Fourier net against the literal Eq. 4.6; counts and order of coefficients, impossible sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_fourier import BASES, assert_close, in_float64, layer_jit

from dfm.models.fourier import (
    COEFFICIENT_NAMES,
    FourierLayer,
    FourierNet,
    coefficient_count,
    fourier_net,
    hidden_widths,
    layer_sizes,
    split_coefficients,
)
from dfm.models.literal_fourier import literal_net


def initialised(net, inputs=2, seed=0):
    return jax.jit(net.init)(jax.random.key(seed), jnp.zeros((1, inputs)))


@pytest.mark.parametrize(
    "width, depth, channels, basis, count",
    [
        (8, 6, 3, "cos_sin", 22_080),  # the thesis' compression net
        (4, 6, 1, "cas", 352),  # its decoder's outputs for MNIST
        (6, 10, 3, "cas", 3_672),  # and for CIFAR-10
        ((6, 5, 3), None, 3, "cos_sin", 2 * (4 * 6 + 64 * 5 + 32 * 3 + 8 * 3)),
    ],
)
def test_coefficient_counts(width, depth, channels, basis, count):
    assert coefficient_count(hidden_widths(width, depth), channels, basis) == count
    shapes = jax.eval_shape(FourierNet(width, depth, channels, basis).init, jax.random.key(0), jnp.zeros((1, 2)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_layers_of_a_tapering_net():
    assert hidden_widths([6, 5, 3], None) == hidden_widths((6, 5, 3), 3) == (6, 5, 3)
    assert hidden_widths(4, 3) == (4, 4, 4)
    assert layer_sizes((6, 5, 3), 1) == [(2, 6), (6, 5), (5, 3), (3, 1)]
    params = initialised(FourierNet([6, 5, 3], channels=1))["params"]
    assert {name: layer["sin"].shape for name, layer in params.items()} == {
        "layers_0": (4, 6),
        "layers_1": (64, 5),
        "layers_2": (32, 3),
        "layers_3": (8, 1),
    }


@pytest.mark.parametrize("width, depth", [(4, None), (0, 3), (4, 0), (-1, 2), ([], None), ([4, 0], None), ([4, 4], 3)])
def test_impossible_widths_are_refused(width, depth):
    with pytest.raises(ValueError):
        hidden_widths(width, depth)
    with pytest.raises(ValueError):
        FourierNet(width, depth).init(jax.random.key(0), jnp.zeros((1, 2)))


@pytest.mark.parametrize("width, basis", [((5, 5), "cos_sin"), ((6, 4, 4), "cas")])
def test_net_equals_the_literal_form(width, basis):
    # 0.05: larger coefficients make deep compositions amplify rounding
    net = FourierNet(width, channels=3, basis=basis, coefficient_init=jax.nn.initializers.normal(0.05))
    variables = initialised(net)
    x = np.random.default_rng(8).uniform(0, 1, (100, 2)).astype(np.float32)
    layers = [variables["params"][f"layers_{i}"] for i in range(len(width) + 1)]

    def loss(net, layers, x):
        y = net(layers, x)
        return (y * y).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(functools.partial(loss, fourier_net), has_aux=True))(
        layers, jnp.asarray(x)
    )
    (_, reference), expected = in_float64(
        jax.value_and_grad(functools.partial(loss, literal_net), has_aux=True), jax.tree.map(np.asarray, layers), x
    )
    assert_close(y, reference)
    assert_close(gradients, expected)
    assert_close(jax.jit(net.apply)(variables, jnp.asarray(x)), reference)


def test_explicit_coefficients_equal_own_parameters():
    net = FourierNet(4, 1, coefficient_init=jax.nn.initializers.normal(0.2))
    variables = initialised(net)
    x = jax.random.uniform(jax.random.key(1), (2, 9, 2))
    layers = [variables["params"][f"layers_{i}"] for i in range(2)]
    apply = jax.jit(net.apply)
    np.testing.assert_array_equal(apply({}, x, layers), apply(variables, x))
    apply = jax.jit(FourierLayer(4).apply)
    np.testing.assert_array_equal(apply({}, x, layers[0]), apply({"params": layers[0]}, x))


def test_output_is_bounded_by_tanh():
    net = FourierNet(4, 2, coefficient_init=jax.nn.initializers.normal(1.0))
    y = jax.jit(net.apply)(initialised(net), jax.random.uniform(jax.random.key(1), (500, 2)))
    assert y.shape == (500, 3)
    assert float(jnp.abs(y).max()) <= 1.0
    assert float(y.min()) < -0.5 and float(y.max()) > 0.5


@pytest.mark.parametrize("basis", BASES)
def test_initial_coefficients_have_the_variance_of_the_thesis(basis):
    leaves = jax.tree.leaves(initialised(FourierNet(8, 6, basis=basis)))
    values = np.concatenate([leaf.ravel() for leaf in leaves]).astype(np.float64)
    assert np.mean(values**2) == pytest.approx(2e-10, rel=0.1)


def test_split_coefficients_order():
    """Layers in order, cos before sin, row-major, bit 0 of the row for the first input."""
    layers = split_coefficients(jnp.arange(24.0), (2,), 1, "cos_sin")
    expected = [
        {"cos": [[0, 1], [2, 3], [4, 5], [6, 7]], "sin": [[8, 9], [10, 11], [12, 13], [14, 15]]},
        {"cos": [[16], [17], [18], [19]], "sin": [[20], [21], [22], [23]]},
    ]
    assert [list(layer) for layer in layers] == [["cos", "sin"]] * 2
    assert jax.tree.map(lambda array: array.tolist(), layers) == expected


@pytest.mark.parametrize(
    "row, phase",
    [(0, lambda x1, x2: 0 * x1), (1, lambda x1, x2: x1), (2, lambda x1, x2: x2), (3, lambda x1, x2: x1 + x2)],
)
def test_meaning_of_each_coefficient(row, phase):
    x = np.random.default_rng(9).uniform(-1, 1, (20, 2)).astype(np.float32)
    turn = 2 * np.pi * phase(*x.T.astype(np.float64))
    for offset, expected in ((0, np.cos(turn)), (4, np.sin(turn))):
        vector = jnp.zeros(12).at[offset + row].set(1.0)
        layer = split_coefficients(vector, (1,), 1, "cos_sin")[0]
        np.testing.assert_allclose(layer_jit(jnp.asarray(x), layer)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("basis", BASES)
def test_split_coefficients_of_a_batch(basis):
    widths, channels = (3, 2), 1
    count = coefficient_count(widths, channels, basis)
    vectors = jax.random.normal(jax.random.key(0), (2, 5, count))
    layers = split_coefficients(vectors, widths, channels, basis)
    assert [layer[COEFFICIENT_NAMES[basis][0]].shape for layer in layers] == [(2, 5, 4, 3), (2, 5, 8, 2), (2, 5, 4, 1)]
    one = split_coefficients(vectors[1, 4], widths, channels, basis)
    jax.tree.map(lambda many, single: np.testing.assert_array_equal(many[1, 4], single), layers, one)
    flat = jnp.concatenate([layer[name].reshape(2, 5, -1) for layer in layers for name in COEFFICIENT_NAMES[basis]], -1)
    np.testing.assert_array_equal(flat, vectors)
    for wrong in (count - 1, count + 1, 0):
        with pytest.raises(ValueError, match="coefficients for a net that needs"):
            split_coefficients(jnp.zeros(wrong), widths, channels, basis)
