"""GAN: samples alone and in a batch, running statistics, spectral norms, both players learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.errors import UserError
from dfm.models.dfm import DeepFourierMachine
from dfm.models.fourier_gan import FourierGenerator
from dfm.models.gan import BATCH_STATISTICS, DISCRIMINATOR, Generator
from dfm.objectives.gan import OF_DISCRIMINATOR, Gan

SIZE = {"height": 8, "width": 8, "channels": 1, "latent_size": 4, "features": 2}


MACHINE = {"net_width": 2, "net_depth": 2, "decoder_widths": (4,)}
GENERATORS = {
    "gan": Generator(**SIZE),
    "fourier_gan": FourierGenerator(**SIZE, net_width=2),
    "dfm": DeepFourierMachine(8, 8, 1, latent_size=4, **MACHINE),
}


@pytest.fixture(scope="module", params=GENERATORS)
def after_a_step(request):
    objective = Gan(GENERATORS[request.param], discriminator_features=2)
    params, statistics = (
        jax.jit(objective.init)(jax.random.key(0)),
        jax.jit(objective.init_statistics)(jax.random.key(0)),
    )
    images = jax.random.uniform(jax.random.key(1), (6, 8, 8, 1), minval=-1.0)
    batch = {"image": images, "label": jnp.zeros(6, jnp.int32), "index": jnp.arange(6)}
    return (
        objective,
        params,
        statistics,
        *jax.jit(objective.gradients, static_argnums=4)(params, statistics, batch, jax.random.key(2), ""),
    )


def test_a_sample_does_not_depend_on_its_batch(after_a_step):
    objective, params, _, _, _, moved = after_a_step
    statistics = {name: moved[name] for name in objective.model_statistics}
    decode = jax.jit(lambda z: objective.model.apply({"params": params, **statistics}, z, method="decode"))
    z = jax.random.normal(jax.random.key(3), (5, 4))
    together, alone = decode(z), decode(z[2:3])
    np.testing.assert_allclose(together[2:3], alone, atol=1e-6)


def test_both_players_have_gradients_and_their_statistics_move(after_a_step):
    objective, params, statistics, metrics, gradients, moved = after_a_step
    assert set(gradients) == set(params) == {"decoder", DISCRIMINATOR}
    for group in gradients.values():
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(group)) > 0
    assert set(statistics) == set(moved) == {*objective.model_statistics, OF_DISCRIMINATOR}
    for name in statistics:
        old, new = jax.tree.leaves(statistics[name]), jax.tree.leaves(moved[name])
        assert any(not np.allclose(a, b) for a, b in zip(old, new, strict=True))
    assert float(metrics["discriminator_loss"]) >= 0


def test_a_machine_without_batch_norms_has_no_statistics_of_its_own():
    assert Gan(GENERATORS["dfm"]).model_statistics == ()
    assert Gan(GENERATORS["fourier_gan"]).model_statistics == (BATCH_STATISTICS,)


def test_fourier_cells_paint_any_resolution():
    model = GENERATORS["fourier_gan"]
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    z = jax.random.normal(jax.random.key(1), (2, 4))
    decode = lambda **size: jax.jit(lambda z: model.apply(variables, z, method="decode", **size))(z)  # noqa: E731
    np.testing.assert_allclose(decode(height=24, width=24)[:, 1::3, 1::3], decode(), atol=1e-5)


def test_cells_of_a_pixel_are_refused():
    with pytest.raises(ValueError, match="stages"):
        FourierGenerator(**SIZE, stages=3)


def test_the_hinge_is_flat_where_the_discriminator_is_sure():
    objective = Gan(Generator(**SIZE), discriminator_features=2)
    assert objective.groups[DISCRIMINATOR].kept is False and objective.groups[DISCRIMINATOR].averaged is False


def test_pictures_too_small_to_halve_are_refused():
    objective = Gan(Generator(**{**SIZE, "height": 4}))
    with pytest.raises(UserError, match="halves"):
        objective.check_pictures((4, 8, 1), 10)


def test_a_generator_says_that_it_has_no_encoder():
    with pytest.raises(UserError, match="no encoder"):
        Generator(**SIZE).encode(jnp.zeros((1, 8, 8, 1)))
