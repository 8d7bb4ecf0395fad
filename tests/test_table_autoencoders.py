"""The table of generators: two tiny rows are trained, measured, found again and drawn; a row that fails says so."""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from dfm.experiments import find_row
from dfm.results import finite, read_lines

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def _script_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script on the digits with a budget of a few steps, in this process."""
    from family import measure, rows

    monkeypatch.setitem(rows.BUDGETS["quick"], "digits", 3e8)
    monkeypatch.setattr(measure, "IMPORTANCE_SAMPLES", {"quick": 2})

    def run(*arguments: str) -> int:
        words = ["--dataset=digits", "--budget=quick", f"--workdir={tmp_path}", f"--output={tmp_path / 'rows.jsonl'}"]
        monkeypatch.setattr(sys, "argv", ["table_autoencoders.py", *words, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / "table_autoencoders.py"), run_name="__main__")
        return end.value.code or 0

    return run


def test_two_rows_are_measured_once_and_drawn(script, tmp_path, capsys):
    assert script("--task=reference:main") == script("--task=ae:main") == script("--task=vae:main") == 0
    ae, vae = (line["metrics"] for line in read_lines(tmp_path / "rows.jsonl"))
    assert set(ae["by_prior"]) >= {"normal", "gaussian", "gmm"}
    assert ae["operations"] <= 3e8 < ae["operations"] + 1.5 * ae["operations_a_step"]
    assert ae["psnr"] > 8 and "likelihood" not in ae
    bounds = vae["likelihood"]
    assert bounds["elbo_nats"] == pytest.approx(-bounds["distortion_nats"] - bounds["rate_nats"])
    assert 0 < bounds["elbo_bits_per_dim"] < 9

    assert script("--rows=ae,vae") == 0  # neither is made again: no process is started
    assert len(read_lines(tmp_path / "rows.jsonl")) == 2
    assert "table_autoencoders_digits.png: ae, vae" in capsys.readouterr().out
    assert (tmp_path / "table_autoencoders_digits.png").stat().st_size < 2**20


def test_diverged_rows_say_so_and_stay(script, tmp_path, monkeypatch):
    from family import rows

    broken = rows.Row("autoencoders.py:ae,dataset={dataset}", {"optimizer.learning_rate": 1e30})
    monkeypatch.setitem(rows.ROWS, "ae", broken)
    assert script("--task=reference:main") == script("--task=ae:main") == 0
    (line,) = read_lines(tmp_path / "rows.jsonl")
    assert "training stopped" in line["metrics"]["failed"]
    assert line["metrics"]["diverged"]
    assert script("--rows=ae") == 0 and len(read_lines(tmp_path / "rows.jsonl")) == 1


def test_rows_that_are_unknown_are_one_line(script, capsys):
    assert script("--rows=vea") == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_row_whose_samples_have_no_distance_is_none_of_the_best(tmp_path, monkeypatch):
    """NaN becomes null in the results: such a row was measured, and has no number."""
    import table_autoencoders
    from family.rows import identity

    found = {"pca": {"gaussian": 9.0, "normal": None}, "ae": {"normal": None}, "vae": {"normal": 5.0, "gmm": 7.0}}
    lines = [
        {"config": identity(name, "cifar10", "full", "main"), "metrics": {"by_prior": by_prior}}
        for name, by_prior in found.items()
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(finite(line)) + "\n" for line in lines))
    words = ["--dataset=cifar10", "--budget=full", f"--output={tmp_path / 'rows.jsonl'}"]
    monkeypatch.setattr(sys, "argv", ["table_autoencoders.py", *words])
    arguments = table_autoencoders.parse_arguments()
    parts = table_autoencoders.second_parts(arguments, list(found))
    assert parts == [("vae", "fid-10k"), ("pca", "fid-10k")]


def test_task_that_fails_says_why_and_the_rest_go_on(tmp_path):
    from family.jobs import Task, run_tasks

    tasks = [Task("nonsense:main", tmp_path / "log.txt")]
    failed = run_tasks(tasks, ["--dataset=digits", f"--workdir={tmp_path}", f"--output={tmp_path / 'rows.jsonl'}"], 1)
    assert list(failed) == ["nonsense:main"] and "nonsense" in failed["nonsense:main"]


def test_every_line_that_was_measured_is_found_by_the_configs_of_today():
    from family.rows import identity, measured_lines

    lines = measured_lines(SCRIPTS.parent / "results" / "table_autoencoders.jsonl")
    names = [tuple(line["config"][key] for key in ("row", "dataset", "budget", "part")) for line in lines]
    assert len(names) > 30
    lost = [name for name, line in zip(names, lines, strict=True) if find_row([line], identity(*name)) is None]
    assert not lost, "trained and measured again for a key that came into the config?"


def test_a_sigma_of_no_consequence_makes_no_other_training():
    from family.rows import with_what_counts

    optimal = {"objective.sigma": "optimal", "objective.sigma_value": 0.5}
    assert with_what_counts(optimal) == with_what_counts({**optimal, "objective.sigma_value": 1.0})
    learned = {"objective.sigma": "learned", "objective.likelihood": "gaussian", "objective.sigma_value": 0.5}
    assert with_what_counts(learned) == learned


def test_published_values_are_of_rows_that_exist():
    from family.rows import ROWS
    from tables.published_fids import SOURCES, VALUES

    assert all(row in ROWS for _, row, *_ in VALUES)
    assert {source for *_, source in VALUES} == set(SOURCES)
    assert all(where and protocol for where, protocol in SOURCES.values())


def test_published_values_stand_apart_with_source_and_protocol():
    from tables.family import autoencoders
    from tables.published_fids import published_fids

    head, _, *lines = published_fids().splitlines()
    assert head.endswith("| FID | source | protocol |")
    (thesis,) = [line for line in lines if "Fourier net" in line]
    assert "| 80.5 | Asadi 2022, table 5.2 | names none" in thesis
    ours = autoencoders()
    assert "Dai and Wipf" not in ours and "Asadi" not in ours and "published" not in ours


def test_a_prior_over_codes_that_is_best_paints_the_sheet(script, tmp_path, monkeypatch):
    from family import rows

    monkeypatch.setitem(rows.ROWS, "vq_vae", dataclasses.replace(rows.ROWS["vq_vae"], priors=()))
    monkeypatch.setitem(rows.CODE_PRIOR_STEPS, "quick", 2)
    assert script("--task=reference:main") == script("--task=vq_vae:main") == 0
    (line,) = read_lines(tmp_path / "rows.jsonl")
    assert set(line["metrics"]["by_prior"]) == {"codes"}
    assert str(np.load(tmp_path / "digits-quick" / "vq_vae.npz")["prior"]) == "codes"
