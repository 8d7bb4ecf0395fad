"""The objective of an autoencoder against its definition, written down naively: Rombach et al. 2022, sums and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_autoencoder as tiny

from dfm.arrays import to_float
from dfm.models.distributions import DiagonalGaussian
from dfm.objectives import adversarial
from dfm.objectives.autoencoder import ADVERSARIAL, RECONSTRUCTION, WARMUP
from dfm.training.sharding import data_mesh, on_each_device, place_batch
from dfm.training.step import make_step

KEY = jax.random.key(7)
IMAGES = jnp.asarray(to_float(tiny.batch(1)["image"]))
VALUES = tiny.SIDE**2


def first_params(objective):
    return tiny.params_of(objective), tiny.statistics_of(objective)


def find(objective, params, statistics, phase, dtype="float32", images=IMAGES):
    compute = lambda p, s, x: objective.gradients(p, s, {"image": x}, KEY, phase, dtype)  # noqa: E731
    return jax.jit(compute)(params, statistics, images)


@pytest.fixture(scope="module")
def adversarial_step():
    objective = tiny.objective(learn_log_variance=True, log_variance=0.3)
    params, statistics = first_params(objective)
    return objective, params, statistics, find(objective, params, statistics, ADVERSARIAL)


def naive(objective, params, statistics, images=IMAGES):
    """(loss, weight, gradients of the autoencoder, of s, of the discriminator), each term by a pass of its own."""
    model, net = objective.model, objective.discriminator.net
    player = {name: params[name] for name in params if name != "discriminator"}

    def paint(player):
        posterior = DiagonalGaussian.from_moments(model.apply({"params": player}, images, method="moments"))
        return model.apply({"params": player}, posterior.sample(KEY), method="decode"), posterior

    def nll(player):  # summed over all values, LPIPS broadcast to each of them, over the batch
        painted, _ = paint(player)
        distance = tiny.perceptual((images + 1) * 127.5, (painted + 1) * 127.5)[:, None, None, None]
        error = jnp.abs(images - painted) + objective.perceptual_weight * distance
        return (error / jnp.exp(player["log_variance"]) + player["log_variance"]).sum() / len(images)

    def logits_of(discriminator, x):
        variables = {"params": discriminator, "batch_stats": statistics["batch_stats"]}
        return net.apply(variables, x, mutable=["batch_stats"])[0]

    def g(player):
        return -logits_of(params["discriminator"], paint(player)[0]).mean()

    kl = lambda player: paint(player)[1].kl().sum() / len(images)  # noqa: E731
    last = lambda tree: tree["decoder"]["conv_out"]["kernel"]  # noqa: E731
    norms = [jnp.linalg.norm(last(jax.grad(f)(player)).ravel()) for f in (nll, g)]
    weight = jnp.clip(norms[0] / (norms[1] + 1e-4), 0, objective.adaptive_weight_max)
    total = lambda p: nll(p) + objective.kl_weight * kl(p) + objective.adversarial_weight * weight * g(p)  # noqa: E731
    loss, gradients = jax.value_and_grad(total)(player)
    painted = paint(player)[0]
    hinge = lambda d: adversarial.hinge(logits_of(d, images), logits_of(d, painted))  # noqa: E731
    of_discriminator = jax.grad(hinge)(params["discriminator"])
    scale = lambda tree: jax.tree.map(lambda leaf: leaf / VALUES, tree)  # noqa: E731
    return loss / VALUES, weight, scale(gradients), of_discriminator


def test_loss_gradients_and_adaptive_weight_equal_the_definition_computed_naively(adversarial_step):
    objective, params, statistics, (metrics, gradients, _) = adversarial_step
    by_definition = jax.jit(lambda p, s: naive(objective, p, s))
    loss, weight, of_autoencoder, of_discriminator = by_definition(params, statistics)
    assert 1 < weight < 1e4
    np.testing.assert_allclose(metrics["adaptive_weight"], weight, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    assert set(gradients) == {*of_autoencoder, "discriminator"}
    for name, expected in of_autoencoder.items():
        assert tiny.distance(gradients[name], expected) < 1e-4, name
    assert tiny.distance(gradients["discriminator"], of_discriminator) < 1e-4


def test_neither_step_leaves_a_trace_in_the_other(adversarial_step):
    objective, params, statistics, (_, gradients, _) = adversarial_step
    other_discriminator = tiny.objective(
        learn_log_variance=True, log_variance=0.3, adversarial_loss="vanilla", r1_weight=10.0, lecam_weight=1.0
    )
    _, by_other_discriminator, _ = find(other_discriminator, params, statistics, ADVERSARIAL)
    other_player = tiny.objective(
        learn_log_variance=True, log_variance=0.3, kl_weight=5.0, perceptual_weight=3.0, adversarial_weight=9.0
    )
    _, by_other_player, _ = find(other_player, params, statistics, ADVERSARIAL)
    for name in gradients:
        its_own = name == "discriminator"
        # equal to the last rounding of the compiler's: a leak would be of the order of the gradient itself
        assert (tiny.distance(by_other_discriminator[name], gradients[name]) < 1e-5) != its_own, name
        assert (tiny.distance(by_other_player[name], gradients[name]) < 1e-5) == its_own, name


def test_the_adaptive_weight_costs_two_kernel_gradients_of_the_last_convolution_and_no_pass_of_the_decoder():
    def operations(function, *arguments):
        return jax.jit(function).lower(*arguments).cost_analysis()["flops"]

    def of_step(adaptive):
        objective = tiny.objective(adaptive=adaptive)
        compute = lambda p, s, x: objective.gradients(p, s, {"image": x}, KEY, ADVERSARIAL, "float32")  # noqa: E731
        return operations(compute, *first_params(objective), IMAGES)

    objective = tiny.objective()
    params, z = tiny.params_of(objective), jnp.zeros((len(IMAGES), 4, 4, 2))
    decoder = operations(lambda p, z: objective.model.apply({"params": p}, z, method="decode"), params, z)
    assert 0 < of_step(True) - of_step(False) < 0.15 * decoder


def test_perception_has_a_gradient(adversarial_step):
    _, params, statistics, _ = adversarial_step
    with_it, without = (tiny.objective(perceptual_weight=weight) for weight in (1.0, 0.0))
    gradients, plain = (find(each, params, statistics, RECONSTRUCTION)[1] for each in (with_it, without))
    assert tiny.distance(gradients["decoder"], plain["decoder"]) > 1e-3


def test_each_phase_does_its_own_and_a_warm_up_moves_the_discriminator_alone(adversarial_step):
    objective, params, statistics, _ = adversarial_step
    assert [objective.phase(step) for step in (0, 1, 2, 3, 4, 99)] == [
        RECONSTRUCTION,
        RECONSTRUCTION,
        WARMUP,
        WARMUP,
        ADVERSARIAL,
        ADVERSARIAL,
    ]
    assert tiny.objective(adversarial_weight=0.0).phase(99) == RECONSTRUCTION
    _, first, kept = find(objective, params, statistics, RECONSTRUCTION)
    _, second, moved = find(objective, params, statistics, WARMUP)
    assert "discriminator" not in first and tiny.same_bytes(kept, statistics)
    assert jnp.abs(second["discriminator"]["Conv_0"]["kernel"]).max() > 0 and not tiny.same_bytes(moved, statistics)
    for name in first:
        assert tiny.distance(second[name], first[name]) < 1e-5


def test_the_kl_counts_by_pixel_values_and_the_padding_counts_for_nothing():
    objective = tiny.objective(perceptual_weight=0.0, kl_weight=1.0, sample_posterior=False)
    params, statistics = first_params(objective)
    flat = jnp.full((2, 8, 8, 1), 0.5)
    odd = find(objective, params, statistics, RECONSTRUCTION, images=flat[:, :7, :5])[0]
    model = objective.model
    painted = model.apply({"params": params}, flat[:, :, :6])[:, :7, :5]  # a constant picture is padded with itself
    posterior = model.apply({"params": params}, flat[:, :, :6], method="encode")
    np.testing.assert_allclose(odd["l1"], jnp.abs(painted - 0.5).mean(), rtol=1e-5)
    np.testing.assert_allclose(odd["loss"], odd["l1"] + posterior.kl().mean() / 35, rtol=1e-5)
    np.testing.assert_allclose(odd["kl"], posterior.kl().mean(), rtol=1e-5)


def test_bfloat16_moves_small_weights_and_keeps_float32_masters(adversarial_step):
    objective, params, statistics, (_, exact, _) = adversarial_step
    _, gradients, _ = find(objective, params, statistics, ADVERSARIAL, dtype="bfloat16")
    for name in ("encoder", "decoder", "discriminator"):
        assert 1e-4 < tiny.distance(gradients[name], exact[name]) < 0.2, name  # it is bfloat16, and nearly right
    small = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.02), params)
    optimizer = tiny.optimizer_of(objective, learning_rate=4.5e-6)
    update = lambda g, p: optimizer.update(g, optimizer.init(p), p, jnp.int32(0))[0]  # noqa: E731
    moved = jax.jit(update)(gradients, small)
    for old, new, gradient in zip(*map(jax.tree.leaves, (small, moved, gradients)), strict=True):
        assert new.dtype == gradient.dtype == jnp.float32
        felt = np.asarray(jnp.abs(gradient) > 1e-6)
        # a bfloat16 weight of 0.02 has steps of 1e-4 and would stand still
        np.testing.assert_allclose(np.abs(np.asarray(new - old))[felt], 4.5e-6, rtol=0.2)


def test_one_and_four_devices_take_the_same_step():
    objective = tiny.objective(adversarial_start_step=0, discriminator_start_step=0, sample_posterior=False)
    optimizer = tiny.optimizer_of(objective, name="sgd", learning_rate=0.1)
    step, found = make_step(objective, optimizer, 0.9), {}
    for count in (1, 4):
        mesh = data_mesh(jax.devices()[:count])
        placed, state = place_batch(tiny.batch(), mesh), tiny.state_of(objective, optimizer, ema=True)
        state = jax.device_put(state, on_each_device(mesh))
        new, metrics = jax.jit(step, static_argnums=2)(state, placed, ADVERSARIAL)
        parts = (new.params, new.ema_params, new.statistics, metrics)
        found[count] = jax.tree.map(np.asarray, parts), jax.tree.map(np.asarray, state.params)
    (parts, first), (others, _) = found[1], found[4]
    assert tiny.distance(parts[0], first) > 1e-3
    for one, four in zip(parts, others, strict=True):
        assert tiny.distance(four, one) < 1e-5


def test_regularisers_by_hand():
    real, painted = (jnp.asarray(values).reshape(1, 1, -1, 1) for values in ([2.0, -0.5], [-3.0, 0.25]))
    assert float(adversarial.hinge(real, painted)) == pytest.approx(0.5 * (1.5 / 2 + 1.25 / 2))
    expected = 0.5 * (np.log1p(np.exp([-2.0, 0.5])).mean() + np.log1p(np.exp([-3.0, 0.25])).mean())
    assert float(adversarial.vanilla(real, painted)) == pytest.approx(expected, rel=1e-5)
    assert float(adversarial.lecam(real, painted, jnp.float32(1.0), jnp.float32(-1.0))) == pytest.approx(
        (9 + 0.25) / 2 + (16 + 0.75**2) / 2
    )
    slope = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 1)), jnp.float32)
    linear = lambda x: jnp.einsum("bhwc,hwc->b", x, slope)[:, None, None, None]  # noqa: E731
    penalty = adversarial.r1_penalty(linear, jnp.zeros((3, 4, 4, 1)))
    assert float(penalty) == pytest.approx(0.5 * float(jnp.square(slope).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_loss": "l3"}, "pixel_loss"),
        ({"adversarial_loss": "wasserstein"}, "hinge, vanilla"),
        ({"kl_weight": -1.0}, "kl_weight must be at least 0"),
        ({"discriminator_start_step": 9}, "between 0 and adversarial_start_step 4"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.objective(**changes)
