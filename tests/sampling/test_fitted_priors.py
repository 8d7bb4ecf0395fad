"""Priors of a run: stored with the checkpoint that they belong to, fitted again for another one."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_runs import tiny_run

from dfm import priors
from dfm.array_files import hash_parameters
from dfm.errors import UserError
from dfm.priors import files
from dfm.priors.prior import mean_log_likelihood
from dfm.sampling import RunData, fit_prior, store_prior, stored_or_fitted
from dfm.sampling.fitted_priors import prior_path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("table"), table=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("encoder"), table=False)


@pytest.mark.parametrize("name", priors.PRIORS)
def test_fit_is_stored_with_the_step_and_likelihoods(table, name):
    options = {"two_stage": {"steps": 40, "width": 8}, "flow": {"steps": 40, "width": 8}, "gmm": {"seed": 1}}
    prior, facts = fit_prior(RunData(table), name, **options.get(name, {}))
    store_prior(table, prior, facts)
    stored, stored_facts = files.load(prior_path(table, name))
    assert stored.name == name and stored_facts == facts
    assert facts["step"] == 20 and facts["count"] == 1500 and facts["dimension"] == 3
    assert facts["train_log_likelihood"] == pytest.approx(mean_log_likelihood(prior, table.latents))
    assert facts["test_log_likelihood"] is None
    assert facts.get("components") == (10 if name == "gmm" else None)


def test_an_encoder_gives_a_held_out_likelihood(encoder):
    data = RunData(encoder)
    prior, facts = fit_prior(data, "gaussian")
    assert facts["test_log_likelihood"] == pytest.approx(
        mean_log_likelihood(prior, data.painter.encode(data.test.take(np.arange(297)))), abs=1e-4
    )


def test_test_pictures_that_were_trained_on_are_not_held_out(tmp_path):
    run = tiny_run(tmp_path, table=False, split="train+test")
    _, facts = fit_prior(RunData(run), "gaussian")
    assert facts["count"] == 1797 and facts["test_log_likelihood"] is None


def test_options_of_other_families_are_refused(table):
    with pytest.raises(UserError, match="the prior gaussian has no option 'components': it has none"):
        fit_prior(RunData(table), "gaussian", components=3)
    with pytest.raises(UserError, match="the prior gmm has no option 'rounds': it has components, seed"):
        fit_prior(RunData(table), "gmm", rounds=3)


def fit_and_store(run, name, **options):
    store_prior(run, *fit_prior(RunData(run), name, **options))


class TestStoredOrFitted:
    def test_a_run_that_cannot_be_written_to_has_its_prior_all_the_same(self, tmp_path):
        (tmp_path / "priors").write_text("")  # a folder cannot be made here, whoever asks
        run, notes = tiny_run(tmp_path, table=True), []
        prior = stored_or_fitted(RunData(run), "gaussian", notes.append)
        np.testing.assert_allclose(prior.mean, run.latents.mean(0), rtol=1e-5)
        assert len(notes) == 2 and "priors" in notes[1] and "used all the same" in notes[1]

    def test_fits_once_and_says_so(self, tmp_path):
        run, notes = tiny_run(tmp_path, table=True), []
        first = stored_or_fitted(RunData(run), "gaussian", notes.append)
        assert len(notes) == 1 and "not fitted yet: fitting it to the training latents of step 20" in notes[0]
        written = prior_path(run, "gaussian").stat().st_mtime_ns
        second = stored_or_fitted(RunData(run), "gaussian", notes.append)
        assert len(notes) == 1 and prior_path(run, "gaussian").stat().st_mtime_ns == written
        np.testing.assert_array_equal(first.scale_tril, second.scale_tril)

    def test_fits_again_for_another_checkpoint_with_the_same_options(self, tmp_path):
        notes = []
        fit_and_store(tiny_run(tmp_path, table=True, step=20), "gmm", components=3, seed=4)
        later = tiny_run(tmp_path, table=True, step=30)
        prior = stored_or_fitted(RunData(later), "gmm", notes.append)
        assert notes == ["prior gmm belongs to another checkpoint (step 20): fitting it again"]
        facts = files.load(prior_path(later, "gmm"))[1]
        assert (facts["step"], facts["components"], facts["seed"]) == (30, 3, 4)
        assert prior.means.shape == (3, 3)

    def test_the_same_step_of_another_training_is_another_checkpoint(self, tmp_path):
        run, notes = tiny_run(tmp_path, table=True), []
        fit_and_store(run, "gaussian")
        other = dataclasses.replace(run, latents=run.latents + 1)
        prior = stored_or_fitted(RunData(other), "gaussian", notes.append)
        assert len(notes) == 1
        np.testing.assert_allclose(prior.mean, other.latents.mean(0), rtol=1e-5)

    def test_the_standard_normal_needs_no_fit(self, tmp_path):
        run = tiny_run(tmp_path, table=True)
        assert stored_or_fitted(RunData(run), "normal", pytest.fail).dimension == 3
        assert not (tmp_path / "priors").exists()

    def test_a_damaged_file_is_reported(self, tmp_path):
        run = tiny_run(tmp_path, table=True)
        fit_and_store(run, "gaussian")
        prior_path(run, "gaussian").write_bytes(b"PK")
        with pytest.raises(UserError, match="gaussian.npz: not a stored prior, or damaged"):
            stored_or_fitted(RunData(run), "gaussian")

    def test_latents_that_are_not_finite_store_nothing(self, tmp_path):
        run = tiny_run(tmp_path, table=True)
        run.latents[7] = np.nan
        with pytest.raises(UserError, match="1 of 1500 latents are not finite"):
            stored_or_fitted(RunData(run), "gaussian")
        assert not prior_path(run, "gaussian").exists()


def test_checksum_sees_every_leaf(table):
    other = jax.tree.map(np.array, table.params)
    assert hash_parameters(table.params) == hash_parameters(other)
    other["decoder"]["bias"][3] += 1e-3
    assert hash_parameters(table.params) != hash_parameters(other)
