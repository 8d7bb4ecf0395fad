"""What a training refuses, and how it ends when it must: in one line, with its last checkpoint."""

import json
import signal

import jax
import numpy as np
import pytest
from run_helpers import metrics_without_times, saved_state, steps_on_disk, stop_after
from stand_in import install, tiny_config

from dfm import train
from dfm.data import Batches, load
from dfm.errors import UserError


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size 6 is not divisible by 4 devices"):
        train.train(tiny_config(batch_size=6), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_nan_stops_the_run_and_is_never_saved(tmp_path, capsys):
    stream = Batches(load("digits", "train"), 20, 0)
    example = int(stream.at(6)["index"][0])  # first seen in step 7
    code = train.run_command(
        "dfm.train", lambda _: train.train(tiny_config(**{"objective.break_at": example}), str(tmp_path)), ()
    )
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("dfm.train: step 7: ") and "is nan" in last and "keeps the checkpoint of step 4" in last
    assert steps_on_disk(tmp_path) == [4]
    assert [line["step"] for line in metrics_without_times(tmp_path)] == [3, 6]
    assert all(np.isfinite(leaf).all() for _, leaf in saved_state(tmp_path, 4))


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 2 GB\nof 1 GB")])
def test_lack_of_memory_is_one_line(capsys, error):
    def run(_):
        raise error

    assert train.run_command("dfm.train", run, ()) == 2
    said = capsys.readouterr().err
    assert said.startswith("dfm.train: out of memory: ") and said.count("\n") == 1
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        train.run_command("dfm.train", lambda _: (_ for _ in ()).throw(RuntimeError("a mistake of ours")), ())


def test_sigint_saves_and_says_130(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    stop_after(monkeypatch, 2, signal.SIGINT)
    assert train.train(tiny_config(), str(tmp_path)) == 130
    assert steps_on_disk(tmp_path) == [2]
    assert signal.getsignal(signal.SIGINT) is before


def test_foreign_files_are_not_overwritten(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(UserError, match="holds metrics.jsonl but no config.json: not a run"):
        train.train(tiny_config(), str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is not the config of a run"):
        train.train(tiny_config(), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.jsonl"]
    with pytest.raises(UserError, match="is a file, not a folder"):
        train.train(tiny_config(), str(tmp_path / "metrics.jsonl"))


def test_a_folder_that_takes_no_files_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()  # root may write anywhere: this stands for a read-only folder
    with pytest.raises(UserError, match=r"cannot be written to \(Is a directory\)"):
        train.train(tiny_config(), str(tmp_path))


def test_a_run_without_a_checkpoint_begins_anew_with_any_config(tmp_path):
    (tmp_path / "log.txt").write_text("of the user, who may put it here")
    config = tiny_config(total_steps=2)
    with train.run_folder.claim(tmp_path, train.resolve(config)):
        with pytest.raises(UserError, match="another training is writing there"):
            train.train(config, str(tmp_path))
    config.optimizer.learning_rate = 0.02
    assert train.train(config, str(tmp_path)) == 0
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 0.02


def test_a_model_of_another_size_than_the_pictures_is_refused(tmp_path):
    config = tiny_config()
    config.model.height = 28
    with pytest.raises(UserError, match=r"the model paints \(28, 8, 1\)"):
        train.train(config, str(tmp_path))
