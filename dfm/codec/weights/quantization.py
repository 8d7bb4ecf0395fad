"""Step sizes for the coefficients of fitted nets, and rounding to them.

Rounding a coefficient with step s adds an error of variance s^2 / 12 to it and about h s^2 / 12 to the picture's
squared error, h being the mean square of the picture's derivative by it. Equal slopes of rate and distortion in every
layer ask for s proportional to 1 / sqrt(h), h averaged over the layer; one number, the fineness, then sets the rate.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dfm.codec import entropy
from dfm.codec.weights.coefficients import STEP_INDICES, QuantizedLayer, step_size
from dfm.models.fourier import fourier_net

Net = Sequence[dict[str, np.ndarray]]  # one picture's coefficients, [2^m, n] a layer and name
INDICES_PER_OCTAVE = 8
PROBE_POINTS = 2**12
PROBES = 16


@functools.partial(jax.jit, static_argnames="input_scale")
def layer_sensitivity(layers: list[dict[str, Array]], input_scale: float) -> Float[Array, "picture layer"]:
    """Root mean square, over a layer's coefficients, points and channels, of the derivative of the output.

    Estimated (Hutchinson) by `PROBES` random signs on `PROBE_POINTS` random points. Only ratios of layers matter.
    """
    key = jax.random.key(0)
    x = jax.random.uniform(key, (PROBE_POINTS, 2)) * input_scale
    pictures = next(iter(layers[0].values())).shape[0]
    x = jnp.broadcast_to(x, (pictures, *x.shape))

    def probe(number: Array) -> Float[Array, "picture layer"]:
        painted, backward = jax.vjp(lambda layers: fourier_net(layers, x), layers)
        signs = jax.random.rademacher(jax.random.fold_in(key, number), painted.shape, painted.dtype)
        (gradients,) = backward(signs)
        squares = [jnp.mean(jnp.stack([g**2 for g in layer.values()]), (0, 2, 3)) for layer in gradients]
        return jnp.stack(squares, -1)

    return jnp.sqrt(jnp.mean(jax.lax.map(probe, jnp.arange(PROBES)), 0))


def step_indices(net: Net, sensitivity: Float[np.ndarray, "layer"], fineness: int) -> Int[np.ndarray, "layer"]:
    """Step index of each layer of one net, inverse to sensitivity; the most sensitive layer's is `fineness`.

    No layer's is finer than the coder's integers allow: clipped coefficients would cost far more than coarse ones.
    """
    relative = INDICES_PER_OCTAVE * np.log2(np.maximum(sensitivity, 1e-12) / max(np.max(sensitivity), 1e-12))
    largest = np.array([max(np.abs(c).max() for c in layer.values()) for layer in net])
    finest = np.floor(INDICES_PER_OCTAVE * np.log2(step_size(0) * entropy.MAX / np.maximum(largest, 1e-30)))
    return np.clip(np.minimum(np.round(relative) + fineness, finest), 0, STEP_INDICES - 1).astype(int)


def step_sizes(indices: Int[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Step sizes as float32, of the same shape."""
    return np.array([step_size(int(index)) for index in indices.flat], np.float32).reshape(indices.shape)


def quantize(net: Net, indices: Int[np.ndarray, "layer"]) -> list[QuantizedLayer]:
    """One net's coefficients, rounded; integers beyond the coder's range are clipped."""
    quantized = []
    for layer, index in zip(net, indices, strict=True):
        step = step_size(int(index))
        integers = {
            name: np.clip(np.round(c / step), -entropy.MAX, entropy.MAX).astype(np.int32) for name, c in layer.items()
        }
        if "sin" in integers:
            integers["sin"][0] = 0  # sin(0): not coded
        quantized.append(QuantizedLayer(int(index), integers))
    return quantized
