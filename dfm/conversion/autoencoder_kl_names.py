"""Names and layouts of AutoencoderKL's tensors: three schemes in, diffusers' present one out.

  diffusers      encoder.mid_block.attentions.0.to_q.weight
  diffusers, old encoder.mid_block.attentions.0.query.weight    (also key, value, proj_attn)
  LDM            first_stage_model.encoder.mid.attn_1.q.weight  (decoder.up.0 is the last stage, not the first)
  FLUX.2's own   encoder.quant_conv.weight, decoder.post_quant_conv.weight, and otherwise as LDM

Ours are diffusers' with list indices joined on: params["encoder"]["mid_block"]["attentions_0"]["to_q"]["kernel"].
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

PARTS = ("encoder", "decoder", "quant_conv", "post_quant_conv", "bn")
BATCH_NORM = "bn."  # of FLUX.2: statistics of latents, and no parameters
PREFIXES = ("", "first_stage_model.", "vae.", "model.", "autoencoder.")
MARK = "decoder.conv_in.weight"  # every AutoencoderKL has it, in every scheme
OTHERS = {  # a tensor that an AutoencoderKL never has -> the class of diffusers that has it
    "encoder.layers.0.weight": "AutoencoderTiny",
    "3.conv.0.weight": "AutoencoderTiny",  # as its author publishes it, encoder and decoder apart
    "quantize.embedding.weight": "VQModel",
    "decoder.condition_encoder.layers.0.weight": "AsymmetricAutoencoderKL",
    "decoder.time_conv_out.weight": "AutoencoderKLTemporalDecoder",
    "decoder.conv_in.conv.weight": "AutoencoderKLHunyuanVideo or another of videos",
    "encoder.down_blocks.0.norm1.gamma": "AutoencoderKLWan or AutoencoderKLQwenImage",
    "encoder.down_blocks.0.norm1.weight": "AutoencoderKLHunyuanImage",
    "encoder.down_blocks.0.0.conv1.weight": "AutoencoderDC",
}

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
LDM_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def find_prefix(names: Iterable[str]) -> str | None:
    """What stands in front of every tensor of the autoencoder in a file that holds more; None: it holds none."""
    found = {name.removesuffix(MARK) for name in names if name.endswith(MARK)}
    known = [prefix for prefix in PREFIXES if prefix in found]
    return known[0] if known else min(found, default=None)


def other_class(names: Iterable[str]) -> str | None:
    """The class of another kind of autoencoder whose tensors these are, where they show it."""
    names = set(names)
    prefix = find_prefix(names) or ""
    return next((found for mark, found in OTHERS.items() if prefix + mark in names), None)


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """diffusers' present name -> name in the file, of the tensors of the autoencoder; others are left out.

    Raises:
        ValueError: two names in the file mean one tensor.
    """
    names = list(names)
    prefix = find_prefix(names) or ""
    own = [name for name in names if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0] in PARTS]
    stages = [int(match[1]) for name in own if (match := re.search(r"decoder\.up\.(\d+)\.", name))]
    last_stage = max(stages, default=0)
    found: dict[str, str] = {}
    for name in own:
        other = found.setdefault(_canonical(name.removeprefix(prefix), last_stage), name)
        if other != name:
            raise ValueError(f"tensors {other} and {name} are two names of one")
    return found


def _canonical(name: str, last_stage: int) -> str:
    name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
    name = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{last_stage - int(m[1])}.", name)
    name = re.sub(r"\.block\.(\d+)\.", r".resnets.\1.", name)
    name = re.sub(r"\.attn\.(\d+)\.", r".attentions.\1.", name)
    name = re.sub(r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv.", name)
    name = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
    name = re.sub(r"\.mid\.attn_(\d)\.", lambda m: f".mid_block.attentions.{int(m[1]) - 1}.", name)
    name = name.replace(".nin_shortcut.", ".conv_shortcut.")
    name = re.sub(r"^(encoder\.quant_conv|decoder\.post_quant_conv)\.", lambda m: m[1].split(".")[1] + ".", name)
    name = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", name)
    match = re.fullmatch(r"(.*\.attentions\.\d+)\.(\w+)\.(weight|bias)", name)
    if match:
        layer = OLD_ATTENTION.get(match[2]) or LDM_ATTENTION.get(match[2], match[2])
        name = f"{match[1]}.{layer}.{match[3]}"
    return name


def to_canonical(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our parameters under diffusers' names and in its layouts."""
    tensors = {}
    for path, leaf in flatten_dict(dict(params)).items():
        layers = [re.sub(r"_(\d+)$", r".\1", part) for part in path[:-1]]
        kind = "bias" if path[-1] == "bias" else "weight"
        tensors[".".join([*layers, kind])] = _transposed(np.asarray(leaf), to_ours=False)
    return dict(sorted(tensors.items()))


