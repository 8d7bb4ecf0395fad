"""The scripts about AutoencoderKL: the law they show, and their mistakes as one line."""

import runpy
import sys
from pathlib import Path

import pytest

from dfm.results import read_lines

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(monkeypatch, name: str, *arguments: str) -> int:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    return end.value.code or 0


def test_cost_of_latents_is_one_in_f_squared(monkeypatch, tmp_path, capsys):
    """64 at f = 8, but for the border (zeros that nothing multiplies) and one channel more than a picture's three."""
    output = tmp_path / "rows.jsonl"
    assert run(monkeypatch, "latent_cost", "--sizes=256", "--blocks=1", "--width=32", f"--output={output}") == 0
    row = read_lines(output)[0]["metrics"]["rows"][0]
    assert 60 < row["convolutional"]["ratio"] < 70
    assert row["attention"]["ratio"] > 64 * 10  # attention's share grows with the square of the positions
    assert (tmp_path / "rows.png").exists() and "256^2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("latent_cost", ["--sizes=100"], "not a multiple of 8"),
        ("latent_cost", ["--variant=sd9"], "must be one of sd,"),
        ("bench_autoencoder", ["--sizes=0"], "multiples of 8"),
        ("bench_autoencoder", ["--methods=train"], "must be of encode, decode"),
        ("large_pictures", ["--sizes=1023"], "multiples of 8"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, name, arguments, message):
    assert run(monkeypatch, name, *arguments) == 2
    assert message in capsys.readouterr().err
