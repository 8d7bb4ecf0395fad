"""config.json: what cannot be is named, and what files of all ages say is understood."""

import json

import jax
import numpy as np
import pytest
from other_autoencoders import WEIGHTS, write_folder

from dfm.conversion import load_pretrained, save_pretrained
from dfm.conversion.config_files import model_config, what_diffusers_misses
from dfm.errors import UserError
from dfm.models.latent_scaling import scale_latents


@pytest.mark.parametrize(
    "text, message",
    [
        (
            '{"_class_name": "AutoencoderTiny"}',
            "is of the class AutoencoderTiny, not AutoencoderKL or .*, and stays closed",
        ),
        ('{"_class_name": ["AutoencoderKL"]}', "is of the class .*, not AutoencoderKL or"),
        ('{"block_out_channels": [32], "padding_mode": "circular"}', "padding_mode cannot be 'circular' .known: zeros"),
        ('{"block_out_channels": [32], "norm_num_groups": 4.5}', "norm_num_groups cannot be 4.5"),
        ('{"block_out_channels": [8, 16], "norm_num_groups": 3}', "must be multiples of norm_num_groups 3"),
        ('{"block_out_channels": [8], "act_fn": "sine", "norm_num_groups": 4}', "act_fn cannot be 'sine'"),
        ('{"down_block_types": ["CrossAttnDownBlock2D"]}', "down_block_types cannot be 'CrossAttnDownBlock2D'"),
        ('{"block_out_channels": "wide"}', "block_out_channels cannot be"),
        ('{"block_out_channels": [8.0, 16]}', "block_out_channels cannot be"),
        ('{"block_out_channels": [32], "scaling_factor": 0}', "scaling_factor cannot be 0"),
        ('{"block_out_channels": [32], "latents_mean": [0.5]}', "latents_mean has 1 numbers for 4 latent_channels"),
        ('{"block_out_channels": [32], "latents_std": [1, 1, 1, 0]}', "latents_std .* must be positive"),
        ('{"block_out_channels": [32], "sample_size": [1, 2, 3]}', "sample_size is .1, 2, 3., not a side"),
        ("[1]", "is no config"),
        ("{", "is no JSON"),
    ],
)
def test_wrong_configs(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_pretrained(folder)


def test_another_class_is_named_before_any_tensor_is_read(folder):
    (folder / WEIGHTS).write_bytes(b"no tensors")
    (folder / "config.json").write_text('{"_class_name": "AutoencoderDC"}')
    with pytest.raises(UserError, match="is of the class AutoencoderDC"):
        load_pretrained(folder)


def test_what_files_of_all_ages_say_is_understood(tmp_path, tensors):
    odd = {"act_fn": "SiLU", "scaling_factor": None, "force_upcast": None, "sample_size": 32.0, "latent_channels": 6.0}
    model, params = load_pretrained(write_folder(tmp_path / "vae", tensors, kind="FlaxAutoencoderKL", **odd))
    plain = load_pretrained(write_folder(tmp_path / "plain", tensors, sample_size=32))[0]
    assert model.clone(act_fn="silu", scaling_factor=0.18215, force_upcast=True) == plain
    with pytest.raises(ValueError, match="scale of this autoencoder's latents is not known"):
        scale_latents(np.zeros((1, 2, 2, 6), np.float32), model)
    x = np.zeros((1, 8, 8, 1), np.float32)
    ours, theirs = (jax.make_jaxpr(lambda x, m=m: m.apply({"params": params}, x))(x) for m in (model, plain))
    assert str(ours) == str(theirs)  # the same computation
    save_pretrained(model, params, tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["_class_name"] == "AutoencoderKL" and config["scaling_factor"] is None
    assert load_pretrained(tmp_path / "again")[0] == model


def test_a_scale_that_the_config_leaves_out_is_that_of_diffusers(tmp_path, tensors):
    folder = write_folder(tmp_path / "vae", tensors)
    assert "scaling_factor" not in json.loads((folder / "config.json").read_text())
    assert load_pretrained(folder)[0].scaling_factor == 0.18215


def test_padding_mode_is_a_key_that_is_kept(tmp_path, tensors):
    model, params = load_pretrained(write_folder(tmp_path / "vae", tensors, padding_mode="reflect"))
    assert model.padding_mode == "reflect" and "padding_mode 'reflect'" in str(what_diffusers_misses(model))
    save_pretrained(model, params, tmp_path / "again")
    assert load_pretrained(tmp_path / "again")[0] == model
    zeros = load_pretrained(write_folder(tmp_path / "zeros", tensors))[0]
    assert "padding_mode" not in model_config(zeros) and what_diffusers_misses(zeros) is None
