import gc
import os
import shutil
import threading

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


def cut(path):
    path.write_bytes(path.read_bytes()[: min(100, path.stat().st_size // 2)])


def flip(path):
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [cut, flip, os.remove], ids=["truncated", "one bit flipped", "deleted"])
def test_a_checkpoint_with_any_file_damaged_is_one_line_or_what_was_saved(tmp_path, everywhere, capfd, damage):
    values = np.random.default_rng(0).normal(size=(8, 500)).astype(np.float32)  # some kilobytes: files of their own
    state = jax.device_put({f"w{row}": value for row, value in enumerate(values)}, everywhere)
    with Checkpoints(tmp_path, 2, 1) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, {}, 0.0)
    damaged, whole = tmp_path / "checkpoints" / "2", tmp_path / "whole"
    shutil.copytree(damaged, whole)
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    told = set()
    for name in files:
        damage(damaged / name)
        with Checkpoints(tmp_path, 2, 1) as checkpoints:
            try:
                restored, _ = checkpoints.restore(2, state, everywhere)
            except UserError as error:
                assert f"{damaged}: " in str(error) and "\n" not in str(error)
                told.add(name)
            else:
                for row, value in enumerate(values):
                    np.testing.assert_array_equal(restored[f"w{row}"], value)
            assert 1 in checkpoints.steps
        shutil.copytree(whole, damaged, dirs_exist_ok=True)
    gc.collect()  # what a failed restore left behind would say so now
    assert "Traceback" not in capfd.readouterr().err
    largest = max(files, key=lambda name: (whole / name).stat().st_size)
    assert largest.parent.name == "d" and largest in told  # the arrays


@pytest.mark.parametrize("text", ['{"score": 0', '{"scorn": 0.5}', "\xff"])
def test_a_damaged_score_costs_a_checkpoint_its_rank_alone(tmp_path, everywhere, capsys, text):
    state = {"w": jnp.zeros(3)}
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, {}, float(step))
    (tmp_path / "checkpoints" / "2" / "metrics" / "metrics").write_bytes(text.encode("latin-1"))
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        assert "2/metrics/metrics: was damaged" in capsys.readouterr().err
        checkpoints.restore(2, state, everywhere)
        checkpoints.save(3, state, {}, 3.0)
        checkpoints.wait()
        assert checkpoints.steps[0] == 3 and checkpoints.steps[-1] == 1


def test_what_a_killed_save_left_is_gone_at_the_start_and_no_thread_stays(tmp_path):
    unfinished = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp"
    (unfinished / "state").mkdir(parents=True)
    before = set(threading.enumerate())
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        assert not unfinished.exists() and checkpoints.steps == []
        assert set(threading.enumerate()) == before  # one that outlived the program would print a traceback
