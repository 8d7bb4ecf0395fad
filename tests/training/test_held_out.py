import numpy as np
import pytest
from run_helpers import metrics_without_times
from stand_in import install, tiny_config

from dfm import train
from dfm.data import load
from dfm.errors import UserError
from dfm.models import latent_vectors
from dfm.training.runs import load_run


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


def test_test_pictures_are_evaluated_every_so_many_steps_and_change_nothing(tmp_path):
    train.train(tiny_config(evaluate_every_steps=6), str(tmp_path / "with"))
    train.train(tiny_config(), str(tmp_path / "without"))
    lines, plain = (metrics_without_times(tmp_path / name) for name in ("with", "without"))
    assert [line.get("eval_step") for line in lines] == [None, 6, None, 12]
    assert [{k: v for k, v in line.items() if not k.startswith("eval_")} for line in lines] == plain
    run, test = load_run(tmp_path / "with"), load("digits", "test")
    images = test.take(np.arange(len(test))) / np.float32(127.5) - 1
    painted = latent_vectors.decode(run.model, run.variables, latent_vectors.encode(run.model, run.variables, images))
    psnr = 10 * np.log10(4 / np.square(painted - images).mean())
    assert lines[-1]["eval_psnr"] == pytest.approx(psnr, abs=0.15)  # of 250 of the 297 pictures
    assert lines[-1]["eval_loss"] < lines[1]["eval_loss"]
    assert lines[-1]["eval_loss"] == pytest.approx(lines[-1]["eval_mse"], rel=0.01)


def test_what_has_no_held_out_pictures_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="needs a model with an encoder"):
        train.train(tiny_config(False, evaluate_every_steps=6), str(tmp_path / "run"))
    with pytest.raises(UserError, match="which dataset.split trains on"):
        train.train(tiny_config(evaluate_every_steps=6, **{"dataset.split": "train+test"}), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
