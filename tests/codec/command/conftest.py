"""Folders to encode, and what the command says."""

import pytest
from PIL import Image
from stub_encoder import Encoder, picture

from dfm import codec
from dfm.compress import main


@pytest.fixture
def encoder(monkeypatch):
    encoder = Encoder()
    monkeypatch.setattr(codec, "encode_each", encoder)
    return encoder


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder, with `in` and `out`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def three(work):
    """in/a.png, in/b.png, in/c.png."""
    pictures = {name: picture(seed) for seed, name in enumerate("abc")}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(work / "in" / f"{name}.png")
    return pictures


@pytest.fixture
def run(capfd):
    """Exit code, and what was said on standard output and error."""

    def run(command: str, *more: str):
        capfd.readouterr()
        code = main([*command.split(), *more])
        out, err = capfd.readouterr()
        return code, out, err

    return run
