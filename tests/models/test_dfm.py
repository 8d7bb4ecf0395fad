"""The generators: sizes of the thesis, starts, resolution, registry."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm import models
from dfm.config import resolve
from dfm.errors import UserError
from dfm.models.dfm import DeepFourierMachine, pixel_centres
from dfm.models.fourier import fourier_net, split_coefficients

SMALL = dict(height=8, width=6, channels=1, net_width=3, net_depth=2, latent_size=5, decoder_widths=(7,))


def preset(name, word):
    path = Path(__file__).parents[2] / "configs" / f"{name}.py"
    return resolve(runpy.run_path(str(path))["get_config"](word))


def kernel_shapes(group):
    return [layer["kernel"].shape for _, layer in sorted(group.items())]


def shapes_of(model):
    images = jnp.zeros((1, model.height, model.width, model.channels))
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


@pytest.mark.parametrize("word", ["thesis", "tuned"])
def test_sizes_of_the_thesis_for_mnist(word):
    params = shapes_of(models.build(preset("dfm_mnist", word).model))
    assert set(params) == {"decoder"}
    assert kernel_shapes(params["decoder"]) == [(55, 170), (170, 220), (220, 352)]


def test_sizes_of_the_thesis_for_cifar10():
    params = shapes_of(models.build(preset("dfm_cifar10", "thesis").model))
    assert set(params) == {"decoder", "encoder"}
    assert kernel_shapes(params["encoder"]) == [(3072, 1200), (1200, 600), (600, 110)]
    assert kernel_shapes(params["decoder"]) == [(110, 500), (500, 1000), (1000, 3672)]


def test_start_of_the_thesis_has_its_variance_and_no_biases():
    model = DeepFourierMachine(**SMALL | {"decoder_widths": (200, 300)}, kernel_variance=2e-2)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 6, 1)))["params"]["decoder"]
    for layer in params.values():
        assert not np.any(layer["bias"])
        assert np.var(layer["kernel"]) == pytest.approx(2e-2, rel=0.15)


def test_our_start_shares_coefficients_of_the_stated_scales():
    model = DeepFourierMachine(**SMALL | {"net_width": 5, "net_depth": 3}, hidden_scale=0.03, deviation_scale=0.1)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 6, 1)))["params"]
    vectors = model.apply({"params": params}, jax.random.normal(jax.random.key(1), (200, 5)), method="coefficients")
    layers = split_coefficients(vectors, (5, 5, 5), 1)
    for layer, scale in zip(layers[1:3], (0.03, 0.03), strict=True):
        shared, deviations = layer["cas"].mean(0), layer["cas"].std(0)
        assert np.std(shared) == pytest.approx(scale / 2 ** (5 / 2), rel=0.2)
        assert np.mean(deviations) == pytest.approx(0.1 * scale / 2 ** (5 / 2), rel=0.8)


def test_paints_the_net_of_its_coefficients_at_pixel_centres():
    model = DeepFourierMachine(**SMALL, input_scale=0.5)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 6, 1)))
    z = jax.random.normal(jax.random.key(1), (2, 5))
    pictures = model.apply(variables, z, method="decode")
    assert pictures.shape == (2, 8, 6, 1)
    layers = split_coefficients(model.apply(variables, z, method="coefficients"), (3, 3), 1)
    x1, x2 = (4 + 0.5) / 6, (2 + 0.5) / 8  # column 4 of 6, row 2 of 8
    for index in range(2):
        one = [{"cas": layer["cas"][index]} for layer in layers]
        expected = fourier_net(one, jnp.array([[0.5 * x1, 0.5 * x2]], jnp.float32))
        np.testing.assert_allclose(pictures[index, 2, 4], expected[0], atol=1e-5)


def test_a_larger_painting_holds_the_smaller_one():
    # three times the pixels: every third pixel's centre, from the second on, is a centre of the small painting
    model = DeepFourierMachine(**SMALL)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 6, 1)))
    z = jax.random.normal(jax.random.key(1), (2, 5))
    small = model.apply(variables, z, method="decode")
    large = model.apply(variables, z, height=24, width=18, method="decode")
    np.testing.assert_allclose(large[:, 1::3, 1::3], small, atol=1e-5)


def test_points_run_across_before_down():
    np.testing.assert_allclose(pixel_centres(1, 2), [[0.25, 0.5], [0.75, 0.5]])


def test_a_latent_table_has_no_encoder():
    model = DeepFourierMachine(**SMALL)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 6, 1)))
    with pytest.raises(ValueError, match="no encoder"):
        model.apply(variables, jnp.zeros((1, 8, 6, 1)), method="encode")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "dmf"}, "unknown model.name 'dmf'.*dfm"),
        ({"net_widht": 3}, "unknown key 'model.net_widht'.*net_width"),
        ({"latent_size": None}, "model.latent_size is missing"),
        ({"activation": "rulu"}, "activation.*'rulu'"),
        ({"basis": "cos"}, "basis.*'cos'"),
        ({"net_width": 0}, "net_width"),
        ({"net_width": 40}, "net_width 40"),
        ({"decoder_widths": (0,)}, "decoder_widths"),
    ],
)
def test_wrong_keys_are_refused_in_one_line(change, message):
    config = {"name": "dfm", **SMALL, **change}
    with pytest.raises(UserError, match=message) as error:
        models.build({key: value for key, value in config.items() if value is not None})
    assert "\n" not in str(error.value)
