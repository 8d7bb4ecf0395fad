"""The whole life of three generators, and of one on a folder of pictures: train, kill, resume, sample, evaluate."""

import contextlib
import io
import runpy
from pathlib import Path

import numpy as np
import pytest

import dfm.train
from dfm.config import config_module
from dfm.picture_files import save_picture

ROOT = Path(__file__).parents[1]


class Killed(BaseException):
    """In place of a signal: no handler of the program sees it."""


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "check_family.py"))


@pytest.fixture
def train(monkeypatch):
    """Trains in this process, the same step for all lives of one config; where it is to be killed, it is torn away
    after its first checkpoint."""
    steps, make_step = {}, dfm.train.make_step

    def make_once(objective, optimizer, *settings):
        return steps.setdefault((objective, settings), make_step(objective, optimizer, *settings))

    monkeypatch.setattr(dfm.train, "make_step", make_once)

    def trained(config: str, workdir: Path, killed: bool, dataset: str | None = None, **settings) -> None:
        file, _, argument = config.partition(":")
        whole = config_module(ROOT / file).get_config(argument)
        whole.total_steps, whole.checkpoint_every_steps, whole.sample_every_steps = 6, 2, 0
        whole.batch_size = 20
        whole.update(settings)
        if dataset is not None:
            whole.dataset.name = dataset
        save = dfm.train.save

        def save_and_die(*arguments, **more):
            save(*arguments, **more)
            raise Killed

        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
            if killed:
                patch.setattr(dfm.train, "save", save_and_die)
                with pytest.raises(Killed):
                    dfm.train.train(whole, str(workdir))
            else:
                dfm.train.train(whole, str(workdir))

    return trained


@pytest.mark.parametrize("name", ["conditional_vae", "vq_vae", "dfm"])
def test_lives(script, train, tmp_path, name):
    outcome = script["life"](script["members"]()[name], tmp_path, train)
    assert "resumed at step 2" in outcome
    assert (tmp_path / "pictures" / "samples-gaussian.png").exists()


def test_a_learned_prior_paints_by_its_model(script, train, tmp_path):
    outcome = script["life"](script["members"]()["code_prior"], tmp_path, train)
    assert "resumed at step 2; codes" in outcome
    assert list((tmp_path / "pictures").glob("samples-*.png"))


def test_runs_that_end_with_other_numbers_are_told(script, train, tmp_path):
    from dfm.errors import UserError

    def other(config, workdir, killed, dataset):
        train(config, workdir, killed, seed=0 if workdir.name == "whole" else 1)

    with pytest.raises(UserError, match="other numbers"):
        script["life"](script["Member"]("configs/autoencoders.py:linear_ae:quick"), tmp_path, other)


def test_folders_of_pictures_have_lives_too(script, train, tmp_path):
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(16):
            save_picture(tmp_path / "data" / split / f"{number}.png", draw.integers(0, 256, (32, 32, 3), np.uint8))

    def small(config, workdir, killed, dataset):
        train(config, workdir, killed, batch_size=4, model={"widths": (4, 4), "features": 8, "latent": (3,)})

    member = script["Member"](f"configs/autoencoders.py:vae:quick,dataset=folder:{tmp_path / 'data'}")
    outcome = script["life"](member, tmp_path / "life", small, reference=str(tmp_path / "data" / "test"))
    assert "likelihood" in outcome
