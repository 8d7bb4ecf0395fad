"""GAN: samples alone and in a batch, running statistics, spectral norms, both players learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.errors import UserError
from dfm.models.dfm import DeepFourierMachine
from dfm.models.fourier_gan import FourierGenerator
from dfm.models.gan import BATCH_STATISTICS, DISCRIMINATOR, Generator, SpectralDiscriminator
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


@pytest.mark.parametrize(("loss", "r1_weight"), [("hinge", 0.0), ("vanilla", 0.0), ("hinge", 3.0)])
def test_losses_and_gradients_of_both_players_are_those_of_the_formulas(loss, r1_weight):
    """A machine, which has no running statistics; its pictures and the logits by public calls."""
    model = GENERATORS["dfm"]
    objective = Gan(model, loss=loss, discriminator_features=2, r1_weight=r1_weight)
    params, statistics = objective.init(jax.random.key(0)), objective.init_statistics(jax.random.key(0))
    # logits on both sides of the hinge's corners
    params[DISCRIMINATOR] = jax.tree.map(lambda leaf: leaf + 0.3, params[DISCRIMINATOR])
    images = jax.random.uniform(jax.random.key(1), (6, 8, 8, 1), minval=-1.0)
    key = jax.random.key(2)
    batch = {"image": images, "label": jnp.zeros(6, jnp.int32), "index": jnp.arange(6)}
    found, gradients, _ = jax.jit(objective.gradients, static_argnums=4)(params, statistics, batch, key, "")
    generator = {name: group for name, group in params.items() if name != DISCRIMINATOR}
    vectors = {BATCH_STATISTICS: statistics[OF_DISCRIMINATOR]}

    def paint(generator):
        return model.apply({"params": generator}, jax.random.normal(key, (6, 4)), None, method="decode")

    def logits(discriminator, images, training=False):
        variables, changed = {"params": discriminator, **vectors}, [BATCH_STATISTICS] if training else False
        found = objective.discriminator.apply(variables, images, None, training, mutable=changed)
        return found[0] if training else found

    def of_generator(generator):
        fake = logits(params[DISCRIMINATOR], paint(generator))
        return -fake.mean() if loss == "hinge" else -jax.nn.log_sigmoid(fake).mean()

    def of_discriminator(discriminator):
        both = logits(discriminator, jnp.concatenate([images, paint(generator)]), training=True)
        real, fake = both[:6], both[6:]
        if loss == "hinge":
            own = jnp.maximum(0, 1 - real).mean() + jnp.maximum(0, 1 + fake).mean()
        else:
            own = -jax.nn.log_sigmoid(real).mean() - jax.nn.log_sigmoid(-fake).mean()  # 1 - s(x) = s(-x)
        slopes = jax.vmap(jax.grad(lambda image: logits(discriminator, image[None])[0]))(images)
        return own + r1_weight * 0.5 * jnp.square(slopes).sum((1, 2, 3)).mean(), own

    loss_g, grad_g = jax.jit(jax.value_and_grad(of_generator))(generator)
    (_, own), grad_d = jax.jit(jax.value_and_grad(of_discriminator, has_aux=True))(params[DISCRIMINATOR])
    np.testing.assert_allclose([found["loss"], found["discriminator_loss"]], [loss_g, own], rtol=1e-4)
    expected = {**grad_g, DISCRIMINATOR: grad_d}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), gradients, expected)


def test_only_the_generator_outlives_the_training():
    objective = Gan(Generator(**SIZE), discriminator_features=2)
    assert objective.groups[DISCRIMINATOR].kept is False and objective.groups[DISCRIMINATOR].averaged is False


def test_every_kernel_of_the_discriminator_counts_over_its_spectral_norm():
    """Five times a kernel is the same kernel."""
    net = SpectralDiscriminator(2)
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1), minval=-1.0)
    variables = net.init(jax.random.key(0), images, None, True)
    before = net.apply(variables, images)
    layers = [name for name in variables["params"] if "kernel" in variables["params"][name]]
    assert len(layers) == 8
    for name in layers:
        own = variables["params"][name]
        scaled = {**variables["params"], name: {**own, "kernel": 5 * own["kernel"]}}
        moved = variables
        for _ in range(3):  # the stored norm follows within a step
            _, new = net.apply({**moved, "params": scaled}, images, None, True, mutable=[BATCH_STATISTICS])
            moved = {**moved, **new}
        still = variables
        for _ in range(3):
            _, new = net.apply(still, images, None, True, mutable=[BATCH_STATISTICS])
            still = {**still, **new}
        after = net.apply({**moved, "params": scaled}, images)
        np.testing.assert_allclose(after, net.apply(still, images), rtol=1e-3, atol=1e-5)
    assert before.shape == (3,)


def test_spectral_norms_are_approached_in_training_alone_and_labels_are_divided_by_nothing():
    net, labels = SpectralDiscriminator(2, classes=3), jnp.arange(3)
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1), minval=-1.0)
    variables = net.init(jax.random.key(0), images, labels, True)
    step = jax.jit(lambda variables: net.apply(variables, images, labels, True, mutable=[BATCH_STATISTICS])[1])
    for _ in range(60):
        variables = {**variables, **step(variables)}
    found = {}
    for estimates in variables[BATCH_STATISTICS].values():
        found |= {name.partition("/")[0]: value for name, value in estimates.items() if name.endswith("sigma")}
    kernels = {name: own["kernel"] for name, own in variables["params"].items() if "kernel" in own}
    assert set(found) == set(kernels)
    for name, kernel in kernels.items():
        norm = np.linalg.norm(np.asarray(kernel).reshape(-1, kernel.shape[-1]), 2)
        np.testing.assert_allclose(found[name], norm, rtol=0.02)
    _, untouched = net.apply(variables, images, labels, mutable=[BATCH_STATISTICS])
    jax.tree.map(np.testing.assert_array_equal, untouched[BATCH_STATISTICS], variables[BATCH_STATISTICS])
    plain, with_labels = net.apply(variables, images), net.apply(variables, images, labels)
    params = {**variables["params"], "Embed_0": jax.tree.map(lambda leaf: 5 * leaf, variables["params"]["Embed_0"])}
    five = net.apply({**variables, "params": params}, images, labels)
    np.testing.assert_allclose(five - plain, 5 * (with_labels - plain), rtol=1e-4, atol=1e-5)


def test_pictures_too_small_to_halve_are_refused():
    objective = Gan(Generator(**{**SIZE, "height": 4}))
    with pytest.raises(UserError, match="halves"):
        objective.check_pictures((4, 8, 1), 10)


def test_a_generator_says_that_it_has_no_encoder():
    with pytest.raises(UserError, match="no encoder"):
        Generator(**SIZE).encode(jnp.zeros((1, 8, 8, 1)))
