import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.config import defaults
from dfm.errors import UserError
from dfm.training import optimizers

STEPS = 5
RNG = np.random.default_rng(0)
PARAMS = {"decoder": {"kernel": RNG.normal(size=(6, 4)), "bias": RNG.normal(size=4)}}
GRADIENTS = [{"decoder": {"kernel": RNG.normal(size=(6, 4)), "bias": RNG.normal(size=4)}} for _ in range(STEPS)]


def settings(**changes):
    return {**defaults().optimizer.to_dict(), "learning_rate": 0.1, **changes}


def built(group="decoder", total_steps=100, **changes):
    return optimizers.build(settings(**changes), total_steps, (group,))


def descend(optimizer, gradients=GRADIENTS, params=PARAMS):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    opt_state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step, gradient in enumerate(gradients):
        gradient = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradient)
        params, opt_state, _ = update(gradient, opt_state, params, jnp.int32(step))
    return params


def numpy_adam(value, gradients, rate, b1=0.9, b2=0.999, weight_decay=0.0):
    mean, square = 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        mean, square = b1 * mean + (1 - b1) * g, b2 * square + (1 - b2) * g**2
        update = mean / (1 - b1**t) / (np.sqrt(square / (1 - b2**t)) + 1e-8)
        value = value - rate(t - 1) * (update + weight_decay * value)
    return value


def numpy_muon(value, gradients, rate, beta=0.95):
    momentum = 0.0
    for t, g in enumerate(gradients, start=1):
        momentum = beta * momentum + (1 - beta) * g
        x = beta * momentum / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)  # Nesterov
        x = x.T / np.linalg.norm(x)  # wide: 4 x 6
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        value = value - rate(t - 1) * 0.2 * np.sqrt(max(value.shape)) * x.T
    return value


def leaf(tree, name):
    return np.asarray(tree["decoder"][name])


@pytest.mark.parametrize("name,weight_decay", [("adam", 0.0), ("adamw", 0.3)])
def test_adam_and_adamw_against_numpy(name, weight_decay):
    got = descend(built(name=name, b1=0.8, b2=0.95, weight_decay=weight_decay))
    for key in ("kernel", "bias"):
        gradients = [g["decoder"][key] for g in GRADIENTS]
        want = numpy_adam(PARAMS["decoder"][key], gradients, lambda _: 0.1, 0.8, 0.95, weight_decay)
        np.testing.assert_allclose(leaf(got, key), want, rtol=2e-5, atol=1e-6)


def test_sgd_against_numpy():
    got = descend(built(name="sgd"))
    want = PARAMS["decoder"]["kernel"] - 0.1 * sum(g["decoder"]["kernel"] for g in GRADIENTS)
    np.testing.assert_allclose(leaf(got, "kernel"), want, rtol=1e-5, atol=1e-6)


def test_rmsprop_against_numpy():
    got = descend(built(name="rmsprop", b2=0.9))
    want, square = PARAMS["decoder"]["kernel"], 0.0
    for gradients in GRADIENTS:
        square = 0.9 * square + 0.1 * gradients["decoder"]["kernel"] ** 2
        want = want - 0.1 * gradients["decoder"]["kernel"] / np.sqrt(square + 1e-16)
    np.testing.assert_allclose(leaf(got, "kernel"), want, rtol=1e-5, atol=1e-6)


def test_muon_is_for_matrices_and_adam_for_the_rest():
    got = descend(built(name="muon"))
    kernel = numpy_muon(PARAMS["decoder"]["kernel"], [g["decoder"]["kernel"] for g in GRADIENTS], lambda _: 0.1)
    np.testing.assert_allclose(leaf(got, "kernel"), kernel, rtol=1e-4, atol=1e-5)
    bias = numpy_adam(PARAMS["decoder"]["bias"], [g["decoder"]["bias"] for g in GRADIENTS], lambda _: 0.1)
    np.testing.assert_allclose(leaf(got, "bias"), bias, rtol=2e-5, atol=1e-6)


