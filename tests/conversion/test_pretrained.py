"""The doors: three naming schemes, shards, half precision, round trips, and what is wrong by its name."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from needs import needs_diffusers
from other_autoencoders import CONFIG, WEIGHTS, assert_params, to_ldm_names, to_old_names, write_folder
from random_autoencoders import our_outputs, vectors
from safetensors.numpy import load_file, save_file

from dfm.conversion import load_pretrained, save_pretrained
from dfm.conversion.autoencoder_kl_names import canonical_names
from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.latent_scaling import scale_latents


@pytest.mark.parametrize("rename", [dict, to_old_names, to_ldm_names])
def test_three_naming_schemes_are_one(tmp_path, tensors, rename):
    model, params = load_pretrained(write_folder(tmp_path / "vae", rename(tensors)))
    assert_params(params, tensors)
    assert model == AutoencoderKL(**vectors.with_block_types(CONFIG), scaling_factor=0.18215)  # diffusers' default


@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model.", "something.else."])
def test_single_file_without_config(tmp_path, tensors, prefix):
    save_file(to_ldm_names(tensors, prefix), tmp_path / "file.safetensors")
    with pytest.raises(UserError, match="norm_num_groups 32"):  # no shape shows it: these widths are too narrow for 32
        load_pretrained(tmp_path / "file.safetensors")
    model, params = load_pretrained(tmp_path / "file.safetensors", norm_num_groups=4)
    assert_params(params, tensors)
    expected = vectors.with_block_types(CONFIG)
    found = {key: getattr(model, key) for key in expected}
    assert found == expected | {"sample_size": model.sample_size}


def test_the_scale_of_a_lone_file_is_not_guessed(tmp_path, tensors, folder):
    """No shape shows it: the tensors of Stable Diffusion 1 (0.18215) and of SDXL (0.13025) have the same."""
    assert load_pretrained(folder)[0].scaling_factor == 0.18215  # a config.json without the key: diffusers' default
    save_file(to_ldm_names(tensors), tmp_path / "file.safetensors")
    model, _ = load_pretrained(tmp_path / "file.safetensors", norm_num_groups=4)
    assert model.scaling_factor is None
    with pytest.raises(ValueError, match="scale of this autoencoder's latents is not known: give scaling_factor"):
        scale_latents(jnp.zeros((1, 2, 2, 6)), model)
    model, _ = load_pretrained(tmp_path / "file.safetensors", norm_num_groups=4, scaling_factor=0.13025)
    np.testing.assert_allclose(scale_latents(jnp.ones((1, 2, 2, 6)), model), 0.13025, rtol=1e-6)


def test_shards_and_their_index(tmp_path, tensors, folder):
    model, params = load_pretrained(folder)
    save_pretrained(model, params, tmp_path / "shards", shard_bytes=20_000)
    files = sorted(path.name for path in (tmp_path / "shards").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"diffusion_pytorch_model-00001-of-{len(files):05d}.safetensors"
    assert_params(load_pretrained(tmp_path / "shards")[1], tensors)
    (tmp_path / "shards" / files[1]).unlink()
    with pytest.raises(UserError, match=f"{files[1]}: missing; it holds tensor"):
        load_pretrained(tmp_path / "shards")


@pytest.mark.parametrize("dtype, name", [(np.float16, "diffusion_pytorch_model.fp16.safetensors"), (None, WEIGHTS)])
def test_half_precision_becomes_float32(tmp_path, tensors, dtype, name):
    half = {key: value.astype(dtype or ml_dtypes.bfloat16) for key, value in tensors.items()}
    if dtype:
        path = write_folder(tmp_path / "vae", half, name)
    else:
        path = write_folder(tmp_path / "vae", tensors)
        model, params = load_pretrained(path)
        save_pretrained(model, params, path, dtype="bfloat16")
    params = load_pretrained(path)[1]
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
    assert_params(params, {key: value.astype(np.float32) for key, value in half.items()})


def test_round_trip_keeps_config_keys_and_bytes(tmp_path, tensors):
    path = write_folder(tmp_path / "vae", tensors, _diffusers_version="0.6.0", latents_mean=[0.5] * 6, mystery=[1, {}])
    model, params = load_pretrained(path, dtype="bfloat16")
    hash(model)  # a static argument of jit
    save_pretrained(model, params, tmp_path / "again")
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (path, tmp_path / "again"))
    assert {key: after[key] for key in before} == before
    written = load_file(tmp_path / "again" / WEIGHTS)
    assert written.keys() == tensors.keys()
    assert all(np.array_equal(written[name], tensors[name]) for name in tensors)
    assert load_pretrained(tmp_path / "again", dtype="bfloat16")[0] == model


def broken(tensors, **changes):
    return {name: value for name, value in (tensors | changes).items() if value is not None}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"decoder.conv_out.bias": None}, "tensor decoder.conv_out.bias is missing"),
        (
            {"quant_conv.weight": np.zeros((3, 12, 1, 1), np.float32)},
            r"tensor quant_conv.weight is \[3, 12, 1, 1\], and the config means \[12, 12, 1, 1\]",
        ),
        ({"encoder.extra.weight": np.zeros(3, np.float32)}, "tensor encoder.extra.weight does not belong"),
        ({"encoder.conv_in.bias": np.zeros(8, np.int32)}, "tensor encoder.conv_in.bias is of type I32"),
        ({"decoder.conv_in.weight": None}, "holds no AutoencoderKL"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, tensors, change, message):
    path = write_folder(tmp_path / "vae", broken(tensors, **change))
    with pytest.raises(UserError, match=message):
        load_pretrained(path)


def test_a_single_file_with_a_convolution_of_another_rank_is_refused(tmp_path, tensors):
    wrong = to_ldm_names(tensors) | {"first_stage_model.encoder.conv_in.weight": np.zeros(8, np.float32)}
    save_file({name: np.ascontiguousarray(value) for name, value in wrong.items()}, tmp_path / "ldm.safetensors")
    with pytest.raises(UserError, match="tensor encoder.conv_in.weight is missing, or no convolution's"):
        load_pretrained(tmp_path / "ldm.safetensors")


def test_two_names_of_one_tensor_are_refused(tmp_path, tensors):
    name = "encoder.mid_block.attentions.0.to_q.weight"
    path = write_folder(tmp_path / "vae", tensors | {name.replace("to_q", "query"): tensors[name]})
    with pytest.raises(UserError, match="to_q.weight.* are two names of one"):
        load_pretrained(path)


@pytest.mark.peers
@needs_diffusers
@pytest.mark.parametrize("name", vectors.CONFIGS)
def test_diffusers_opens_what_we_write_and_we_what_it_writes(tmp_path, name):
    import diffusers

    peer, images = vectors.peer_model(vectors.CONFIGS[name]), vectors.example_images(vectors.CONFIGS[name], (13, 22))
    peer.float().save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    model, params = load_pretrained(tmp_path / "theirs")
    theirs = vectors.peer_outputs(peer, images)
    for ours, expected in zip(our_outputs(model, params, images.astype(np.float32)), theirs, strict=True):
        assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected)
    save_pretrained(model, params, tmp_path / "ours")
    opened = diffusers.AutoencoderKL.from_pretrained(tmp_path / "ours")
    for ours, before in zip(vectors.peer_outputs(opened, images), theirs, strict=True):
        np.testing.assert_array_equal(ours, before)
    assert tuple(opened.config["block_out_channels"]) == peer.config["block_out_channels"]
    assert canonical_names(opened.state_dict()).keys() == opened.state_dict().keys()
