"""Several steps in one call of the device: the state and the lines of single steps, bit for bit; what is refused."""

import numpy as np
import pytest
from run_helpers import assert_same_state, metrics_without_times, saved_state, steps_on_disk, stop_after
from stand_in import install, tiny_config

from dfm import train
from dfm.data import Batches, load
from dfm.errors import UserError
from dfm.training import steps

MOVING = {"ema_decay": 0.9, "optimizer.schedule": "cosine", "optimizer.gradient_clip_norm": 0.5}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


@pytest.mark.parametrize("encodes", [True, False])
def test_steps_together_are_single_steps_bit_for_bit(encodes, tmp_path, monkeypatch):
    calls = []
    take = steps.StepsTogether.take
    monkeypatch.setattr(steps.StepsTogether, "take", lambda *them: _noted(calls, take(*them)))
    for count, where in ((1, "single"), (3, "together")):
        config = tiny_config(encodes, total_steps=11, log_every_steps=5, steps_per_call=count, **MOVING)
        assert train.train(config, str(tmp_path / where)) == 0
    # 4, 5, 8, 10 are boundaries, and 11 is the last step
    assert calls == [3, 1, 1, 3, 1, 1, 1]
    assert_same_state(saved_state(tmp_path / "single", 11), saved_state(tmp_path / "together", 11))
    assert metrics_without_times(tmp_path / "single") == metrics_without_times(tmp_path / "together")
    assert steps_on_disk(tmp_path / "single") == steps_on_disk(tmp_path / "together")


def _noted(calls, taken):
    calls.append(taken[2])
    return taken


def test_a_run_goes_on_with_another_number_of_steps_a_call(tmp_path, monkeypatch):
    config = tiny_config(True, total_steps=8, **MOVING)
    assert train.train(config, str(tmp_path / "whole")) == 0
    config.steps_per_call = 2
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        assert train.train(config, str(tmp_path / "parts")) == 0
    config.steps_per_call = 1
    assert train.train(config, str(tmp_path / "parts")) == 0
    assert_same_state(saved_state(tmp_path / "whole", 8), saved_state(tmp_path / "parts", 8))


def test_a_number_that_is_not_finite_is_told_with_its_step(tmp_path):
    broken = Batches(load("digits"), 20, 0).examples(6)[3]  # comes up first in the step after six steps
    config = tiny_config(True, total_steps=12, steps_per_call=4, log_every_steps=12, checkpoint_every_steps=12)
    config.objective.break_at = int(broken)
    with pytest.raises(UserError, match="step 7: .* is nan"):
        train.train(config, str(tmp_path))


def test_pictures_that_cannot_lie_on_the_devices_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="dataset.flip"):
        train.train(tiny_config(True, steps_per_call=2, **{"dataset.flip": True}), str(tmp_path))
    monkeypatch.setattr(steps, "MOST_BYTES", 1_000)
    with pytest.raises(UserError, match="GiB of pictures"):
        train.train(tiny_config(True, steps_per_call=2), str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_batches_know_their_examples():
    batches = Batches(load("digits"), 64, 3)
    np.testing.assert_array_equal(batches.examples(30), batches.at(30)["index"])
