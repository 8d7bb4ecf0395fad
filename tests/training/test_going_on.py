"""Going on with a run: with more steps, with other pictures, from damaged checkpoints, with little room on the disk."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from run_helpers import HERE, assert_same_state, metrics_without_times, saved_state, steps_on_disk
from stand_in import install, tiny_config

from dfm import train
from dfm.data import load
from dfm.errors import UserError
from dfm.picture_files import save_picture
from dfm.sampling import RunData
from dfm.training.runs import load_run


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    """40 digits as PNG files."""
    path = tmp_path / "digits"
    path.mkdir()
    for row, picture in enumerate(load("digits").take(np.arange(40))):
        save_picture(path / f"{row:03d}.png", picture)
    return path


def of_folder(folder, encodes=True, **changes):
    return tiny_config(encodes, **{"dataset.name": f"folder:{folder}", **changes})


def test_more_steps_at_a_constant_rate_equal_a_run_that_had_them_from_the_start(tmp_path):
    for workdir, steps in (("whole", 12), ("longer", 6), ("longer", 12)):
        assert train.train(tiny_config(total_steps=steps), str(tmp_path / workdir)) == 0
    assert_same_state(saved_state(tmp_path / "longer", 12), saved_state(tmp_path / "whole", 12))
    assert metrics_without_times(tmp_path / "longer") == metrics_without_times(tmp_path / "whole")
    with pytest.raises(UserError, match="total_steps: 12 -> 6"):
        train.train(tiny_config(total_steps=6), str(tmp_path / "longer"))


def test_more_steps_under_a_schedule_need_a_word_and_plan_it_anew(tmp_path):
    changes = {"optimizer.schedule": "linear", "optimizer.learning_rate": 0.01}
    train.train(tiny_config(total_steps=6, **changes), str(tmp_path))
    with pytest.raises(UserError, match="total_steps: 6 -> 12 plans the schedule 'linear' anew .* say --extend"):
        train.train(tiny_config(total_steps=12, **changes), str(tmp_path))
    assert train.train(tiny_config(total_steps=12, **changes), str(tmp_path), extend=True) == 0
    rates = [line["learning_rate/decoder"] for line in metrics_without_times(tmp_path)]
    np.testing.assert_allclose(rates, 0.01 * (1 - np.array([2 / 6, 5 / 6, 8 / 12, 11 / 12])), rtol=1e-6)
    assert json.loads((tmp_path / "config.json").read_text())["total_steps"] == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "003.png").rename(path / "zzz.png"), "the names of pictures"),
        (lambda path: (path / "003.png").unlink(), "40 pictures then, 39 now"),
        (lambda path: save_picture(path / "003.png", np.zeros((8, 8, 1), np.uint8)), "the pictures themselves"),
    ],
    ids=["renamed", "one fewer", "replaced"],
)
def test_other_pictures_are_refused_and_what_changed_is_named(folder, tmp_path, change, message):
    train.train(of_folder(folder, encodes=False, batch_size=8, total_steps=4), str(tmp_path / "run"))
    assert len(RunData(load_run(tmp_path / "run")).train) == 40
    change(folder)
    with pytest.raises(UserError, match=rf"is not the data of this run any more \(.*{message}"):
        train.train(of_folder(folder, encodes=False, batch_size=8, total_steps=8), str(tmp_path / "run"))
    with pytest.raises(UserError, match="not the data of th"):  # a latent would paint another picture
        RunData(load_run(tmp_path / "run")).train  # noqa: B018


def test_bad_pictures_are_all_named_before_the_first_step(folder, tmp_path):
    for name in ("005.png", "031.png"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="2 of 40 pictures cannot be read: .*005.png.*031.png") as error:
        train.train(of_folder(folder), str(tmp_path / "run"))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_picture_that_breaks_in_mid_training_costs_no_step(folder, tmp_path, monkeypatch):
    from dfm.data import Batches

    made = Batches.at

    def at(self, step):
        if step == 6:
            raise UserError("012.png: is damaged")
        return made(self, step)

    config = of_folder(folder, checkpoint_every_steps=100)
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "at", at)
        with pytest.raises(UserError, match=r"012.png: is damaged"):
            train.train(config, str(tmp_path / "run"))
    assert steps_on_disk(tmp_path / "run") == [6]
    assert train.train(config, str(tmp_path / "run")) == 0
    train.train(config, str(tmp_path / "whole"))
    assert_same_state(saved_state(tmp_path / "run", 12), saved_state(tmp_path / "whole", 12))


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [cut, flip, os.remove], ids=["truncated", "one bit flipped", "deleted"])
def test_a_damaged_checkpoint_is_told_and_the_last_sound_one_named(tmp_path, capsys, damage):
    config = tiny_config()
    train.train(config, str(tmp_path))
    whole = saved_state(tmp_path, 12)
    for path in (tmp_path / "checkpoints" / "12" / "state").glob("**/d/*"):  # arrays lie in d/ or ocdbt.process_0/d/
        damage(path)
    with pytest.raises(UserError, match=r"checkpoints/12: .*that of step 8 is sound \(which=8\)") as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value) and load_run(tmp_path, 8).step == 8
    capsys.readouterr()
    assert train.train(config, str(tmp_path)) == 0
    assert re.search(
        r"checkpoints/12: .*moved to .*damaged-checkpoint-12, going on from step 8", capsys.readouterr().err
    )
    assert_same_state(saved_state(tmp_path, 12), whole)


def test_a_damaged_score_is_told_and_mended_by_going_on(tmp_path):
    train.train(tiny_config(total_steps=6), str(tmp_path))
    score = tmp_path / "checkpoints" / "6" / "metrics" / "metrics"
    score.write_text('{"score": 0')
    with pytest.raises(UserError, match="6/metrics/metrics: is damaged, .*name a step"):
        load_run(tmp_path, "best")
    with pytest.raises(UserError, match=r"checkpoints/6: .*that of step 4 is sound"):
        load_run(tmp_path)
    assert load_run(tmp_path, 4).step == 4 and score.exists()  # who only reads changes nothing
    assert train.train(tiny_config(total_steps=6), str(tmp_path)) == 0
    assert load_run(tmp_path).step == 6 and load_run(tmp_path, "best").step == 4


FULL = """
import resource, sys
sys.path.insert(0, {here!r})
from stand_in import install, tiny_config
from dfm import train
from dfm.command_line import run_command
install()
def run(_):
    train.train(tiny_config(total_steps=4), {workdir!r})
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # the kernel refuses to write more into any file
    return train.train(tiny_config(total_steps=8, log_every_steps=100), {workdir!r})
sys.exit(run_command("dfm.train", run, ()))
"""


def test_a_disk_that_takes_no_more_is_one_line_and_the_last_checkpoint_is_kept(tmp_path):
    program = FULL.format(here=str(HERE), workdir=str(tmp_path / "run"))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "File too large" in done.stderr.splitlines()[-1]
    assert load_run(tmp_path / "run").step == 4
