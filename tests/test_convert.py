"""dfm.convert: folders, files and runs into each other, and the scale of the latents where it is known."""

import json

import numpy as np
from other_autoencoders import WEIGHTS, canonical_tensors, flux2_statistics, write_folder
from random_autoencoders import vectors
from safetensors.numpy import load_file, save_file

from dfm import convert
from dfm.conversion import load_pretrained


def test_a_run_and_back(tmp_path, capsys):
    tensors = canonical_tensors(vectors.CONFIGS["flux"])
    folder = write_folder(tmp_path / "vae", tensors, shape=vectors.CONFIGS["flux"], mystery="kept")
    assert convert.main([str(folder), str(tmp_path / "run")]) == 0
    assert convert.main([str(tmp_path / "run"), str(tmp_path / "back")]) == 0
    written = load_file(tmp_path / "back" / WEIGHTS)
    assert all(np.array_equal(written[name], tensors[name]) for name in tensors)
    assert load_pretrained(tmp_path / "back")[0] == load_pretrained(folder)[0]
    assert convert.main([str(folder), str(tmp_path / "run")]) == 2
    assert convert.main([str(folder), str(tmp_path / "run"), "--to=safetensors"]) == 2
    assert "nothing" in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").exists()


def test_options_without_a_meaning_and_guesses_are_told(tmp_path, capsys):
    tensors = canonical_tensors(vectors.CONFIGS["flux"])
    folder = write_folder(tmp_path / "vae", tensors, shape=vectors.CONFIGS["flux"])
    for options, message in (
        (["--dtype=float16"], "--dtype is for --to=safetensors"),
        (["--shard_megabytes=3"], "--shard_megabytes is for --to=safetensors"),
        (["--which=7"], "which is for a run"),
        ([f"--config={folder}/config.json"], "config is for a single file"),
    ):
        assert convert.main([str(folder), str(tmp_path / "run"), *options]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, tmp_path / "one.safetensors")
    alone = [str(tmp_path / "one.safetensors"), str(tmp_path / "guessed"), "--to=safetensors"]
    assert convert.main(alone) == 2  # groups of 32 do not divide these widths
    assert "must be multiples of norm_num_groups 32" in capsys.readouterr().err
    assert convert.main([*alone, f"--config={folder}/config.json"]) == 0
    assert "note" not in capsys.readouterr().err
    assert convert.main([str(folder), str(tmp_path / "r"), "--data_dir=data"]) == 2
    assert "--data_dir is for a run" in capsys.readouterr().err


def test_an_unknown_scale_stays_unknown_and_is_told(tmp_path, capsys):
    """Of a file alone, with groups of 32: sixteen channels may be SD 3's or FLUX.1's, whose scales differ."""
    shape = {**vectors.CONFIGS["flux"], "block_out_channels": (32, 32), "norm_num_groups": 32}
    tensors = canonical_tensors(shape)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, tmp_path / "one.safetensors")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.png").write_bytes(b"")
    for target in ("safetensors", "checkpoint"):
        for refused, message in (("full", "nothing "), ("new.safetensors", "must not end in .safetensors")):
            assert convert.main([str(tmp_path / "one.safetensors"), str(tmp_path / refused), f"--to={target}"]) == 2
            told = capsys.readouterr().err
            assert message in told and told.count("\n") == 1  # before any note
            assert not (tmp_path / "new.safetensors").exists()
        assert convert.main([str(tmp_path / "one.safetensors"), str(tmp_path / target), f"--to={target}"]) == 0
        told = capsys.readouterr().err
        assert "norm_num_groups 32" in told and "scaling_factor is null" in told
    assert json.loads((tmp_path / "safetensors" / "config.json").read_text())["scaling_factor"] is None
    assert load_pretrained(tmp_path / "safetensors")[0].scaling_factor is None
    assert convert.main([str(tmp_path / "checkpoint"), str(tmp_path / "back")]) == 0
    assert "cannot be measured: the run names no data" in capsys.readouterr().err
    assert "scaling_factor" not in json.loads((tmp_path / "checkpoint" / "config.json").read_text())["model"]


def test_flux2_to_a_run_and_back_keeps_every_number(tmp_path):
    shape = vectors.FLUX2_CONFIGS["flux2-small-decoder"]
    tensors = canonical_tensors(shape) | flux2_statistics(shape["latent_channels"])
    folder = write_folder(tmp_path / "vae", tensors, shape=shape, kind="AutoencoderKLFlux2")
    assert convert.main([str(folder), str(tmp_path / "run")]) == 0
    assert convert.main([str(tmp_path / "run"), str(tmp_path / "back")]) == 0
    written = load_file(tmp_path / "back" / WEIGHTS)
    assert written.keys() == tensors.keys()
    for name in tensors.keys() - {"bn.num_batches_tracked"}:
        np.testing.assert_array_equal(written[name], tensors[name], err_msg=name)
    assert load_pretrained(tmp_path / "back")[0] == load_pretrained(folder)[0]
