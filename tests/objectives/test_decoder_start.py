"""The decoder whose last Fourier layer is fitted to the pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.data import load
from dfm.models.dfm import DeepFourierMachine, pixel_centres
from dfm.models.fourier import fourier_layer, split_coefficients
from dfm.objectives.decoder_start import least_squares_start
from dfm.objectives.latent_start import principal_components
from dfm.objectives.reconstruction import Reconstruction


@pytest.fixture(scope="module")
def start():
    """(model, parameters as drawn, table, digits), with hidden layers that all pictures share."""
    model = DeepFourierMachine(
        8,
        8,
        1,
        4,
        2,
        12,
        (48,),
        activation="silu",
        input_scale=0.5,
        first_scale=0.5,
        hidden_scale=0.003,
        deviation_scale=1e-6,
    )
    dataset = load("digits")
    params = jax.jit(Reconstruction(model, 0.0).init)(jax.random.key(0))
    return model, params, principal_components(dataset, 12, 1.0), dataset


def test_the_paintings_are_the_best_that_shared_functions_allow(start):
    """Against one least squares problem in all the unknowns: coefficients that are linear in the latents."""
    model, _, latents, dataset = start
    model = model.clone(decoder_widths=())
    params = jax.jit(Reconstruction(model, 0.0).init)(jax.random.key(1))
    fitted = least_squares_start(model, params, latents, dataset, 0.0, 0)
    painted = jax.jit(lambda z: model.apply({"params": fitted}, z, method="decode"))(latents)
    targets = np.arctanh(np.clip(dataset.take(np.arange(len(dataset))) / 127.5 - 1.0, -0.9, 0.9)).reshape(1500, 64)
    errors = np.arctanh(np.asarray(painted, np.float64)).reshape(1500, 64) - targets

    vector = model.apply({"params": params}, jnp.zeros((1, 12)), method="coefficients")[0]
    *hidden, _ = split_coefficients(vector, (4, 4), 1, "cas")
    x = 0.5 * pixel_centres(8, 8)
    for layer in hidden:
        x = fourier_layer(x, layer)
    k = np.array([[row >> j & 1 for row in range(16)] for j in range(4)])
    phases = 2 * np.pi * np.asarray(x, np.float64) @ k
    functions = np.cos(phases) + np.sin(phases)
    inputs = np.column_stack([np.asarray(latents, np.float64), np.ones(1500)])
    best = inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
    project = functions @ np.linalg.pinv(functions)
    assert (errors**2).sum() < 1.02 * ((best @ project.T - targets) ** 2).sum()
    assert (errors**2).sum() < 0.8 * (targets**2).sum()


def test_only_outputs_for_the_last_layer_change(start):
    model, params, latents, dataset = start
    fitted = least_squares_start(model, params, latents, dataset, 0.0, 0)
    last = 2**4
    for name in ("kernel", "bias"):
        old, new = params["decoder"]["layers_1"][name], fitted["decoder"]["layers_1"][name]
        assert old.shape == new.shape
        np.testing.assert_array_equal(old[..., :-last], new[..., :-last])
        assert (np.asarray(old[..., -last:]) != np.asarray(new[..., -last:])).all()
    np.testing.assert_array_equal(params["decoder"]["layers_0"]["kernel"], fitted["decoder"]["layers_0"]["kernel"])


def test_noise_on_the_latents_shrinks_the_fit(start):
    model, params, latents, dataset = start
    still, noisy = (least_squares_start(model, params, latents, dataset, noise, 0) for noise in (0.0, 1.0))
    size = lambda params: np.linalg.norm(params["decoder"]["layers_1"]["kernel"])  # noqa: E731
    assert size(noisy) < size(still)


def test_needs_principal_components():
    model = DeepFourierMachine(8, 8, 1, 2, 2, 3, (8,))
    with pytest.raises(ValueError, match="needs latent_start 'pca'"):
        Reconstruction(model, 0.0, decoder_start="least_squares")
    with pytest.raises(ValueError, match="decoder_start cannot be 'best'"):
        Reconstruction(model, 0.0, decoder_start="best")
