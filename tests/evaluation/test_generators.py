"""A model whose latents are only drawn, such as a GAN: what can be measured is, the rest is refused before any work."""

import pytest
from tiny_runs import ClassMachine, Generator, tiny_run

from dfm.errors import UserError
from dfm.evaluation import Options, evaluate_run
from dfm.evaluation.entry import prepare_run
from dfm.sampling import inversion

OPTIONS = Options(cache=False, num_references=8)


@pytest.fixture
def generator(tmp_path):
    return tiny_run(tmp_path, table=False, model=Generator())


def test_samples_and_inversions_are_measured(generator, monkeypatch):
    monkeypatch.setattr(inversion, "ROWS", 4)  # one picture at a time: one compilation
    metrics, options = ["fd-digits", "psnr"], {"priors": ["normal"], "num_samples": 8, "options": OPTIONS}
    fd, worse = evaluate_run(generator, metrics, "digits:test", invert_steps=0, **options)
    assert fd["value"] > 0 and worse["latents_by"] == "inversion"
    (better,) = evaluate_run(generator, ["psnr"], "digits:test", invert_steps=30, **options)
    assert better["value"] > worse["value"] + 0.1


@pytest.mark.parametrize("metric", ["active_units", "posterior_kl", "posterior_sliced", "smoothness"])
def test_what_needs_latents_of_the_training_is_refused(generator, metric):
    with pytest.raises(UserError, match=f"{metric}: the pictures of this training have no latents.*remain: fd-digits"):
        prepare_run(generator, ["fd-digits", metric], "digits:test", priors=["normal"], options=OPTIONS)


def test_the_prior_is_normal_where_none_is_named(generator):
    evaluation = prepare_run(generator, ["fd-digits"], "digits:test", options=OPTIONS)
    assert [sampler.prior_name for sampler in evaluation.samplers] == ["normal"]


def test_a_prior_that_is_fitted_is_refused(generator):
    with pytest.raises(UserError, match="no latents.*the prior 'normal'"):
        prepare_run(generator, ["fd-digits"], "digits:test", priors=["normal", "gaussian"], options=OPTIONS)


def test_a_conditional_model_that_is_not_inverted_is_refused(tmp_path):
    run = tiny_run(tmp_path, table=False, model=ClassMachine(encodes=False))
    with pytest.raises(UserError, match="psnr: the model of this run is conditioned on a class.*remain: fd-digits"):
        prepare_run(run, ["fd-digits", "psnr"], "digits:test", priors=["normal"], options=OPTIONS)
