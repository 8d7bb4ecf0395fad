"""The study of CIFAR-10: its rows resolve, and small ones are trained, measured, shown, and not measured again."""

import dataclasses
import runpy
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dfm.config import apply
from dfm.metrics.features import FeatureNetwork
from dfm.results import read_lines
from dfm.training.class_defaults import filled

SCRIPTS = Path(__file__).parents[1] / "scripts"
SMALL = {
    "local-256": {"model.encoder_widths": (4, 4, 8), "model.features": 8, "model.latent_channels": 1},
    "cells": {"model.features": 4, "objective.discriminator_features": 2},
}


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Runs the script on noise, with small nets, few samples, and means of the colours in place of Inception's."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from cifar10 import measure, rows

    small = {name: dataclasses.replace(rows.ROWS[name], settings=settings) for name, settings in SMALL.items()}
    small["local-256"] = dataclasses.replace(small["local-256"], priors=("flow",))
    monkeypatch.setattr(rows, "ROWS", small)
    monkeypatch.setattr(rows, "TRIAL_STEPS", 2)
    flow = {"model.features": 8, "model.heads": 1, "model.depth": 1, "model.sampling_steps": 2}
    make_flow = rows.flow_config
    monkeypatch.setattr(rows, "flow_config", lambda *those: apply(make_flow(*those), flow))
    monkeypatch.setattr(measure, "SAMPLES", {"trial": 20})
    monkeypatch.setattr(measure, "SHOWN", 8)
    monkeypatch.setattr(measure, "SIDES", (32, 40))
    means = lambda params, pictures: jnp.asarray(pictures, jnp.float32).mean((1, 2))  # noqa: E731
    net = FeatureNetwork("means", "fid", 3, {}, means, "0" * 64, "none", "none")
    monkeypatch.setattr(measure.networks, "load", lambda name, files: net)
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        pictures = rng.integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
        np.save(tmp_path / "data" / "cifar10" / f"{split}-images.npy", pictures)
        np.save(tmp_path / "data" / "cifar10" / f"{split}-labels.npy", np.arange(256) % 10)

    def run(*arguments):
        words = [f"--workdir={tmp_path}/runs", f"--data_dir={tmp_path}/data", f"--output={tmp_path}/out.jsonl"]
        words.append("--size=trial")
        monkeypatch.setattr(sys, "argv", ["study_cifar10.py", *words, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / "study_cifar10.py"), run_name="__main__")
        return end.value.code or 0

    return run, tmp_path


def test_every_row_has_a_config_at_either_size(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from cifar10.rows import ROWS, SIZES, flow_config, training_config

    for size in SIZES:
        for name in ROWS:
            config = training_config(name, size, 0.5)
            assert config.dataset.name == "cifar10" and config.optimizer.warmup_steps <= max(
                1, config.total_steps // 10
            )
        assert flow_config("local-256", Path("runs"), size).dataset.name == "latents:runs/local-256"


def test_lines_that_were_measured_are_of_the_configs_of_today(monkeypatch):
    """But for the steps, which --factor and the device decide."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from cifar10.rows import training_config

    for line in read_lines(SCRIPTS.parent / "results" / "study_cifar10.jsonl"):
        before, now = filled(line["config"]["training"], training_config(line["config"]["row"], line["config"]["size"]))
        for key in ("total_steps", "steps_per_call", "checkpoint_every_steps"):
            del before[key], now[key]
        assert before == now


def test_a_row_is_trained_measured_and_shown_once(study, capsys):
    """The whole life of one row, with its flow: a dozen compilations, which is what takes the seconds."""
    run, folder = study
    assert run("--only=local-256") == 0
    lines = read_lines(folder / "out.jsonl")
    whats = [(line["config"]["row"], line["config"]["what"]) for line in lines]
    assert whats == [("local-256", "reconstructions"), ("local-256", "flow")]
    reconstructed, flow = (line["metrics"] for line in lines)
    assert reconstructed["numbers"] == 16 and reconstructed["psnr"] > 0 and np.isfinite(reconstructed["rfid"])
    assert flow["samples"] == 20 and 0 <= flow["recall"] <= 1 and np.isfinite(flow["fid_of_few"])
    assert flow["flow_parameters"]["flow"] > 0 and flow["flow_training_operations"] > 0
    shown = {path.name for path in (folder / "runs" / "pictures").iterdir()}
    kinds = ("samples", "neighbours", "interpolations", "size-32", "size-40")
    assert shown == {f"{kind}-local-256-flow.png" for kind in kinds}
    before = (folder / "out.jsonl").read_bytes()
    assert run("--only=local-256") == 0
    assert (folder / "out.jsonl").read_bytes() == before
    assert "local-256, measure: done" in capsys.readouterr().out


def test_slices_are_listed_and_unknown_rows_refused(study, capsys):
    run, _ = study
    assert run("--list") == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "local-256, train: 2 steps",
        "local-256, flow: 2 steps",
        "local-256, measure",
    ]
    assert run("--only=local") == 2
    assert "did you mean 'local-256'" in capsys.readouterr().err
