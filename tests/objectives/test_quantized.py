"""VQ-VAE: the nearest code, straight-through gradients, the moving book, dead codes, usage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dfm.models.autoencoder import Autoencoder
from dfm.models.bottlenecks import CODEBOOK, Quantized, VectorQuantizer, code_usage, moved
from dfm.objectives.quantized import VectorQuantized

MODEL = {
    "height": 8,
    "width": 8,
    "channels": 1,
    "trunk": "dense",
    "widths": (16,),
    "bottleneck": "vq",
    "latent": (4, 3),
    "codes": 8,
}


@pytest.fixture(scope="module")
def batch():
    images = jnp.asarray(load_digits().images[:12, :, :, None] / 8 - 1, jnp.float32)
    return {"image": images, "label": jnp.zeros(12, jnp.int32), "index": jnp.arange(12)}


def quantizer(averaged: bool):
    module = VectorQuantizer(codes=8, size=3, averaged=averaged)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 3)))
    return module, variables, np.asarray(module.apply(variables, jnp.arange(8), method="embed"))


@pytest.mark.parametrize("averaged", [True, False])
def test_the_nearest_code_is_chosen(averaged):
    module, variables, book = quantizer(averaged)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32) * 0.2
    found = module.apply(variables, z, method="quantize")
    expected = np.square(np.asarray(z)[:, None] - book[None]).sum(-1).argmin(1)
    np.testing.assert_array_equal(found.codes, expected)
    np.testing.assert_allclose(found.vectors, book[expected], rtol=1e-6)


def test_gradients_pass_straight_through():
    """The decoder's input is the code, its gradient that of the encoding: the identity."""
    module, variables, _ = quantizer(True)
    z = jnp.asarray([[0.3, -0.2, 0.1]])
    value, gradient = jax.value_and_grad(
        lambda z: (module.apply(variables, z, method="decoder_input") * jnp.asarray([1.0, 2.0, 3.0])).sum()
    )(z)
    np.testing.assert_allclose(gradient, [[1.0, 2.0, 3.0]], rtol=1e-6)
    code = module.apply(variables, z, method="quantize").vectors
    assert float(value) == pytest.approx(float((code * jnp.asarray([1.0, 2.0, 3.0])).sum()), rel=1e-5)


def test_stop_gradients_of_the_two_terms(batch):
    """The book learns from its own term alone."""
    model = Autoencoder(averaged_codes=False, **MODEL)
    objective = VectorQuantized(model, commitment_loss=0.25)
    params = jax.jit(objective.init)(jax.random.key(0))
    _, gradients, _ = jax.jit(objective.gradients, static_argnums=4)(params, None, batch, jax.random.key(1), "")
    found = model.apply({"params": params}, batch["image"], method="quantize")
    chosen = int(found.codes.reshape(-1)[0])
    members = np.asarray(found.encoded).reshape(-1, 3)[np.asarray(found.codes).reshape(-1) == chosen]
    book = np.asarray(params["bottleneck"]["book"])[chosen]
    expected = 2 * (book - members).sum(0) / found.encoded.size
    np.testing.assert_allclose(gradients["bottleneck"]["book"][chosen], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("averaged", [True, False])
def test_the_encoder_learns_from_the_picture_and_the_commitment(batch, averaged):
    """By the gradient of the loss in which everything behind a stop-gradient is a number: the codes chosen, and what
    the straight-through copy adds to the encoding on its way to the decoder."""
    model = Autoencoder(averaged_codes=averaged, **MODEL)
    objective = VectorQuantized(model, commitment_loss=0.25)
    params = jax.jit(objective.init)(jax.random.key(0))
    statistics = objective.init_statistics(jax.random.key(0))
    _, gradients, _ = jax.jit(objective.gradients, static_argnums=4)(params, statistics, batch, jax.random.key(1), "")
    held = model.apply({"params": params, **(statistics or {})}, batch["image"], method="quantize")

    def written_out(encoder):
        variables = {"params": {**params, "encoder": encoder}, **(statistics or {})}
        z = model.apply(variables, batch["image"], method="quantize").encoded
        painted = model.apply(variables, z + (held.vectors - held.encoded), method=lambda net, z: net.decoder(z, None))
        return jnp.square(painted - batch["image"]).mean() + 0.25 * jnp.square(z - held.vectors).mean()

    expected = jax.jit(jax.grad(written_out))(params["encoder"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), gradients["encoder"], expected)


def test_the_old_book_quantises_the_batch_that_moves_it(batch):
    model = Autoencoder(**MODEL)
    objective = VectorQuantized(model, codebook_decay=0.5)
    params, old = jax.jit(objective.init)(jax.random.key(0)), jax.jit(objective.init_statistics)(jax.random.key(0))
    metrics, _, new = jax.jit(objective.gradients, static_argnums=4)(params, old, batch, jax.random.key(1), "")
    painted = model.apply({"params": params, **old}, batch["image"])
    assert float(metrics["mse"]) == pytest.approx(float(jnp.square(painted - batch["image"]).mean()), rel=1e-4)
    assert not np.allclose(new[CODEBOOK]["bottleneck"]["sums"], old[CODEBOOK]["bottleneck"]["sums"])
    assert objective.model_statistics == (CODEBOOK,)


def test_averages_move_by_hand_and_dead_codes_begin_anew():
    old = {"sums": jnp.asarray([[2.0], [0.001]]), "counts": jnp.asarray([2.0, 0.001])}
    found = Quantized(jnp.asarray([[5.0], [7.0]]), jnp.asarray([[1.0], [1.0]]), jnp.asarray([0, 0]))
    new = moved(old, found, 0.5, 0.01, jax.random.key(0))
    assert float(new["counts"][0]) == pytest.approx(0.5 * 2 + 0.5 * 2)
    assert float(new["sums"][0, 0]) == pytest.approx(0.5 * 2 + 0.5 * 12)
    # a count of one and a sum to match: the code lies on an encoding of the batch
    assert float(new["counts"][1]) == 1.0 and float(new["sums"][1, 0]) in (5.0, 7.0)


def test_usage_and_perplexity():
    found = code_usage(jnp.asarray([5.0, 5.0, 0.0, 0.0]))
    assert float(found["code_usage"]) == 0.5 and float(found["code_perplexity"]) == pytest.approx(2.0)


def test_whatever_drew_the_latents_the_decoder_sees_codes(batch):
    model = Autoencoder(**MODEL)
    variables = model.init(jax.random.key(0), batch["image"])
    z = jax.random.normal(jax.random.key(2), (5, 4, 3))
    nearest = model.apply(variables, z, method=lambda m, z: m.neck.quantize(z).vectors)
    np.testing.assert_allclose(
        model.apply(variables, z, method="decode"), model.apply(variables, nearest, method="decode"), atol=1e-5
    )
