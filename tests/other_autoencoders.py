"""Files of AutoencoderKL as others write them, of random weights: names of all schemes, folders of diffusers."""

import json
import re

import jax
import numpy as np
from random_autoencoders import vectors
from safetensors.numpy import save_file

from dfm.conversion.autoencoder_kl_names import from_canonical, to_canonical
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes

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


def write_folder(path, tensors, name=WEIGHTS, shape=CONFIG, kind="AutoencoderKL", **config):
    path.mkdir(exist_ok=True)
    settings = {"_class_name": kind, **vectors.with_block_types(shape), **config}
    (path / "config.json").write_text(json.dumps(settings))
    save_file(tensors, path / name, metadata={"format": "pt"})
    return path


def assert_params(params, tensors):
    ours = to_canonical(params)
    assert ours.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def to_flux2_names(tensors):
    """As FLUX.2's publisher has it: LDM's names, the 1x1 convolutions within encoder and decoder."""
    own = to_ldm_names({name: value for name, value in tensors.items() if not name.startswith("bn.")}, "")
    own = {name: value for name, value in own.items() if not name.startswith(("model.", "loss."))}
    inner = {"quant_conv": "encoder.quant_conv", "post_quant_conv": "decoder.post_quant_conv"}
    named = {re.sub(r"^(post_)?quant_conv", lambda m: inner[m[0]], name): value for name, value in own.items()}
    return named | {name: value for name, value in tensors.items() if name.startswith("bn.")}


def flux2_statistics(channels):
    rng = np.random.default_rng(channels)
    return {
        "bn.running_mean": rng.normal(size=4 * channels).astype(np.float32),
        "bn.running_var": rng.uniform(0.5, 2.0, 4 * channels).astype(np.float32),
        "bn.num_batches_tracked": np.array(7, np.int64),
    }
