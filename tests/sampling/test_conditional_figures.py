"""Conditional models: figures by class."""

import numpy as np
import pytest
from sample_command import cells, refused, serve
from tiny_runs import ClassMachine, tiny_run

from dfm.data import load

pytestmark = pytest.mark.usefixtures("own_cache", "two_rows")


@pytest.fixture
def conditional(tmp_path, monkeypatch):
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=False, model=ClassMachine()))


def shown(line):
    return cells(line)[:, 0, 0] // 25


def test_samples_of_one_class_or_a_column_for_each(conditional, show):
    line = show("--count=23")["samples-gaussian"]
    assert line["columns"] == 10 and line["label"] == "columns"
    np.testing.assert_array_equal(shown(line), np.arange(23) % 10)
    line = show("--count=4", "--class=7")["samples-gaussian"]
    assert line["label"] == 7 and (shown(line) == 7).all()


def test_reconstructions_have_the_class_of_their_original(conditional, show):
    line = show("--what=reconstructions", "--pictures=5,2,9")["reconstructions"]
    np.testing.assert_array_equal(shown(line)[1::2], load("digits", "test").labels[[5, 2, 9]])


def test_ways_through_the_latents_are_of_a_named_class(conditional, show, tmp_path, capsys):
    assert (shown(show("--what=traversal", "--class=3", "--columns=3")["traversal"]) == 3).all()
    words = [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--quiet"]
    assert "conditioned on a class: name one of 0 to 9" in refused(capsys, *words, "--what=traversal")
    assert "the model has classes 0 to 9, not 10" in refused(capsys, *words, "--class=10")
    assert not (conditional.workdir / "priors").exists()  # nothing was fitted for it
    assert "not found by inversion" in refused(capsys, *words, "--what=invert", "--steps=1")
