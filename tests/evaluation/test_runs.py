"""Runs under evaluation: their samples by prior and seed, their reconstructions, their diagnostics."""

from pathlib import Path

import numpy as np
import pytest
import tiny_runs
from evaluate_command import evaluated, refused

from dfm.picture_files import load_picture


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DFM_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A tiny run with a table on digits; `load_run` finds it whatever it is asked for."""
    (tmp_path / "run").mkdir()
    found = tiny_runs.tiny_run(tmp_path / "run", table=True)
    monkeypatch.setattr("dfm.training.runs.load_run", lambda workdir, which="latest": found)
    return str(tmp_path / "run")


def test_a_run_by_prior_with_repeats(capsys, run):
    lines = evaluated(
        capsys,
        f"--workdir={run}",
        "--reference=digits:test",
        "--metrics=fd-digits",
        "--num_samples=100",
        "--prior=normal,gaussian",
        "--repeats=2",
        "--seed=5",
    )
    assert [line["prior"] for line in lines] == ["normal", "gaussian"]
    for line in lines:
        assert line["seeds"] == [5, 6] and line["spread_over"] == "repeats" and line["temperature"] == 1
        assert len(line["details"]["values"]) == 2 == len(set(line["samples"]["sha256"]))
        assert line["value"] == pytest.approx(np.mean(line["details"]["values"]))
        assert line["run"]["step"] == 20 and len(line["run"]["params_sha256"]) == 64
        assert line["run"]["config"]["dataset"]["name"] == "digits"


def test_the_same_command_gives_the_same_number(capsys, run):
    arguments = [f"--workdir={run}", "--reference=digits:test", "--metrics=fd-digits", "--num_samples=90"]
    first, again, other_batches = (
        evaluated(capsys, *arguments, *more)[0] for more in ([], [], ["--batch_size=16", "--no_cache"])
    )
    assert first["value"] == again["value"] and first["samples"] == again["samples"]
    assert other_batches["value"] == pytest.approx(first["value"], abs=1e-3)


@pytest.mark.parametrize("table", [True, False])
def test_reconstructions_and_their_floor(capsys, tmp_path, monkeypatch, table):
    found = tiny_runs.tiny_run(tmp_path, table, model=tiny_runs.LinearMachine())
    monkeypatch.setattr("dfm.training.runs.load_run", lambda workdir, which="latest": found)
    names = "--metrics=psnr,ssim,ms_ssim,rfd-digits"
    arguments = [f"--workdir={tmp_path}", names, "--num_references=60"]
    train = {line["metric"]: line for line in evaluated(capsys, *arguments, "--reference=digits:train")}
    assert list(train) == ["psnr", "ssim", "ms_ssim", "rfd-digits"]
    assert train["psnr"]["latents_by"] == ("table" if table else "encoder")
    assert 0 < train["psnr"]["value"] < 30 and train["psnr"]["spread_over"] == "pictures"
    assert train["psnr"]["details"]["psnr_of_mean_mse"] <= train["psnr"]["value"]
    assert train["ssim"]["value"] is None and train["ms_ssim"]["value"] is None  # 8 pixels
    assert train["rfd-digits"]["value"] > 0 and train["rfd-digits"]["samples"]["count"] == 60
    test = evaluated(capsys, *arguments, "--reference=digits:test", "--invert_steps=2")
    assert test[0]["latents_by"] == ("inversion" if table else "encoder")


def test_diagnostics(capsys, run):
    lines = {line["metric"]: line for line in evaluated(capsys, f"--workdir={run}", "--metrics=diagnostics")}
    assert list(lines) == ["memorisation", "active_units", "posterior_kl", "posterior_sliced", "smoothness"]
    assert 0 < lines["smoothness"]["value"] <= lines["smoothness"]["details"]["largest"]
    assert lines["active_units"]["value"] == 3 and lines["active_units"]["details"]["latent_size"] == 3
    # the Gaussian is fitted to these latents
    assert lines["posterior_kl"]["value"] == pytest.approx(0, abs=0.01)
    assert lines["posterior_sliced"]["value"] < 0.05
    assert lines["memorisation"]["value"] > 0
    page = load_picture(Path(run) / "evaluation" / lines["memorisation"]["details"]["grid"])
    assert page.shape[0] > page.shape[1] > 40
    normal = evaluated(capsys, f"--workdir={run}", "--metrics=latents", "--prior=normal")
    assert normal[1]["value"] > 0.1 > lines["posterior_kl"]["value"]


def test_legacy_protocols(capsys, run, monkeypatch):
    from dfm.evaluation import protocols

    small = protocols.Protocol(80, 90, "test", protocols.stretch, note="stretched")
    monkeypatch.setitem(protocols.PROTOCOLS, "dai-wipf-2019", small)
    arguments = [f"--workdir={run}", "--protocol=dai-wipf-2019", "--metrics=fd-digits"]
    line = evaluated(capsys, *arguments, "--reference=digits:test")[0]
    assert line["protocol"] == "dai-wipf-2019" and line["protocol_note"] == "stretched"
    assert line["samples"]["count"] == 80 and line["reference"]["count"] == 90
    assert "is against digits:test" in refused(capsys, *arguments, "--reference=digits:train")
    assert "fixes 80 samples" in refused(capsys, *arguments, "--reference=digits:test", "--num_samples=3")
    said = refused(capsys, *arguments[:2], "--metrics=psnr", "--reference=digits:test")
    assert "for metrics on samples only" in said


def test_the_published_protocols_are_what_they_were():
    from dfm.evaluation.protocols import PROTOCOLS, pad_to_32, stretch

    dai_wipf, rae = PROTOCOLS["dai-wipf-2019"], PROTOCOLS["rae-2020"]
    assert (dai_wipf.samples, dai_wipf.references, dai_wipf.reference_split) == (10_000, 10_000, "test")
    assert dai_wipf.change_samples is stretch and dai_wipf.change_references is None
    assert (rae.samples, rae.change_samples, rae.change_references) == (10_000, pad_to_32, pad_to_32)


def test_class_of_the_run_is_the_class_of_the_reference(capsys, tmp_path, monkeypatch):
    found = tiny_runs.tiny_run(tmp_path, table=True, label=2)
    monkeypatch.setattr("dfm.training.runs.load_run", lambda workdir, which="latest": found)
    arguments = [f"--workdir={tmp_path}", "--reference=digits:test", "--metrics=fd-digits", "--num_samples=50"]
    assert evaluated(capsys, *arguments)[0]["reference"]["id"] == "digits:test[label=2]"
    assert evaluated(capsys, *arguments, "--label=-1")[0]["reference"]["count"] == 297


def test_a_test_split_that_was_trained_on_is_warned_of(capsys, tmp_path, monkeypatch):
    found = tiny_runs.tiny_run(tmp_path, table=True, split="train+test", count=1797)
    monkeypatch.setattr("dfm.training.runs.load_run", lambda workdir, which="latest": found)
    arguments = [f"--workdir={tmp_path}", "--metrics=fd-digits,psnr", "--num_samples=50", "--num_references=40"]
    for line in evaluated(capsys, *arguments, "--reference=digits:test", "--invert_steps=0"):
        assert "trained on digits:train+test: this is no test number" in " ".join(line["warnings"])
    for line in evaluated(capsys, *arguments, "--reference=digits:train+test"):
        assert "trained on digits:train+test: this is no test number" in " ".join(line["warnings"])
