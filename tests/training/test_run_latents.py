"""A prior's whole life: latents of a run, training that resumes bit for bit, samples, refusal of other latents."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from run_helpers import assert_same_state, metrics_without_times, saved_state, stop_after

from dfm import evaluate, sample, train
from dfm.config import config_module, resolve
from dfm.errors import UserError
from dfm.priors.latent_flow import LatentFlowPrior
from dfm.sampling import RunData, draw, stored_or_fitted
from dfm.sampling.flow_priors import load_flow, prior_label
from dfm.training import run_latents
from dfm.training.runs import load_run

CONFIGS = Path(__file__).parents[2] / "configs"


def train_pictures(workdir, seed=0):
    config = config_module(CONFIGS / "autoencoders.py").get_config("ae:quick")
    config.total_steps, config.sample_every_steps, config.seed = 2, 0, seed
    config.checkpoint_every_steps = 2
    assert train.train(config, str(workdir)) == 0


def flow_config(workdir, steps=6, **settings):
    config = config_module(CONFIGS / "latent_flow.py").get_config("quick,classes=10")
    config.dataset.name, config.total_steps, config.batch_size = f"latents:{workdir}", steps, 16
    config.model.update({"features": 8, "heads": 1, "depth": 1, "sampling_steps": 2})
    config.log_every_steps = config.checkpoint_every_steps = 2
    config.update(settings)
    return resolve(config)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train_pictures(folder / "ae")
    assert train.train(flow_config(folder / "ae"), str(folder / "flow")) == 0
    return folder


def test_latents_are_the_encodings_normalised_and_kept(runs, monkeypatch):
    name = f"latents:{runs / 'ae'}"
    latents = run_latents.load_latents(name, "train", None)
    assert latents.shape == (1, 1, 8) and len(latents) == 1_500
    values = latents.take(np.arange(1_500))
    np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=1e-3)
    data = RunData(load_run(runs / "ae"))
    mean, deviation = (np.array(latents.facts[key]) for key in ("mean", "standard_deviation"))
    np.testing.assert_allclose(values[:, 0, 0] * deviation + mean, data.training_latents, atol=1e-4)
    np.testing.assert_array_equal(latents.labels, data.train.labels)
    monkeypatch.setattr(run_latents, "_encode", lambda *_: pytest.fail("encoded again"))
    again = run_latents.load_latents(name, "train", None)
    assert again.fingerprint() == latents.fingerprint()


def test_a_stopped_and_resumed_prior_equals_the_uninterrupted_one_bit_for_bit(runs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert train.train(flow_config(runs / "ae"), str(tmp_path)) == 0
    assert train.train(flow_config(runs / "ae"), str(tmp_path)) == 0
    assert_same_state(saved_state(tmp_path, 6), saved_state(runs / "flow", 6))
    assert metrics_without_times(tmp_path) == metrics_without_times(runs / "flow")
    assert (tmp_path / "latents.json").read_text() == (runs / "flow" / "latents.json").read_text()


def test_samples_depend_on_seed_and_number_alone(runs):
    run = load_run(runs / "ae")
    prior = stored_or_fitted(RunData(run), f"latents:{runs / 'flow'}")
    assert isinstance(prior, LatentFlowPrior) and prior.dimension == 8 and prior.classes == 10
    whole = prior.sample(jax.random.key(3), 5)
    np.testing.assert_allclose(prior.sample(jax.random.key(3), 2, start=3), whole[3:], atol=1e-5)
    facts = json.loads((runs / "flow" / "latents.json").read_text())
    still = prior.sample(jax.random.key(3), 2, temperature=0.0)
    assert np.abs(still[0] - np.array(facts["mean"])).max() < np.abs(whole[0] - np.array(facts["mean"])).max()
    pictures = np.concatenate(list(draw(run, prior, 3, 0, 5, batch_size=4)))
    assert pictures.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(next(draw(run, prior, 3, 4, 1)).astype(int), pictures[4:].astype(int), atol=1)


def test_a_prior_of_other_latents_is_refused(runs, tmp_path):
    train_pictures(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="is a prior of the latents of ae at step 2, not of .*other"):
        load_flow(load_run(tmp_path / "other"), f"latents:{runs / 'flow'}")
    with pytest.raises(UserError, match="is no prior of latents"):
        load_flow(load_run(runs / "ae"), f"latents:{runs / 'ae'}")
    shutil.copytree(runs / "flow", tmp_path / "flow")
    (tmp_path / "flow" / "latents.json").unlink()
    with pytest.raises(UserError, match="latents.json is missing"):
        load_flow(load_run(runs / "ae"), f"latents:{tmp_path / 'flow'}")


def test_a_prior_goes_on_with_its_latents_alone(runs, tmp_path):
    shutil.copytree(runs / "flow", tmp_path / "flow")
    train_pictures(tmp_path / "ae", seed=1)
    config = flow_config(tmp_path / "ae", steps=8)
    before = json.loads((tmp_path / "flow" / "config.json").read_text())
    before["dataset"]["name"] = config.dataset.name  # as if the model had been trained further at its place
    (tmp_path / "flow" / "config.json").write_text(json.dumps(before))
    with pytest.raises(UserError, match="not the data of this run any more"):
        train.train(config, str(tmp_path / "flow"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"sample_every_steps": 2}, "for pictures"), ({"dataset.split": "test"}, "of the split 'train'")],
)
def test_what_latents_cannot_be_is_refused(runs, tmp_path, settings, said):
    config = flow_config(runs / "ae")
    config.update_from_flattened_dict(settings)
    with pytest.raises(UserError, match=said):
        train.train(config, str(tmp_path / "flow"))


def test_the_commands_take_the_folder_of_a_prior(runs, tmp_path, capsys):
    flow, where = f"latents:{runs / 'flow'}", [f"--workdir={runs / 'ae'}"]
    assert sample.main([*where, f"--prior={flow}", "--count=4", f"--output={tmp_path}", "--quiet"]) == 0
    assert (tmp_path / "samples-latents.png").exists()
    arguments = [f"--prior={flow}", "--metrics=fd-digits", "--reference=digits:test", "--num_samples=300", "--quiet"]
    assert evaluate.main([*where, *arguments]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line["prior"] == prior_label(flow) and line["prior"].startswith("latents:flow@6-")
    assert sample.main([f"--workdir={runs / 'flow'}", "--prior=normal", f"--output={tmp_path}"]) == 2
    assert f"open {runs / 'ae'} with prior {flow}" in capsys.readouterr().err
    assert sample.main([*where, "--prior=gausian", f"--output={tmp_path}"]) == 2
    assert "did you mean 'gaussian'" in capsys.readouterr().err
