from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stand_in import LinearMachine, Reconstruction, tiny_config

from dfm.training import optimizers
from dfm.training.sharding import data_mesh, on_each_device, place_batch
from dfm.training.state import LatentTable, TrainState
from dfm.training.step import make_step, moving_average, with_floats

EXAMPLES, BATCH = 40, 8


@cache
def first_params(encodes):
    objective = Reconstruction(LinearMachine(encodes))
    return objective, jax.jit(objective.init)(jax.random.key(0)), objective.init_latents(jax.random.key(1), EXAMPLES)


def parts(encodes, name="adam", **changes):
    objective, params, values = first_params(encodes)
    settings = tiny_config(**{"optimizer.name": name, **changes}).optimizer.to_dict()
    optimizer = optimizers.build(settings, 100, tuple(params) if encodes else (*params, "latents"))
    table = None if encodes else LatentTable(values, optimizer.init_rows(values))
    opt_state = optimizer.init(params)
    return objective, optimizer, TrainState(jnp.int32(0), jax.random.key(2), params, None, opt_state, table)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (BATCH, 8, 8, 1)).astype(np.uint8),
        "label": np.zeros(BATCH, np.int32),
        "index": rng.choice(EXAMPLES, BATCH, replace=False).astype(np.int32),
    }


def copy(tree):
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def relative(a, b):
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64) for tree in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_rows_of_other_pictures_stay_untouched_bit_for_bit():
    objective, optimizer, state = parts(encodes=False)
    step = jax.jit(make_step(objective, optimizer))
    state, _ = step(state, batch(0))  # moments are no longer zero
    before = copy(state.latents)
    state, _ = step(state, batch(1))
    after = copy(state.latents)
    touched = np.zeros(EXAMPLES, bool)
    touched[batch(1)["index"]] = True
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert old[~touched].tobytes() == new[~touched].tobytes()
        assert (old[touched] != new[touched]).any(axis=tuple(range(1, old.ndim))).all()


def test_a_row_is_updated_as_by_an_optimizer_of_its_own_at_the_rate_of_the_global_step():
    objective, optimizer, state = parts(
        encodes=False, **{"optimizer.schedule": "linear", "optimizer.learning_rate": 0.5}
    )
    step = jax.jit(make_step(objective, optimizer))
    other, mine = batch(0), batch(1)
    other["index"] = np.arange(BATCH, dtype=np.int32)
    mine["index"] = np.arange(BATCH, 2 * BATCH, dtype=np.int32)
    for _ in range(3):
        state, _ = step(state, other)
    start = np.array(state.latents.values)
    state, _ = step(state, mine)
    # Adam's first update of a row is its rate, whatever the gradient: the fourth step's rate, not the first one's
    moved = np.abs(np.array(state.latents.values) - start)[mine["index"]]
    np.testing.assert_allclose(moved, 0.5 * (1 - 3 / 100), rtol=1e-3)


@pytest.mark.parametrize("encodes", [True, False])
def test_gradients_and_sgd_are_the_same_on_one_two_and_four_devices(encodes):
    objective, optimizer, state = parts(encodes, name="sgd", **{"optimizer.learning_rate": 1.0})
    step = make_step(objective, optimizer)

    def both(state, batch):
        rows = None if encodes else state.latents.values[batch["index"]]
        gradients = objective.gradients(state.params, None, with_floats(batch), state.key, "", rows=rows)[:2]
        new, _ = step(state, batch)
        return gradients, (new.params, None if encodes else new.latents.values)

    found = {}
    for count in (1, 2, 4):
        mesh = data_mesh(jax.devices()[:count])
        everywhere = on_each_device(mesh)
        placed = place_batch(batch(), mesh)
        assert len(placed["image"].sharding.device_set) == count and placed["image"].dtype == jnp.uint8
        found[count] = copy(jax.jit(both, out_shardings=everywhere)(jax.device_put(state, everywhere), placed))
    for count in (2, 4):
        for several, one in zip(found[count], found[1], strict=True):
            assert relative(several, one) < 1e-6
    assert relative(found[1][1], copy((state.params, None if encodes else state.latents.values))) > 1e-3


def test_the_gradient_is_that_of_the_mean_loss():
    objective, _, state = parts(encodes=False)
    one = batch()
    rows = state.latents.values[one["index"]]
    find = jax.jit(lambda rows: objective.gradients(state.params, None, with_floats(one), state.key, "", rows=rows)[:2])
    metrics, gradients = find(rows)
    nudge = np.zeros(rows.shape, np.float32)
    nudge[2, 1] = 0.05
    up, down = (find(rows + sign * nudge)[0] for sign in (1, -1))
    assert float(gradients["latents"][2, 1]) == pytest.approx(float(up["loss"] - down["loss"]) / 0.1, rel=0.02)
    assert set(metrics) == {"loss", "mse"} and set(gradients) == {"decoder", "latents"}


def test_each_step_has_a_key_of_its_own_and_the_runs_key_stays():
    objective, optimizer, state = parts(encodes=True, **{"optimizer.learning_rate": 0.0})
    step = jax.jit(make_step(objective, optimizer))
    first, one = step(state, batch())
    second, two = step(first, batch())
    assert float(one["loss"]) != float(two["loss"])  # noise alone differs
    assert int(second.step) == 2 and (jax.random.key_data(second.key) == jax.random.key_data(state.key)).all()


def test_bfloat16_computes_in_it_and_keeps_float32():
    objective, optimizer, state = parts(encodes=False)
    seen = []

    class Watched(Reconstruction):
        def __call__(self, params, z, batch, key):
            seen.extend([params["decoder"]["kernel"].dtype, z.dtype, batch["image"].dtype])
            return super().__call__(params, z, batch, key)

    watched = Watched(objective.model)
    new, metrics = jax.jit(make_step(watched, optimizer, compute_dtype="bfloat16"))(state, batch())
    assert seen == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    exact, exact_metrics = jax.jit(make_step(objective, optimizer))(state, batch())
    assert {leaf.dtype for leaf in jax.tree.leaves((new.params, new.latents.values))} == {np.dtype("float32")}
    assert float(metrics["loss"]) == pytest.approx(float(exact_metrics["loss"]), rel=0.02)
    assert metrics["loss"].dtype == jnp.float32


def test_the_moving_average_warms_up():
    average, params = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    assert float(moving_average(average, params, 0, 0.999)["w"][0]) == pytest.approx(0.9)
    assert float(moving_average(average, params, 100_000, 0.999)["w"][0]) == pytest.approx(0.001, rel=1e-3)
    assert moving_average(None, params, 0, 0.999) is None