def from_canonical(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """(diffusers' name, shape in its layout) of our parameter at this path with this shape."""
    layers = [re.sub(r"_(\d+)$", r".\1", part) for part in path[:-1]]
    kind = "bias" if path[-1] == "bias" else "weight"
    theirs = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), range(len(shape)))
    return ".".join([*layers, kind]), tuple(shape[axis] for axis in theirs)


def to_our_layout(tensor: np.ndarray) -> np.ndarray:
    """OIHW -> HWIO, (outputs, inputs) -> (inputs, outputs); vectors stay."""
    return _transposed(tensor, to_ours=True)


def _transposed(tensor: np.ndarray, to_ours: bool) -> np.ndarray:
    if tensor.ndim == 4:
        return tensor.transpose((2, 3, 1, 0) if to_ours else (3, 2, 0, 1))
    return tensor.T


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config keys that the shapes of diffusers' tensors show: of a file that comes without config.json.

    What no shape shows stays at its default: norm_num_groups (32), act_fn, an unknown scale.

    Raises:
        KeyError: the name of a tensor that is needed for it, and is missing or not that of a convolution.
    """
    size = lambda name, axis: _convolution(shapes, name)[axis]  # noqa: E731
    down, up = _stages(shapes, "encoder.down_blocks"), _stages(shapes, "decoder.up_blocks")
    widths = [size(f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 0) for i in range(down)]
    decoder_widths = [size(f"decoder.up_blocks.{i}.resnets.0.conv1.weight", 0) for i in range(up)][::-1]
    attention = lambda stage: f"{stage}.attentions.0.to_q.weight" in shapes  # noqa: E731
    config = {
        "in_channels": size("encoder.conv_in.weight", 1),
        "out_channels": size("decoder.conv_out.weight", 0),
        "latent_channels": size("decoder.conv_in.weight", 1),
        "block_out_channels": widths,
        "layers_per_block": _stages(shapes, "encoder.down_blocks.0.resnets"),
        "down_block_types": [
            ("Attn" if attention(f"encoder.down_blocks.{i}") else "") + "DownEncoderBlock2D" for i in range(down)
        ],
        "up_block_types": [
            ("Attn" if attention(f"decoder.up_blocks.{i}") else "") + "UpDecoderBlock2D" for i in range(up)
        ],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": attention("encoder.mid_block"),
    }
    if decoder_widths != widths:
        config["decoder_block_out_channels"] = decoder_widths
    if "bn.running_mean" in shapes:
        config["patch_size"] = [2, 2]
    return config


def _convolution(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    if len(shapes.get(name, ())) != 4:
        raise KeyError(name)
    return shapes[name]


def _stages(shapes: Mapping[str, Any], stem: str) -> int:
    """How many entries a list has, such as encoder.down_blocks."""
    found = {match[1] for name in shapes if (match := re.match(re.escape(stem) + r"\.(\d+)\.", name))}
    return len(found)
