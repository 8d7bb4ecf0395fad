"""`python -m dfm.sample` as tests call it: fixtures of tests/sampling, and what reads its grids."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_runs import LinearMachine, tiny_run

from dfm.sample import main
from dfm.sampling import inversion
from dfm.training import runs


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # not the user's
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@pytest.fixture
def two_rows(monkeypatch):
    """Inversions are of one picture with two starts, or two with one: the same compiled step for all."""
    monkeypatch.setattr(inversion, "ROWS", 2)


@pytest.fixture(params=["table", "encoder"])
def run(request, tmp_path, monkeypatch):
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=request.param == "table", model=LinearMachine()))


@pytest.fixture
def table(tmp_path, monkeypatch):
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=True, model=LinearMachine()))


@pytest.fixture
def any_size(tmp_path, monkeypatch):
    """Its net paints any size."""
    return serve(monkeypatch, tiny_run(tmp_path / "run", table=True))


def serve(monkeypatch, run):
    """The command line gets this run, whatever it asks for."""
    run.workdir.mkdir()
    monkeypatch.setattr(runs, "load_run", lambda workdir, which: run)
    return run


@pytest.fixture
def show(tmp_path, capsys):
    """Runs the command; its lines on standard output by what they show, with the pictures of their files."""

    def command(*arguments):
        capsys.readouterr()  # what came before
        code = main([f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--quiet", *arguments])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        lines = {line["what"]: line for line in map(json.loads, captured.out.splitlines())}
        for line in lines.values():
            with Image.open(line["file"]) as image:
                line["page"] = np.asarray(image.convert("L"))
        return lines

    return command


def cells(line):
    """The pictures of a grid, row by row, without margins and enlargement."""
    scale, columns = line["scale"], line["columns"]
    margin = max(1, scale // 2)
    height, width = line["height"] * scale, line["width"] * scale
    tops = range(0, line["page"].shape[0], height + margin)
    lefts = range(0, line["page"].shape[1], width + margin)
    found = [line["page"][top : top + height : scale, left : left + width : scale] for top in tops for left in lefts]
    assert len(lefts) == min(columns, line["count"])
    return np.stack(found[: line["count"]])


def refused(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "" and captured.err.count("\n") == 1
    return captured.err
