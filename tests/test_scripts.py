"""The scripts of results/: each explains itself, and the smallest run of the study ends, resumes and is summarised."""

import argparse
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from dfm.codec.weights.recipes import DEFAULT
from dfm.results import read_lines

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = ("figure_5_1", "figure_5_2", "figure_5_3", "demo", "study_recipe")
WITHOUT_OPTIONS = ("make_peer_vectors", "make_autoencoder_kl_vectors")  # they write at once
WITH_HELP = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem not in WITHOUT_OPTIONS)


@pytest.fixture(autouse=True)
def _script_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))  # as Python does for a script: they import each other


def run(monkeypatch, name: str, *arguments: str) -> int:
    """The script in this process, because importing JAX once for each would take most of the time."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    return end.value.code or 0


@pytest.mark.parametrize("name", WITH_HELP)
def test_help_ends_well_and_shows_a_command(monkeypatch, capsys, name):
    assert run(monkeypatch, name, "--help") == 0
    assert f"scripts/{name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_unreadable_pictures_are_one_line_and_code_2(monkeypatch, capsys, tmp_path, name):
    option = {"figure_5_3": ["--pictures"], "study_recipe": ["--part", "rate", "--pictures"]}.get(name, ["--picture"])
    output = ["--output", str(tmp_path / "demo" if name == "demo" else tmp_path / "rows.jsonl")]
    assert run(monkeypatch, name, *output, *option, str(tmp_path / "missing")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_every_part_of_the_study_has_distinct_variants_and_the_default_first():
    study = runpy.run_path(str(SCRIPTS / "study_recipe.py"))

    for part in study["PARTS"]:
        variants = study["variants"](part, (6, 6, 6, 6))
        arguments = argparse.Namespace(steps=1000, seed=0, longest_side=256)
        keys = [str(study["settings_of"](variant, arguments)) for variant in variants]
        assert len(set(keys)) == len(keys) > 1, part
        assert variants[0].recipe.learning_rate == DEFAULT.learning_rate
        assert variants[0].widths == (6, 6, 6, 6)


def test_study_measures_resumes_and_summarises(monkeypatch, capsys, tmp_path, photograph):
    from dfm.picture_files import save_picture

    save_picture(tmp_path / "tiny.png", photograph[:16, :16])
    rows = tmp_path / "rows.jsonl"
    arguments = (
        "--part",
        "robust",
        "--pictures",
        str(tmp_path),
        "--widths",
        "2",
        "--steps",
        "20",
        "--output",
        str(rows),
    )
    assert run(monkeypatch, "study_recipe", *arguments) == 0
    assert [row["config"]["variable"] for row in read_lines(rows)] == ["default", "recipe"]
    assert "mean gain" in capsys.readouterr().out
    before = rows.read_bytes()
    assert run(monkeypatch, "study_recipe", *arguments) == 0
    assert rows.read_bytes() == before
    assert run(monkeypatch, "study_recipe", "--summary", "--output", str(rows)) == 0
    assert "### robust: widths 2, 20 steps" in capsys.readouterr().out


def test_loss_intervals_of_figure_5_1():
    figure = runpy.run_path(str(SCRIPTS / "figure_5_1.py"))
    rows = [{"metrics": {"loss": float(loss)}} for loss in range(1, 9)] + [{"metrics": {"loss": None}}]
    edges = figure["loss_edges"](rows)
    assert np.bincount([figure["interval"](row["metrics"]["loss"], edges) for row in rows]).tolist() == [2, 2, 2, 3]


def test_figure_5_3_takes_the_thesis_net_at_its_size():
    figure = runpy.run_path(str(SCRIPTS / "figure_5_3.py"))
    assert figure["net_of_share"](400) == (8,) * 6


def test_the_crease_is_what_the_line_has_more_than_the_rest():
    study = runpy.run_path(str(SCRIPTS / "study_crease.py"))
    errors = np.ones((8, 8))
    assert study["crease"](errors) == 1.0
    for row in range(4):
        errors[row, 3 - row] = 16.0  # the four pixels whose centres have x1 + x2 = 1/2
    assert study["crease"](errors) == pytest.approx(16 / ((60 + 4 * 16) / 64))
