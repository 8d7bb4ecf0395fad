"""FLUX.2: its files of three naming schemes, its small decoder, and its latents normalised, against diffusers live."""

import json

import numpy as np
import pytest
from needs import needs_diffusers
from other_autoencoders import WEIGHTS, assert_params, canonical_tensors, flux2_statistics, to_flux2_names, write_folder
from random_autoencoders import our_outputs, vectors
from safetensors.numpy import load_file, save_file

from dfm.conversion import load_pretrained, save_pretrained
from dfm.errors import UserError
from dfm.models.latent_scaling import scale_latents, unscale_latents

KIND = "AutoencoderKLFlux2"
SHAPE = vectors.FLUX2_CONFIGS["flux2-small-decoder"]


@pytest.fixture(scope="module")
def parameters():
    return canonical_tensors(SHAPE)


@pytest.fixture(scope="module")
def statistics():
    return flux2_statistics(SHAPE["latent_channels"])


def expected_scale(z, statistics):
    """By NumPy: channel c, row i and column j of a patch are entry 4 c + 2 i + j."""
    scaled = np.zeros((len(z), z.shape[1] // 2, z.shape[2] // 2, 4 * z.shape[3]), np.float32)
    deviation = np.sqrt(statistics["bn.running_var"] + 1e-4)
    for entry in range(scaled.shape[-1]):
        channel, row, column = entry // 4, entry % 4 // 2, entry % 2
        values = z[:, row::2, column::2, channel]
        scaled[..., entry] = (values - statistics["bn.running_mean"][entry]) / deviation[entry]
    return scaled


@pytest.mark.parametrize("rename", [dict, to_flux2_names])
def test_names_of_diffusers_and_of_the_publisher(tmp_path, parameters, statistics, rename):
    folder = write_folder(tmp_path / "vae", rename(parameters | statistics), shape=SHAPE, kind=KIND)
    model, params = load_pretrained(folder)
    assert_params(params, parameters)
    assert model.decoder_block_out_channels == (4, 12, 12) and model.patch_size == (2, 2)
    z = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)
    scaled = scale_latents(z, model)
    np.testing.assert_allclose(scaled, expected_scale(z, statistics), atol=1e-5)
    np.testing.assert_allclose(unscale_latents(scaled, model), z, atol=1e-5)


def test_a_lone_file_of_the_publisher(tmp_path, parameters, statistics):
    tensors = {name: np.ascontiguousarray(value) for name, value in to_flux2_names(parameters | statistics).items()}
    assert {
        "encoder.quant_conv.weight",
        "decoder.post_quant_conv.bias",
        "encoder.mid.attn_1.q.weight",
    } <= tensors.keys()
    save_file(tensors, tmp_path / "ae.sft")
    model, params = load_pretrained(tmp_path / "ae.sft", norm_num_groups=4)
    assert_params(params, parameters)
    z = np.random.default_rng(0).normal(size=(1, 2, 4, 8)).astype(np.float32)
    np.testing.assert_allclose(scale_latents(z, model), expected_scale(z, statistics), atol=1e-5)


def test_defaults_are_those_of_its_class(tmp_path, parameters, statistics):
    """Keys that its config leaves out: 32 latent channels, four widths, patches of 2 x 2."""
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"_class_name": KIND}))
    save_file(parameters | statistics, tmp_path / "vae" / WEIGHTS)
    with pytest.raises(UserError, match=r"tensor bn.running_mean is \[32\], not \[128\]"):
        load_pretrained(tmp_path / "vae")


