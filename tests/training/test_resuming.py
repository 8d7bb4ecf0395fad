"""Interrupted trainings go on as if nothing had been: bit for bit, after kill -9, on other devices."""

import json
import signal
import socket

import jax
import numpy as np
import pytest
from run_helpers import assert_same_state, metrics_without_times, run_process, saved_state, steps_on_disk, stop_after
from stand_in import install, tiny_config

from dfm import train
from dfm.errors import UserError
from dfm.results import read_lines
from dfm.training import setting_up
from dfm.training.runs import load_run
from dfm.training.sharding import data_mesh

KINDS = {"encoder": True, "table": False}
MOVING = {"ema_decay": 0.9, "optimizer.schedule": "cosine", "optimizer.gradient_clip_norm": 0.5}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request, tmp_path_factory):
    """(kind, config, workdir) of a training of twelve steps."""
    workdir = tmp_path_factory.mktemp(request.param)
    config = tiny_config(KINDS[request.param], **MOVING)
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        assert train.train(config, str(workdir)) == 0
    return request.param, config, workdir


def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(uninterrupted, tmp_path, monkeypatch):
    kind, config, whole = uninterrupted
    with monkeypatch.context() as patch:
        stop_after(patch, 5)  # within an interval of the log, between two checkpoints
        assert train.train(config, str(tmp_path)) == 0
    assert steps_on_disk(tmp_path) == [4, 5]
    assert train.train(config, str(tmp_path)) == 0
    state = saved_state(tmp_path, 12)
    assert_same_state(state, saved_state(whole, 12))
    names = " ".join(name for name, _ in state)
    for part in ("step", "key", "['params']", "ema_params", "opt_state", *(["latents"] if kind == "table" else [])):
        assert part in names
    assert metrics_without_times(tmp_path) == metrics_without_times(whole)
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 5]


def test_what_a_run_leaves(uninterrupted):
    kind, config, workdir = uninterrupted
    assert steps_on_disk(workdir) == [4, 8, 12]
    lines = read_lines(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert lines[-1]["loss"] < lines[0]["loss"]
    for line in lines:
        assert line["psnr"] == pytest.approx(10 * np.log10(4 / line["mse"]))
        groups = {"decoder", "encoder" if kind == "encoder" else "latents"}
        assert {key.partition("/")[2] for key in line if key.startswith("learning_rate/")} == groups
        assert line["pictures_per_second"] == pytest.approx(20 * line["steps_per_second"])
    run = json.loads((workdir / "run.json").read_text())
    assert run["examples"] == 1500 and run["parameters"]["decoder"] == 4 * 64 + 64
    assert run["starts"][0]["versions"]["jax"] == jax.__version__
    assert json.loads((workdir / "config.json").read_text())["optimizer"]["schedule"] == "cosine"
    run = load_run(workdir)
    assert run.step == 12 and set(run.params) == ({"decoder", "encoder"} if kind == "encoder" else {"decoder"})
    assert (run.latents is None) == (kind == "encoder")
    averaged = dict(saved_state(workdir, 12))["['ema_params']['decoder']['bias']"]
    np.testing.assert_array_equal(run.params["decoder"]["bias"], averaged)
    assert load_run(workdir, 8).step == 8 and load_run(workdir, "best").step == 12
    with pytest.raises(UserError, match="no checkpoint of step 7 "):
        load_run(workdir, 7)


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_the_same_command_after_the_end_has_nothing_to_do(uninterrupted):
    _, config, workdir = uninterrupted
    before = metrics_without_times(workdir)
    assert train.train(config, str(workdir)) == 0
    assert metrics_without_times(workdir) == before and steps_on_disk(workdir) == [4, 8, 12]


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_another_config_is_refused_with_its_keys_but_for_cadence(uninterrupted):
    _, config, workdir = uninterrupted
    changed = config.copy_and_resolve_references()
    changed.optimizer.learning_rate = 0.5
    changed.batch_size = 60
    changed.keep_last, changed.log_every_steps = 9, 7
    with pytest.raises(UserError) as error:
        train.train(changed, str(workdir))
    message = str(error.value)
    assert "batch_size: 20 -> 60" in message and "optimizer.learning_rate: 0.01 -> 0.5" in message
    assert "keep_last" not in message and "log_every" not in message and "\n" not in message
    changed.optimizer.learning_rate, changed.batch_size = 0.01, 20
    assert train.train(changed, str(workdir)) == 0


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_kill_9_during_a_save_loses_at_most_what_came_after_the_last_checkpoint(uninterrupted, tmp_path):
    _, config, whole = uninterrupted
    killed = run_process(tmp_path, {"encodes": False, "kill_in_save": 8, **MOVING})
    killed.communicate(timeout=100)
    assert killed.returncode == -signal.SIGKILL
    assert steps_on_disk(tmp_path)[0] == 4
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')  # a line cut short
    assert train.train(config, str(tmp_path)) == 0
    assert json.loads((tmp_path / "run.json").read_text())["starts"][1]["step"] in (4, 8)
    assert_same_state(saved_state(tmp_path, 12), saved_state(whole, 12))
    assert metrics_without_times(tmp_path) == metrics_without_times(whole)


def test_two_processes_train_as_one(tmp_path):
    sgd = {"optimizer.name": "sgd", "total_steps": 3, "checkpoint_every_steps": 2, "sample_every_steps": 3}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [run_process(tmp_path / "two", {"encodes": False, **sgd}, place, port) for place in (0, 1)]
    assert train.train(tiny_config(False, **sgd), str(tmp_path / "one")) == 0
    for process in processes:
        errors = process.communicate(timeout=100)[1]
        assert process.returncode == 0, errors
    assert metrics_without_times(tmp_path / "two")[0]["loss"] == pytest.approx(
        metrics_without_times(tmp_path / "one")[0]["loss"], rel=1e-6
    )
    runs = load_run(tmp_path / "two"), load_run(tmp_path / "one")
    two, one = (jax.tree.leaves((run.params, run.latents)) for run in runs)
    for a, b in zip(two, one, strict=True):
        assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["starts"][0]["processes"] == 2
    assert len(list((tmp_path / "two" / "pictures").iterdir())) == 2


@pytest.mark.parametrize("uninterrupted", ["table"], indirect=True)
def test_a_run_goes_on_with_another_number_of_devices(uninterrupted, tmp_path, monkeypatch):
    _, config, whole = uninterrupted
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        train.train(config, str(tmp_path))
    monkeypatch.setattr(setting_up, "data_mesh", lambda: data_mesh(jax.devices()[:2]))
    assert train.train(config, str(tmp_path)) == 0
    here, there = (metrics_without_times(folder)[-1] for folder in (tmp_path, whole))
    assert here["loss"] == pytest.approx(there["loss"], rel=1e-4)
