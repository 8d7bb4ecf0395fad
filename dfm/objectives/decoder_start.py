"""A start for a decoder that knows the pictures: the last Fourier layer of each by least squares.

At the start all nets share their hidden layers but for small deviations, so a painting before its tanh is nearly linear
in the coefficients of the last layer, and these are linear in the activations of the decoder's last hidden layer. Both
steps are a ridge regression; the training begins from there instead of from noise.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dfm.data import Dataset
from dfm.models.dfm import DeepFourierMachine, pixel_centres
from dfm.models.fourier import COEFFICIENT_NAMES

FITTED_PICTURES = 10_000
LARGEST_PIXEL = 0.9  # of targets in [-1, 1]: beyond it the inverse of tanh would only fit the black and the white
RIDGE = 1e-3  # of the mean eigenvalue, in both regressions
PROBE = 1e-3  # small enough that tanh(x) = x


def least_squares_start(
    model: DeepFourierMachine,
    params: Mapping[str, Any],
    latents: Float[Array, "examples latent"],
    dataset: Dataset,
    noise: float,
    seed: int,
) -> dict[str, Any]:
    """These parameters with the decoder's outputs for the last Fourier layer fitted to the pictures of the latents.

    Args:
        noise: standard deviation of the noise on the latents in the training, which shrinks the fit as it should.
    """
    rows = np.arange(len(dataset))[:: -(-len(dataset) // FITTED_PICTURES)]
    pictures = dataset.take(rows).reshape(len(rows), -1, model.channels).astype(np.float32) / 127.5 - 1.0
    targets = np.arctanh(np.clip(pictures, -LARGEST_PIXEL, LARGEST_PIXEL))
    functions = _functions(model, params)
    by_channel = _ridge(functions, np.swapaxes(targets, 0, 1).reshape(len(functions), -1))
    coefficients = np.swapaxes(by_channel.reshape(-1, len(rows), model.channels), 0, 1).reshape(len(rows), -1)
    drawn = np.random.default_rng(seed).normal(size=(len(rows), model.latent_size))
    hidden = model.apply(
        {"params": params}, latents[rows] + noise * jnp.asarray(drawn, jnp.float32), method="hidden_activations"
    )
    hidden = np.asarray(hidden, np.float64)
    means = hidden.mean(0), coefficients.mean(0)
    kernel = _ridge(hidden - means[0], coefficients - means[1])
    size = coefficients.shape[1]
    rates = model.rates()[-size:]
    name = f"layers_{len(model.decoder_widths)}"
    last = params["decoder"][name]
    fitted = {
        "kernel": last["kernel"].at[:, -size:].set(kernel / rates),
        "bias": last["bias"].at[-size:].set((means[1] - means[0] @ kernel) / rates),
    }
    return {**params, "decoder": {**params["decoder"], name: fitted}}


def _functions(model: DeepFourierMachine, params: Mapping[str, Any]) -> Float[np.ndarray, "points functions"]:
    """What the last layer's coefficients of one channel multiply, in the net of the latent 0."""
    vector = model.apply({"params": params}, jnp.zeros((1, model.latent_size)), method="coefficients")[0]
    count = len(COEFFICIENT_NAMES[model.basis]) * 2**model.net_width
    one = np.zeros((count, count, model.channels), np.float32)
    one[np.arange(count), np.arange(count), 0] = PROBE
    probes = jnp.concatenate(
        [
            jnp.broadcast_to(vector[: -count * model.channels], (count, len(vector) - count * model.channels)),
            one.reshape(count, -1),
        ],
        1,
    )
    points = pixel_centres(model.height, model.width)
    painted = jax.jit(lambda vectors: model.apply({}, vectors, points, method="paint"))(probes)
    return np.asarray(painted[..., 0], np.float64).T / PROBE


def _ridge(
    inputs: Float[np.ndarray, "n inputs"], outputs: Float[np.ndarray, "n outputs"]
) -> Float[np.ndarray, "inputs outputs"]:
    gram = inputs.T @ inputs
    return np.linalg.solve(gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), inputs.T @ outputs)
