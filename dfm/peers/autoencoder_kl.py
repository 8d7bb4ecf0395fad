"""diffusers' AutoencoderKL in float64, and weights that it and ours share: made from names and shapes, never stored."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.conversion.autoencoder_kl_names import from_canonical, to_our_layout
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes

# the published shapes, narrow: SD 1/2, SDXL, SD3 and FLUX.1, and LDM's kl-f16 with attention inside of the blocks
SMALL = {"layers_per_block": 1, "norm_num_groups": 4, "act_fn": "silu", "sample_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "sd": {**SMALL, "layers_per_block": 2, "block_out_channels": (8, 16, 24)},
    "sdxl": {**SMALL, "block_out_channels": (8, 16, 24, 24), "scaling_factor": 0.13025},
    "flux": {
        **SMALL,
        "block_out_channels": (8, 16, 16),
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    },
    "kl-f16": {
        **SMALL,
        "block_out_channels": (8, 8, 16),
        "latent_channels": 6,
        "in_channels": 1,
        "out_channels": 2,
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
    },
}
# FLUX.2 narrow: 2 x 2 patches of latents are normalised by statistics; its small decoder has other widths
FLUX2 = {**SMALL, "block_out_channels": (8, 16, 16), "latent_channels": 8}
FLUX2_CONFIGS: dict[str, dict[str, Any]] = {
    "flux2": FLUX2,
    "flux2-small-decoder": {**FLUX2, "decoder_block_out_channels": (4, 12, 12)},
}
SIZES = ((13, 22), (16, 16))  # height and width: odd and not square; even
CASES = [("sd", SIZES[0]), ("sd", SIZES[1]), ("sdxl", SIZES[0]), ("flux", SIZES[0]), ("kl-f16", SIZES[0])]


def with_block_types(config: Mapping[str, Any]) -> dict[str, Any]:
    """diffusers takes the number of levels from the block types, and its default is one."""
    levels = len(config["block_out_channels"])
    plain = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    return {**plain, **config}


def random_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights in diffusers' names and layouts, float64; each depends on its name and shape alone.

    Kernels keep the size of what flows; norms and biases are far from their start, so that a swap shows.
    """
    tensors = {}
    for name, shape in shapes.items():
        values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
        scale = 0.2 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
        tensors[name] = scale * values + (1.0 if len(shape) == 1 and name.endswith("weight") else 0.0)
    return tensors


def example_images(config: Mapping[str, Any], size: tuple[int, int], count: int = 2) -> np.ndarray:
    """NHWC pictures in [-1, 1], float64."""
    shape = (count, *size, config.get("in_channels", 3))
    return np.random.default_rng(size[0]).uniform(-1, 1, shape)


def peer_model(config: Mapping[str, Any], kind: str = "AutoencoderKL"):
    """diffusers' AutoencoderKL, or AutoencoderKLFlux2, with these weights, in float64."""
    import diffusers
    import torch

    model: Any = getattr(diffusers, kind)(**with_block_types(config))
    model = model.double()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    weights = {name: torch.from_numpy(np.asarray(value)) for name, value in random_tensors(shapes).items()}
    for name in weights.keys() & {"bn.running_var", "bn.num_batches_tracked"}:
        weights[name] = (weights[name].abs() + 0.5).to(model.state_dict()[name].dtype)
    model.load_state_dict(weights)
    return model.eval()


def peer_outputs(model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(moments, pictures of the mode), NHWC, of NHWC pictures."""
    import torch

    weight = next(model.parameters())
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(weight.dtype)
        posterior = model.encode(x).latent_dist
        pictures = model.decode(posterior.mode()).sample
    return posterior.parameters.numpy().transpose(0, 2, 3, 1), pictures.numpy().transpose(0, 2, 3, 1)


def random_params(model: AutoencoderKL, dtype: Any = np.float32) -> dict[str, Any]:
    """The weights of `random_tensors` in our tree."""

    def leaf(path, value):
        name, shape = from_canonical(tuple(key.key for key in path), value.shape)
        return jnp.asarray(to_our_layout(random_tensors({name: shape})[name]).astype(dtype))

    return jax.tree_util.tree_map_with_path(leaf, parameter_shapes(model))


def shared_weights(model: AutoencoderKL) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(diffusers' tensors, our params) of `random_tensors`, float32."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameter_shapes(model))
    shapes = dict(from_canonical(tuple(key.key for key in path), leaf.shape) for path, leaf in leaves)
    tensors = {name: value.astype(np.float32) for name, value in random_tensors(shapes).items()}
    return tensors, random_params(model)


def random_inputs(model: AutoencoderKL, method: str, size: int, batch_size: int) -> np.ndarray:
    """NHWC pictures in [-1, 1] for "encode", latents for "decode", float32, of pictures of this side."""
    rng = np.random.default_rng(size)
    if method == "encode":
        return rng.uniform(-1, 1, (batch_size, size, size, model.in_channels)).astype(np.float32)
    side = size // model.stride
    return rng.normal(size=(batch_size, side, side, model.latent_channels)).astype(np.float32)
