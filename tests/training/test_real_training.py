"""The loop with a real Deep Fourier Machine: tests/test_train.py has a stand-in that compiles in a moment."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from dfm import models, objectives, train
from dfm.config import resolve
from dfm.data import load
from dfm.models import fourier_kernels
from dfm.objectives.latent_start import principal_components
from dfm.results import read_lines
from dfm.training import stopping
from dfm.training.flags import parse
from dfm.training.runs import load_run
from dfm.training.sharding import data_mesh, on_each_device, place_batch
from dfm.training.step import with_floats

DIGITS = Path(__file__).parents[2] / "configs" / "dfm_digits.py"
STEPS = 48


@pytest.fixture
def config():
    """The digits' preset, small, with everything fitted at the start."""
    config = parse([f"--config={DIGITS}:quick", "--workdir=W"]).config
    config.total_steps, config.log_every_steps, config.checkpoint_every_steps = STEPS, 12, 24
    config.sample_every_steps, config.optimizer.warmup_steps, config.batch_size = 0, 4, 60
    with config.unlocked():
        config.model.update({"net_depth": 2, "hidden_scale": 0.003, "deviation_scale": 0.01})
        config.objective.decoder_start = "least_squares"
    return config


def test_it_learns_and_an_interruption_changes_no_bit(config, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.train(config, str(whole)) == 0
    asked = stopping.StopRequest.requested
    with monkeypatch.context() as patch:

        def ask(self, step):
            if step == 17:
                os.kill(os.getpid(), signal.SIGTERM)
            return asked(self, step)

        patch.setattr(stopping.StopRequest, "requested", ask)
        assert train.train(config, str(parts)) == 0
    assert load_run(parts).step == 17
    assert train.train(config, str(parts)) == 0
    one, other = load_run(whole), load_run(parts)
    assert one.step == other.step == STEPS
    for a, b in zip(*(jax.tree.leaves((run.params, run.latents)) for run in (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)
    losses = [[line["loss"] for line in read_lines(workdir / "metrics.jsonl")] for workdir in (whole, parts)]
    assert losses[0] == losses[1]
    pictures = load("digits").take(np.arange(1500)) / 127.5 - 1.0
    # better than the mean picture already
    assert read_lines(whole / "metrics.jsonl")[-1]["mse"] < 0.9 * pictures.var(0).mean()


def test_four_devices_give_the_gradients_of_one(config, monkeypatch):
    """With the batch in chunks, and on each device its own pictures."""
    monkeypatch.setattr(fourier_kernels, "CHUNK_POINTS", 128)
    config = resolve(config)
    objective = objectives.build(config.objective, models.build(config.model))
    dataset = load("digits")
    rows = np.arange(16)
    params = objective.init(jax.random.key(0))
    latents = principal_components(dataset, config.model.latent_size, 1.0)[rows]
    batch = {"image": dataset.take(rows), "index": rows.astype(np.int32)}
    found = []
    for devices in (1, 4):
        mesh = data_mesh(jax.devices()[:devices])
        placed = place_batch(batch | {"latents": np.asarray(latents)}, mesh)
        shared = jax.device_put((params, jax.random.key(1)), on_each_device(mesh))
        compute = jax.jit(
            lambda p, z, b, k: objective.gradients(p, None, with_floats(b), k, "", rows=z),
            out_shardings=on_each_device(mesh),
        )
        metrics, gradients, _ = compute(shared[0], placed.pop("latents"), placed, shared[1])
        found.append([np.asarray(leaf) for leaf in jax.tree.leaves((metrics["loss"], gradients))])
    for one, four in zip(*found, strict=True):
        assert np.linalg.norm(one - four) <= 1e-5 * np.linalg.norm(one)
