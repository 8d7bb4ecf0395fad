"""Rounding to steps, and which steps."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from dfm.codec import entropy
from dfm.codec.weights import fitting, quantization
from dfm.codec.weights.coefficients import dequantize, step_size
from dfm.models.fourier import fourier_net
from dfm.models.literal_fourier import literal_net


def random_layers(widths=(2, 3), channels=1, pictures=1, seed=0, scale=0.2):
    generator = np.random.default_rng(seed)
    sizes = fitting.layer_sizes(widths, channels)
    return [
        {name: jnp.asarray(generator.normal(0, scale, (pictures, 2**m, n)), jnp.float32) for name in ("cos", "sin")}
        for m, n in sizes
    ]


def test_rounding_to_steps():
    layers = random_layers(pictures=2)
    steps = jnp.array([[0.25, 0.0, 0.125], [0.0, 0.5, 0.0625]])
    rounded = fitting.round_to_steps(layers, steps)
    for number, (before, after) in enumerate(zip(layers, rounded, strict=True)):
        for picture, step in enumerate(steps[:, number].tolist()):
            for name in before:
                found, original = np.asarray(after[name][picture]), np.asarray(before[name][picture])
                expected = np.round(original / step) * np.float32(step) if step else original
                np.testing.assert_allclose(found, expected, atol=1e-7)


def test_gradients_pass_straight_through_rounding():
    layers, x = random_layers(), jnp.asarray(np.random.default_rng(1).random((1, 20, 2)), jnp.float32)
    steps = jnp.array([[0.25, 0.0, 0.125]])

    def loss(layers, rounded):
        return jnp.sum(fourier_net(fitting.round_to_steps(layers, steps) if rounded else layers, x) ** 2)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found, expected = gradient(layers, True), gradient(fitting.round_to_steps(layers, steps), False)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_layer_sensitivity_is_the_root_mean_square_jacobian(monkeypatch):
    """Up to one common factor, on many probes; the literal net's exact Jacobian is the reference."""
    monkeypatch.setattr(quantization, "PROBES", 400)
    monkeypatch.setattr(quantization, "PROBE_POINTS", 200)
    layers, input_scale = random_layers((2, 2), channels=2, pictures=2), 0.75
    layers[1] = {name: 0.1 * c for name, c in layers[1].items()}
    many_probes = jax.jit(quantization.layer_sensitivity.__wrapped__, static_argnums=1)  # the original has compiled 16
    found = np.asarray(many_probes(layers, input_scale))
    grid = (np.indices((24, 24)).reshape(2, -1).T + 0.5) / 24 * input_scale
    exact_jacobian = jax.jit(jax.jacobian(literal_net))
    for picture, row in enumerate(found):
        net = [{name: c[picture] for name, c in layer.items()} for layer in layers]
        jacobian = exact_jacobian(net, jnp.asarray(grid, jnp.float32))
        exact = [float(jnp.sqrt(jnp.mean(jnp.stack([j**2 for j in layer.values()])))) for layer in jacobian]
        np.testing.assert_allclose(row / row[-1], np.array(exact) / exact[-1], rtol=0.15)


def test_step_indices():
    net = [{name: np.asarray(c[0]) for name, c in layer.items()} for layer in random_layers()]
    sensitivity = np.array([1.0, 4.0, 2.0])
    assert quantization.step_indices(net, sensitivity, 80).tolist() == [64, 80, 72]  # eight an octave
    assert quantization.step_indices(net, sensitivity, 5).tolist() == [0, 5, 0]
    for fineness in (-1, 0, 150, 255):
        indices = quantization.step_indices(net, sensitivity, fineness)
        assert indices.min() >= 0 and indices.max() <= 255
        for layer, index in zip(net, indices, strict=True):  # nothing is clipped
            assert max(np.abs(c).max() for c in layer.values()) / step_size(int(index)) <= entropy.MAX + 0.5


def test_step_indices_of_a_saturated_net():
    net = [{name: np.asarray(c[0]) for name, c in layer.items()} for layer in random_layers()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quantization.step_indices(net, np.zeros(3), 80).tolist() == [80, 80, 80]


def test_quantize_is_dequantized_within_half_a_step():
    net = [{name: np.asarray(c[0]) for name, c in layer.items()} for layer in random_layers()]
    indices = np.array([60, 70, 65])
    for layer, quantized, step in zip(
        net, quantization.quantize(net, indices), quantization.step_sizes(indices), strict=True
    ):
        found = dequantize(quantized)
        assert np.abs(found["cos"] - layer["cos"]).max() <= step / 2 + 1e-6
        assert np.abs(found["sin"][1:] - layer["sin"][1:]).max() <= step / 2 + 1e-6
        assert not found["sin"][0].any()
