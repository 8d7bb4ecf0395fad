"""Files of AutoencoderKL: three naming schemes, shards, half precision, round trips, and what is wrong by its name."""

import importlib.util
import json
import re
import struct
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from random_autoencoders import our_outputs, vectors
from safetensors.numpy import load_file, save_file

from dfm import convert
from dfm.conversion import load_pretrained, save_pretrained
from dfm.conversion.autoencoder_kl_names import canonical_names, from_canonical, to_canonical
from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes
from dfm.safetensors_files import list_tensors

CONFIG = vectors.CONFIGS["kl-f16"]  # attention in the middle and in the blocks
WEIGHTS = "diffusion_pytorch_model.safetensors"


def canonical_tensors(config=CONFIG) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(parameter_shapes(AutoencoderKL(**config)))
    shapes = dict(from_canonical(tuple(key.key for key in path), leaf.shape) for path, leaf in leaves)
    return {name: values.astype(np.float32) for name, values in vectors.random_tensors(shapes).items()}


def to_old_names(tensors):
    """As SD 1.x, sd-vae-ft and sdxl-vae files have it."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    pattern = r"(attentions\.0)\.(to_q|to_k|to_v|to_out\.0)\."
    return {re.sub(pattern, lambda m: f"{m[1]}.{old[m[2]]}.", name): value for name, value in tensors.items()}


def to_ldm_names(tensors, prefix="first_stage_model."):
    """As LDM's single files have it: reversed up stages, attention as 1x1 convolutions, a prefix, and other tensors."""
    stages = 1 + max(int(m[1]) for name in tensors if (m := re.search(r"up_blocks\.(\d+)", name)))
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    found = {}
    for name, value in tensors.items():
        if re.search(r"attentions.*(to_q|to_k|to_v|to_out\.0)\.weight", name):
            value = value[:, :, None, None]
        name = re.sub(
            r"attentions\.(\d)\.(group_norm|to_q|to_k|to_v|to_out\.0)\.",
            lambda m: f"attentions.{m[1]}.{attention[m[2]]}.",
            name,
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
        name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{stages - 1 - int(m[1])}", name)
        name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
        name = (
            name.replace("resnets.", "block.").replace("attentions.", "attn.").replace("conv_shortcut", "nin_shortcut")
        )
        name = re.sub(r"(down|up)samplers\.0\.conv", r"\1sample.conv", name)
        found[prefix + name] = value
    return found | {
        "model.diffusion_model.out.2.weight": np.zeros(3, np.float32),
        "loss.logvar": np.zeros(1, np.float32),
    }


@pytest.fixture(scope="module")
def tensors():
    return canonical_tensors()


@pytest.fixture
def folder(tmp_path, tensors):
    """A folder as diffusers writes it."""
    return write_folder(tmp_path / "vae", tensors)


def write_folder(path, tensors, name=WEIGHTS, shape=CONFIG, **config):
    path.mkdir(exist_ok=True)
    settings = {"_class_name": "AutoencoderKL", **vectors.with_block_types(shape), **config}
    (path / "config.json").write_text(json.dumps(settings))
    save_file(tensors, path / name, metadata={"format": "pt"})
    return path


def assert_params(params, tensors):
    ours = to_canonical(params)
    assert ours.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.mark.parametrize("rename", [dict, to_old_names, to_ldm_names])
def test_three_naming_schemes_are_one(tmp_path, tensors, rename):
    model, params = load_pretrained(write_folder(tmp_path / "vae", rename(tensors)))
    assert_params(params, tensors)
    assert model == AutoencoderKL(**vectors.with_block_types(CONFIG))


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
        (["--which=7"], "--which is for a run"),
        ([f"--config={folder}/config.json"], "--config is for a single file"),
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


def test_a_single_file_with_a_convolution_of_another_rank_is_refused(tmp_path, tensors):
    wrong = to_ldm_names(tensors) | {"first_stage_model.encoder.conv_in.weight": np.zeros(8, np.float32)}
    save_file({name: np.ascontiguousarray(value) for name, value in wrong.items()}, tmp_path / "ldm.safetensors")
    with pytest.raises(UserError, match="tensor encoder.conv_in.weight is missing, or no convolution's"):
        load_pretrained(tmp_path / "ldm.safetensors")


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


def test_truncated_files_name_the_tensor(tmp_path, folder):
    whole = (folder / WEIGHTS).read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    cut = list_tensors(folder / WEIGHTS)["encoder.conv_in.weight"]
    for length, message in (
        (cut.end - 4, "truncated: it ends within tensor encoder.conv_in.weight"),
        (start - 10, "truncated within its header"),
        (3, "truncated within its header"),
        (0, "truncated within its header"),
    ):
        (folder / WEIGHTS).write_bytes(whole[:length])
        with pytest.raises(UserError, match=message):
            load_pretrained(folder)
    (folder / WEIGHTS).write_bytes(whole[:8] + b"x" * (len(whole) - 8))
    with pytest.raises(UserError, match="damaged header"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"_class_name": "AutoencoderTiny"}', "is of the class AutoencoderTiny, not AutoencoderKL"),
        ('{"block_out_channels": [8, 16], "norm_num_groups": 3}', "must be multiples of norm_num_groups 3"),
        ('{"block_out_channels": [8], "act_fn": "sine", "norm_num_groups": 4}', "act_fn is 'sine', not one of"),
        ('{"down_block_types": ["CrossAttnDownBlock2D"]}', "has 'CrossAttnDownBlock2D', not one of"),
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


def test_wrong_places(tmp_path, folder, tensors):
    for path, message in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "model.ckpt", "pickles .* never are"),
        (tmp_path / "empty", "holds no config.json"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "model.ckpt").write_bytes(b"\x80\x02}q\x00.")
        with pytest.raises(UserError, match=message):
            load_pretrained(path)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match="holds no .safetensors file"):
        load_pretrained(folder)
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    write_folder(pipeline / "vae", tensors)
    assert_params(load_pretrained(pipeline)[1], tensors)


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


def test_two_names_of_one_tensor_are_refused(tmp_path, tensors):
    name = "encoder.mid_block.attentions.0.to_q.weight"
    path = write_folder(tmp_path / "vae", tensors | {name.replace("to_q", "query"): tensors[name]})
    with pytest.raises(UserError, match="to_q.weight.* are two names of one"):
        load_pretrained(path)


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


@pytest.mark.peers
@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="diffusers is not installed")
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
