"""Which files hold a model, and one line for what does not."""

import json

import numpy as np
import pytest
from needs import needs_diffusers
from other_autoencoders import WEIGHTS, assert_params, to_ldm_names, write_folder
from safetensors.numpy import save_file

from dfm.conversion import load_pretrained
from dfm.conversion.autoencoder_kl_names import other_class
from dfm.conversion.model_files import STEM
from dfm.errors import UserError


def test_wrong_places(tmp_path, folder, tensors):
    for path, message in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "model.ckpt", "pickles .* never are read; PyTorch makes a .safetensors file: python -c"),
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


@pytest.mark.peers
def test_the_recipe_for_pickles_names_both_files_and_works(tmp_path, tensors):
    import torch

    values = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in to_ldm_names(tensors).items()}
    torch.save({"state_dict": values, "epoch": 3}, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match="python -c") as refused:
        load_pretrained(tmp_path / "model.ckpt")
    recipe = str(refused.value).partition('python -c "')[2].rstrip('"')
    exec(recipe, {})
    params = load_pretrained(tmp_path / "model.safetensors", norm_num_groups=4)[1]
    assert_params(params, tensors)


def test_a_folder_of_pickles_alone_gets_the_recipe(folder):
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="no .safetensors file; pickles .* weights_only=True"):
        load_pretrained(folder)


@pytest.mark.parametrize("path, told", [("stabilityai/sd-vae-ft-mse", True), ("nowhere", False), ("/no/where", False)])
def test_an_id_of_a_hub_is_told_that_nothing_is_downloaded(tmp_path, monkeypatch, path, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder") as refused:
        load_pretrained(path)
    assert ("nothing is downloaded" in str(refused.value)) == told


def test_a_file_of_another_suffix_and_a_lone_one_in_a_folder(tmp_path, tensors):
    folder = write_folder(tmp_path / "vae", tensors, "ae.sft")
    assert_params(load_pretrained(folder)[1], tensors)
    assert_params(load_pretrained(folder / "ae.sft")[1], tensors)


@pytest.mark.parametrize(
    "shard, index",
    [
        (f"{STEM}.fp16-0000{{}}-of-00002.safetensors", f"{STEM}.safetensors.index.fp16.json"),
        (f"{STEM}-0000{{}}-of-00002.fp16.safetensors", f"{STEM}.fp16.safetensors.index.json"),
        ("model-0000{}-of-00002.safetensors", "model.safetensors.index.json"),
    ],
)
def test_sharded_variants(tmp_path, tensors, shard, index):
    """As diffusers has named them over the years; full precision goes first where both are there."""
    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    folder = write_folder(tmp_path / "vae", {}, "none.safetensors")
    (folder / "none.safetensors").unlink()
    names = sorted(half)
    parts = {shard.format(1): names[: len(names) // 2], shard.format(2): names[len(names) // 2 :]}
    for file, held in parts.items():
        save_file({name: half[name] for name in held}, folder / file)
    places = {name: file for file, held in parts.items() for name in held}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_params(load_pretrained(folder)[1], {name: value.astype(np.float32) for name, value in half.items()})
    save_file(tensors, folder / WEIGHTS)
    assert_params(load_pretrained(folder)[1], tensors)


@pytest.mark.parametrize(
    "names, kind",
    [
        (["encoder.layers.0.weight", "decoder.layers.0.weight"], "AutoencoderTiny"),
        (["1.weight", "3.conv.0.weight"], "AutoencoderTiny"),
        (["decoder.conv_in.weight", "quantize.embedding.weight"], "VQModel"),
        (["first_stage_model.decoder.conv_in.weight", "first_stage_model.quantize.embedding.weight"], "VQModel"),
        (["decoder.conv_in.weight", "decoder.time_conv_out.weight"], "AutoencoderKLTemporalDecoder"),
    ],
)
def test_lone_files_of_other_classes_are_named(tmp_path, names, kind):
    save_file({name: np.zeros(3, np.float32) for name in names}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=f"tensors of the class {kind}, not AutoencoderKL, and stays closed"):
        load_pretrained(tmp_path / "other.safetensors")


@pytest.mark.peers
@needs_diffusers
def test_the_marks_of_other_classes_are_theirs():
    import diffusers
    import torch

    small = {"block_out_channels": (32,)}
    with torch.device("meta"):
        models = [
            diffusers.AutoencoderTiny(),
            diffusers.VQModel(**small),
            diffusers.AsymmetricAutoencoderKL(down_block_out_channels=(32,), up_block_out_channels=(32,)),
            diffusers.AutoencoderKLTemporalDecoder(**small),
            diffusers.AutoencoderKLWan(base_dim=8),
            diffusers.AutoencoderKLHunyuanVideo(block_out_channels=(32, 32, 32, 32)),
        ]
        ours = [diffusers.AutoencoderKL(**small), diffusers.AutoencoderKLFlux2()]
    for model in models:
        assert type(model).__name__ in str(other_class(model.state_dict()))
    assert [other_class(model.state_dict()) for model in ours] == [None, None]
