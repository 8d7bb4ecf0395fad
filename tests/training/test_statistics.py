"""What a model averages over steps is saved, restored, sampled and previewed with; labels reach the model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from averaging import Averaging, AveragingModel
from stand_in import tiny_config

from dfm import models, objectives, train
from dfm.arrays import to_uint8
from dfm.data import Batches, load
from dfm.errors import UserError
from dfm.picture_files import load_picture
from dfm.sampling import RunData
from dfm.sampling.painter import Painter
from dfm.training.runs import load_run

STEPS, BATCH = 8, 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same training without and with an interruption."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", lambda config, shape=None: AveragingModel())
        patch.setattr(objectives, "build", lambda config, model: Averaging(model))
        settings = {"sample_every_steps": STEPS, "ema_decay": 0.9, "optimizer.learning_rate": 0.01}
        train.train(tiny_config(**settings, total_steps=STEPS), str(folder / "whole"))
        train.train(tiny_config(**settings, total_steps=4), str(folder / "cut"))
        config = folder / "cut" / "config.json"
        config.write_text(config.read_text().replace('"total_steps": 4', f'"total_steps": {STEPS}'))
        train.train(tiny_config(**settings, total_steps=STEPS), str(folder / "cut"))
        yield load_run(folder / "whole"), load_run(folder / "cut")


def expected_means():
    means, batches = np.zeros((10, 64)), Batches(load("digits"), BATCH, seed=0)
    for step in range(STEPS):
        batch = batches.at(step)
        images = batch["image"].reshape(BATCH, 64) / 127.5 - 1
        for label in set(batch["label"]):
            means[label] = 0.8 * means[label] + 0.2 * images[batch["label"] == label].mean(0)
    return means


def test_statistics_of_the_model_outlive_the_training_bit_for_bit(runs):
    whole, cut = runs
    np.testing.assert_allclose(whole.statistics["averages"]["means"], expected_means(), atol=1e-5)
    assert set(whole.statistics) == {"averages"}  # not "steps": the training's own
    assert (
        np.asarray(whole.statistics["averages"]["means"]).tobytes()
        == np.asarray(cut.statistics["averages"]["means"]).tobytes()
    )
    assert whole.sha256 == cut.sha256
    assert whole.sha256 != dataclasses.replace(whole, statistics={"averages": {"means": jnp.zeros((10, 64))}}).sha256


def test_a_training_that_starts_from_a_run_takes_its_statistics_too(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "build", lambda config, shape=None: AveragingModel())
    monkeypatch.setattr(objectives, "build", lambda config, model: Averaging(model))
    changes = {"pretrained.path": str(runs[0].workdir), "dataset.label": 3, "optimizer.learning_rate": 0.0}
    assert train.train(tiny_config(total_steps=1, **changes), str(tmp_path)) == 0
    before, after = (np.asarray(run.statistics["averages"]["means"]) for run in (runs[0], load_run(tmp_path)))
    others = np.arange(10) != 3
    np.testing.assert_array_equal(after[others], before[others])
    first = Batches(load("digits", label=3), BATCH, seed=0).at(0)["image"].reshape(BATCH, 64) / 127.5 - 1
    np.testing.assert_allclose(after[3], 0.8 * before[3] + 0.2 * first.mean(0), atol=1e-5)


def test_painting_uses_statistics_and_labels(runs):
    run = runs[0]
    labels = np.array([3, 7, 3])
    painted = Painter(run, batch_size=2).paint(np.zeros((3, 2), np.float32), labels)
    means = np.asarray(run.statistics["averages"]["means"]).reshape(10, 8, 8, 1)
    np.testing.assert_array_equal(painted, to_uint8(means[labels]))
    with pytest.raises(UserError, match="conditioned on a class: name one of 0 to 9"):
        Painter(run).paint(np.zeros((3, 2), np.float32))
    with pytest.raises(UserError, match="classes 0 to 9, not 10"):
        Painter(run).paint(np.zeros((2, 2), np.float32), np.array([3, 10]))


def test_encodings_of_a_data_set_are_given_its_labels(runs):
    data = RunData(runs[0])
    rows = np.arange(5)
    images = data.train.take(rows).reshape(5, 64) / np.float32(127.5) - 1
    centred = images - np.asarray(runs[0].statistics["averages"]["means"])[data.train.labels[rows]]
    kernel, bias = (np.asarray(runs[0].params["encoder"][name]) for name in ("kernel", "bias"))
    np.testing.assert_allclose(data.latents_of_training(rows), centred @ kernel + bias, atol=1e-4)


def test_previews_use_them_too(runs):
    run = runs[0]
    page = load_picture(run.workdir / "pictures" / f"reconstructions-{STEPS:08d}.png")
    first = Batches(load("digits"), BATCH, seed=0).at(0)
    painter = Painter(run)
    expected = painter.paint(painter.encode(first["image"][:1], first["label"][:1]), first["label"][:1])
    np.testing.assert_allclose(page[9:17, :8].astype(int), expected[0].astype(int), atol=1)
