"""The check of published likelihoods: nets and data as in the sources; a trial trains, chooses, bounds and resumes."""

import dataclasses
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from dfm.results import read_lines

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_published.py"


@pytest.fixture
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def grey(tmp_path):
    """A data folder whose MNIST has 60 pictures: half of the pixels black, the others of one grey."""
    pictures = np.zeros((60, 28, 28, 1), np.uint8)
    pictures[:, :, 14:] = 64
    for split in ("train", "test"):
        (tmp_path / "data" / "mnist").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "data" / "mnist" / f"{split}-images.npy", pictures)
    return tmp_path / "data"


def test_nets_are_those_of_the_sources(script):
    jaanli, pythae = (script["make_config"](script["CHECKS"][name], None) for name in ("jaanli", "pythae"))
    assert (jaanli.batch_size, jaanli.total_steps, tuple(jaanli.model.widths)) == (128, 30_000, (512, 512))
    assert (pythae.batch_size, pythae.total_steps, tuple(pythae.model.latent)) == (100, 250_000, (40,))
    assert (jaanli.optimizer.name, pythae.optimizer.name) == ("rmsprop", "adam")
    assert jaanli.optimizer.learning_rate == pythae.optimizer.learning_rate == 1e-3


def test_pixels_are_drawn_once_by_their_grey(script, grey, tmp_path):
    script["binarise"](str(grey), tmp_path / "made")
    train = np.load(tmp_path / "made" / "mnist_static" / "train-images.npy")
    assert set(np.unique(train)) == {0, 255} and not train[:, :, :14].any()
    assert (train[:, :, 14:] == 255).mean() == pytest.approx(64 / 255, abs=0.02)
    script["binarise"](str(grey), tmp_path / "again")
    assert np.array_equal(train, np.load(tmp_path / "again" / "mnist_static" / "train-images.npy"))


def test_trial_trains_chooses_and_is_not_run_twice(script, grey, tmp_path, monkeypatch, capsys):
    main = script["main"]
    small = dataclasses.replace(script["CHECKS"]["pythae"], widths=(8,), latent=4, batch_size=12)
    monkeypatch.setitem(main.__globals__, "CHECKS", {"pythae": small})
    monkeypatch.setitem(main.__globals__, "TRAINED", 40)
    monkeypatch.setitem(main.__globals__, "TRIED_PICTURES", 20)
    output = tmp_path / "rows.jsonl"
    words = ["--steps=3", f"--workdir={tmp_path}", f"--data_dir={grey}", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["check_published.py", *words])
    assert main() == main() == 1  # a trial is within nothing
    (line,) = read_lines(output)
    assert line["metrics"]["iwae_2_nats"] > line["metrics"]["elbo_nats"] - 5
    assert "static" in line["metrics"]["binarisation"] and line["metrics"]["step"] <= 3
    assert "NOT within" in capsys.readouterr().out


def test_a_number_that_is_missing_is_within_nothing(script):
    published = {"elbo_nats": -100.0, "iwae_nats": -90.0}
    assert script["within"](published, {"elbo_nats": 1.4, "iwae_nats": -1.4})
    assert not script["within"](published, {"elbo_nats": 0.1})
    assert not script["within"](published, {"elbo_nats": 0.1, "iwae_nats": 1.6})
