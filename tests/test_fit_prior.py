"""`python -m dfm.fit_prior`: what it stores and prints, and one clear line for what can go wrong."""

import json

import numpy as np
import pytest
from tiny_runs import tiny_run

from dfm.fit_prior import main
from dfm.priors import files
from dfm.training import runs


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # not the user's
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@pytest.fixture
def fit(tmp_path, capsys, monkeypatch):
    def command(run, *arguments):
        run.workdir.mkdir(exist_ok=True)
        monkeypatch.setattr(runs, "load_run", lambda workdir, which: run)
        code = main([f"--workdir={run.workdir}", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.mark.parametrize("table", [True, False])
def test_the_line_and_the_file(fit, tmp_path, table):
    run = tiny_run(tmp_path / "run", table=table)
    code, out, err = fit(run, "--prior=gmm", "--components=4", "--seed=2")
    assert (code, err) == (0, "")
    line = json.loads(out)
    assert line["file"] == str(run.workdir / "priors" / "gmm.npz")
    assert (line["prior"], line["step"], line["components"], line["seed"]) == ("gmm", 20, 4, 2)
    assert (line["count"], line["dimension"]) == (1500, 3)
    assert (line["test_log_likelihood"] is None) == table
    prior, facts = files.load(line["file"])
    assert prior.means.shape == (4, 3) and facts["step"] == 20
    if table:
        expected = np.mean(np.asarray(prior.log_prob(run.latents)))
        assert line["train_log_likelihood"] == pytest.approx(expected, abs=1e-3)
    else:
        assert line["train_log_likelihood"] - line["test_log_likelihood"] < 1


def test_options_by_name_are_those_of_the_class(fit, tmp_path):
    run = tiny_run(tmp_path / "run", table=True, count=30)
    code, out, _ = fit(run, "--prior=gmm", "--option=components=2", "--option=seed=5")
    assert code == 0 and (json.loads(out)["components"], json.loads(out)["seed"]) == (2, 5)


def test_few_latents_are_noted(fit, tmp_path):
    run = tiny_run(tmp_path / "run", table=True, count=3)
    code, out, err = fit(run, "--prior=gaussian")
    assert code == 0 and json.loads(out)["count"] == 3
    assert err == "note: only 3 latents for 3 dimensions: samples stay in their span, and the likelihood says little\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior=flows"], "invalid choice: 'flows'"),
        (["--prior=gaussian", "--components=3"], "the prior gaussian has no option 'components': it has none"),
        (["--seed=3"], "the prior gaussian has no option 'seed': it has none"),
        (
            ["--prior=flow", "--components=3"],
            "the prior flow has no option 'components': it has couplings, width, steps",
        ),
        (["--prior=flow", "--option=couplings=0"], "a flow needs at least one coupling"),
        (["--prior=two_stage", "--option=steps=0"], "steps and batch_size must be at least 1"),
        (["--prior=gmm", "--components=0"], "0 components for 1500 latents: take 1 to 1500"),
        (["--prior=gmm", "--components=2000"], "2000 components for 1500 latents: take 1 to 1500"),
        (["--prior=gmm", "--option=parts=3"], "the prior gmm has no option 'parts': it has components, seed"),
        (["--prior=gmm", "--option=components=many"], "--option=components=many: 'many' is no int"),
        (["--prior=gmm", "--option=components"], "--option=components: not of the form NAME=VALUE"),
        (["--prior=gmm", "--seed=-1"], "--seed must be 0 to 4294967295, not -1"),
    ],
)
def test_mistakes_are_one_line(fit, tmp_path, arguments, message):
    run = tiny_run(tmp_path / "run", table=True)
    code, out, err = fit(run, *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
    assert not (run.workdir / "priors").exists()