def test_muon_takes_the_kernel_of_a_convolution_as_the_matrix_it_multiplies_with():
    gradients = [{"decoder": {"kernel": RNG.normal(size=(3, 2, 1, 4))}} for _ in range(STEPS)]
    start = RNG.normal(size=(3, 2, 1, 4))
    got = descend(built(name="muon"), gradients, {"decoder": {"kernel": start}})
    matrices = [g["decoder"]["kernel"].reshape(6, 4) for g in gradients]
    want = numpy_muon(start.reshape(6, 4), matrices, lambda _: 0.1)
    np.testing.assert_allclose(leaf(got, "kernel").reshape(6, 4), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "schedule,expected",
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [1.0, *(0.2 + 0.4 * (1 + np.cos(np.pi * f)) for f in (0.25, 0.5, 0.75)), 0.2]),
    ],
)
def test_schedules_run_from_the_warm_up_to_the_end(schedule, expected):
    values = settings(learning_rate=1.0, final_learning_rate=0.2, schedule=schedule, warmup_steps=4)
    rates = [float(optimizers.learning_rate(values, 12, step)) for step in (4, 6, 8, 10, 12)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    warm = [float(optimizers.learning_rate(values, 12, step)) for step in range(4)]
    np.testing.assert_allclose(warm, [0.25, 0.5, 0.75, 1.0], rtol=1e-6)


def test_a_schedule_without_warm_up_starts_with_its_whole_rate():
    values = settings(learning_rate=1e-3, final_learning_rate=1e-7, schedule="linear")
    assert float(optimizers.learning_rate(values, 2_000, 0)) == pytest.approx(1e-3)
    assert float(optimizers.learning_rate(values, 2_000, 1_999)) == pytest.approx(1e-7 + 1e-3 / 2_000, rel=1e-3)


def test_the_rate_of_each_step_multiplies_its_update():
    rate = lambda step: 0.1 * (1 - step / 10)  # noqa: E731
    got = descend(built(schedule="linear", total_steps=10))
    want = numpy_adam(PARAMS["decoder"]["bias"], [g["decoder"]["bias"] for g in GRADIENTS], rate)
    np.testing.assert_allclose(leaf(got, "bias"), want, rtol=2e-5, atol=1e-6)


def test_groups_have_settings_of_their_own():
    overrides = {
        "encoder": {"name": "sgd", "learning_rate": 0.5, "final_learning_rate": 0.1},
        "latents": {"schedule": "constant", "learning_rate": 3.0},
    }
    given = settings(schedule="linear", groups=overrides)
    optimizer = optimizers.build(given, 10, ("encoder", "decoder", "latents"))
    assert optimizer.learning_rates(5) == pytest.approx(
        {"learning_rate/encoder": 0.3, "learning_rate/decoder": 0.05, "learning_rate/latents": 3.0}
    )
    params = {"encoder": jnp.ones(2), "decoder": jnp.ones(2)}
    new, _, _ = optimizer.update(
        {"encoder": 2 * jnp.ones(2), "decoder": 2 * jnp.ones(2)}, optimizer.init(params), params, jnp.int32(5)
    )
    np.testing.assert_allclose(new["encoder"], 1 - 0.3 * 2, rtol=1e-6)  # plain descent
    np.testing.assert_allclose(new["decoder"], 1 - 0.05, rtol=1e-6)  # Adam's first step


def test_clipping_scales_all_groups_by_their_global_norm():
    optimizer = optimizers.build(settings(name="sgd", gradient_clip_norm=1.0), 10, ("encoder", "decoder"))
    params = {"encoder": jnp.zeros(1), "decoder": jnp.zeros(1)}
    gradients = {"encoder": jnp.array([3.0]), "decoder": jnp.array([4.0])}
    new, _, norm = optimizer.update(gradients, optimizer.init(params), params, jnp.int32(0))
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose([new["encoder"][0], new["decoder"][0]], [-0.06, -0.08], rtol=1e-6)
    small, _, _ = optimizer.update(jax.tree.map(lambda g: 0.1 * g, gradients), optimizer.init(params), params, 0)
    np.testing.assert_allclose([small["encoder"][0], small["decoder"][0]], [-0.03, -0.04], rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_each_row_of_a_table_has_its_own_optimizer(name):
    optimizer = built("latents", name=name)
    rows = jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)
    state = optimizer.init_rows(rows)
    gradients = jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)
    together, _ = optimizer.update_rows(gradients, state, rows, jnp.int32(0))
    for row in range(3):
        alone = numpy_adam(np.asarray(rows[row]), [np.asarray(gradients[row])], lambda _: 0.1)
        np.testing.assert_allclose(together[row], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"name": "adamm"}, "unknown name 'adamm'; did you mean 'adam'?"),
        ({"schedule": "cosin"}, "did you mean 'cosine'?"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be at least 0"),
        ({"b2": 1.0}, "b2 must be in"),
        ({"weight_decay": 0.1}, "adam has no weight_decay; adamw and muon have"),
        ({"groups": {"decodr": {}}}, "optimizer.groups.decodr: no such group; did you mean 'decoder'?"),
        ({"groups": {"decoder": {"learning_rat": 1.0}}}, "did you mean 'learning_rate'?"),
        ({"groups": {"decoder": {"gradient_clip_norm": 1.0}}}, "gradient_clip_norm: not a setting of a group"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UserError) as error:
        built(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)
