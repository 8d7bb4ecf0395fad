import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.errors import UserError
from dfm.training.checkpoints import Checkpoints
from dfm.training.sharding import data_mesh, on_each_device


def tree(value):
    return {"w": jnp.full((4, 3), value, jnp.float32), "key": jax.random.key(7), "none": None}


@pytest.fixture
def everywhere():
    return on_each_device(data_mesh())


def test_a_save_goes_on_while_donated_steps_overwrite_the_state(tmp_path, everywhere):
    state = jax.device_put({"w": jnp.arange(2_000_000, dtype=jnp.float32), "v": jnp.zeros(500_000)}, everywhere)
    step = jax.jit(lambda s: jax.tree.map(lambda x: -x - 1, s), donate_argnums=0)
    state = step(step(state))
    with Checkpoints(tmp_path, 3, 0) as checkpoints:
        for at in (1, 2):
            expected = jax.tree.map(np.array, state)
            checkpoints.save(at, state, {}, 0.0)
            for _ in range(21):
                state = step(state)
            checkpoints.wait()
            restored, _ = checkpoints.restore(at, state, everywhere)
            for name in expected:
                np.testing.assert_array_equal(restored[name], expected[name])


def test_the_last_few_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, 2, 1) as checkpoints:
        for step, score in ((1, 0.5), (2, 0.1), (3, 0.4), (4, 0.3), (5, 0.2)):
            checkpoints.save(step, {"w": jnp.zeros(1)}, {}, score)
        checkpoints.wait()
        assert checkpoints.steps == [5, 4, 2]
        assert checkpoints.latest_step == 5
        checkpoints.save(5, {"w": jnp.ones(1)}, {}, 0.0)  # is there already
        checkpoints.wait()


def test_everything_comes_back_on_another_number_of_devices(tmp_path, everywhere):
    saved = jax.device_put(tree(2.5), everywhere)
    progress = {"window": {"loss": [0.1, 1 / 3]}, "score": {"steps": 2, "sum": 0.1 + 1 / 3}}
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        checkpoints.save(10, saved, progress, 0.3)
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        for count in (1, 2):
            sharding = on_each_device(data_mesh(jax.devices()[:count]))
            state, back = checkpoints.restore(checkpoints.latest_step, jax.eval_shape(lambda: tree(0.0)), sharding)
            assert back == progress  # exactly: JSON keeps every digit
            assert state["none"] is None and len(state["w"].sharding.device_set) == count
            np.testing.assert_array_equal(state["w"], saved["w"])
            np.testing.assert_array_equal(*(np.array(jax.random.key_data(k["key"])) for k in (state, saved)))


def test_a_checkpoint_of_another_model_is_named(tmp_path, everywhere):
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(3)}, {}, 0.0)
        checkpoints.wait()
        for other in ({"v": jnp.zeros(3)}, {"w": jnp.zeros(3), "v": jnp.zeros(2)}):
            with pytest.raises(UserError, match="cannot be restored into this model"):
                checkpoints.restore(1, other, everywhere)
