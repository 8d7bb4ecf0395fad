"""save_pretrained: nothing foreign is replaced, nothing is half-written, nothing is rounded to infinity."""

from pathlib import Path

import pytest
from other_autoencoders import WEIGHTS

from dfm.conversion import load_pretrained, save_pretrained
from dfm.errors import UserError


def test_nothing_foreign_is_replaced(tmp_path, folder):
    model, params = load_pretrained(folder)
    save_pretrained(model, params, folder)  # its own is
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="notes.txt: is no part of a model"):
        save_pretrained(model, params, folder)
    (folder / "notes.txt").unlink()
    for name in ("my_lora.safetensors", f"{WEIGHTS}.mine/kept.txt"):
        mine = tmp_path / "others" / name
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_text("mine")
        with pytest.raises(UserError, match="is no part of a model"):
            save_pretrained(model, params, tmp_path / "others")
        assert mine.read_text() == "mine"
        mine.unlink()
    del params["decoder"]["conv_out"]["bias"]
    with pytest.raises(UserError, match="decoder/conv_out/bias is missing"):
        save_pretrained(model, params, tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))


def test_what_half_precision_cannot_hold_is_not_written(tmp_path, folder):
    model, params = load_pretrained(folder)
    params["decoder"]["conv_in"]["bias"] = params["decoder"]["conv_in"]["bias"].at[0].set(1e6)
    with pytest.raises(UserError, match="tensor decoder.conv_in.bias: its numbers are too large for float16"):
        save_pretrained(model, params, tmp_path / "half", "float16")
    assert not (tmp_path / "half").exists()
    save_pretrained(model, params, tmp_path / "half", "bfloat16")


def test_a_failing_rename_leaves_the_old_model(tmp_path, folder, monkeypatch):
    model, params = load_pretrained(folder)
    before, rename = (folder / WEIGHTS).read_bytes(), Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UserError, match="cannot be written"):
        save_pretrained(model, params, folder)
    assert (folder / WEIGHTS).read_bytes() == before