@pytest.mark.parametrize(
    "change, config, message",
    [
        ({"bn.running_var": None}, {}, "tensor bn.running_var is missing"),
        ({"bn.running_var": np.full(32, -1.0, np.float32)}, {}, "are no statistics of latents"),
        ({"bn.running_mean": np.full(32, np.nan, np.float32)}, {}, "are no statistics of latents"),
        ({}, {"patch_size": None}, "patch_size cannot be null"),
        ({}, {"batch_norm_eps": "small"}, "batch_norm_eps cannot be"),
        ({}, {"_class_name": "AutoencoderKL"}, "tensor bn.* does not belong to the model"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, parameters, statistics, change, config, message):
    tensors = {name: value for name, value in (parameters | statistics | change).items() if value is not None}
    folder = write_folder(tmp_path / "vae", tensors, shape=SHAPE, **({"_class_name": KIND} | config))
    with pytest.raises(UserError, match=message):
        load_pretrained(folder)


def test_what_it_writes_is_of_its_class_and_holds_its_statistics(tmp_path, parameters, statistics):
    folder = write_folder(tmp_path / "vae", parameters | statistics, shape=SHAPE, kind=KIND, batch_norm_eps=1e-3)
    model, params = load_pretrained(folder)
    save_pretrained(model, params, tmp_path / "again", "float16")
    written = load_file(tmp_path / "again" / WEIGHTS)
    for name in ("bn.running_mean", "bn.running_var"):
        np.testing.assert_array_equal(written[name], statistics[name])
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["_class_name"] == KIND and config["batch_norm_eps"] == 1e-3 and config["patch_size"] == [2, 2]
    assert not {"scaling_factor", "latents_mean", "force_upcast"} & config.keys()
    assert load_pretrained(tmp_path / "again")[0] == model
    with pytest.raises(UserError, match="scale of the latents is not known"):
        save_pretrained(model.clone(scaling_factor=None), params, tmp_path / "unknown")


def test_a_scale_of_one_number_becomes_statistics(tmp_path, parameters, statistics):
    """As a training measures it: (z - shift) scaling on patches."""
    model, params = load_pretrained(write_folder(tmp_path / "vae", parameters | statistics, shape=SHAPE, kind=KIND))
    model = model.clone(scaling_factor=0.4, shift_factor=0.3, latents_mean=None, latents_std=None)
    save_pretrained(model, params, tmp_path / "again")
    z = np.random.default_rng(0).normal(size=(1, 2, 4, 8)).astype(np.float32)
    ours, read = (scale_latents(z, found) for found in (model, load_pretrained(tmp_path / "again")[0]))
    np.testing.assert_allclose(ours, read, atol=1e-6)


def peer_scale(peer, z):
    """By its own batch norm with running statistics, on PyTorch's patches as channels; NHWC."""
    import torch

    with torch.no_grad():
        x = torch.from_numpy(z.transpose(0, 3, 1, 2).copy())
        return peer.eval().bn(torch.nn.functional.pixel_unshuffle(x, 2)).numpy().transpose(0, 2, 3, 1)


@pytest.mark.peers
@needs_diffusers
@pytest.mark.parametrize("name", vectors.FLUX2_CONFIGS)
def test_diffusers_opens_what_we_write_and_we_what_it_writes(tmp_path, name):
    import diffusers

    config = vectors.FLUX2_CONFIGS[name]
    peer, images = vectors.peer_model(config, KIND).float(), vectors.example_images(config, (16, 24))
    peer.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    model, params = load_pretrained(tmp_path / "theirs")
    theirs = vectors.peer_outputs(peer, images)
    outputs = our_outputs(model, params, images.astype(np.float32))
    for ours, expected in zip(outputs, theirs, strict=True):
        assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected)
    means = outputs[0][..., : model.latent_channels]
    normalised, expected = scale_latents(means, model), peer_scale(peer, theirs[0][..., : model.latent_channels])
    assert np.linalg.norm(normalised - expected) < 1e-5 * np.linalg.norm(expected)
    save_pretrained(model, params, tmp_path / "ours")
    opened = diffusers.AutoencoderKLFlux2.from_pretrained(tmp_path / "ours")
    for ours, before in zip(vectors.peer_outputs(opened, images), theirs, strict=True):
        np.testing.assert_array_equal(ours, before)
    np.testing.assert_array_equal(peer_scale(opened, means), peer_scale(peer, means))
