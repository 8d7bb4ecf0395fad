"""Weights of the FID Inception: from .npz or .safetensors to Flax parameters, checked against a pinned hash.

A file may use the names of TensorFlow's graph (`mixed/tower/conv/conv2d_params`), its short form
(`mixed.tower.conv.weight`), or those of PyTorch's copy (`Mixed_5b.branch5x5_1.conv.weight`). Nothing is ever
downloaded, and no pickle is ever loaded: `python -m dfm.metrics.convert_inception` makes an .npz from public files.
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from dfm.array_files import Arrays, hash_arrays, read_arrays
from dfm.errors import UserError
from dfm.metrics.weight_files import INCEPTION_SOURCE

VARIABLE = "DFM_INCEPTION_WEIGHTS"
BATCH_NORM_EPSILON = 1e-3  # the graph's own; no other Inception's

# fingerprint -> name; see `fingerprint`
KNOWN_FINGERPRINTS = {"e5e20479e2e96dc0d9e152c04e148ee69b9d5d9000f24eee2cb4ad2ee9342a8a": "inception-2015-12-05"}

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BLOCKS = (
    "Mixed_5b",
    "Mixed_5c",
    "Mixed_5d",
    "Mixed_6a",
    "Mixed_6b",
    "Mixed_6c",
    "Mixed_6d",
    "Mixed_6e",
    "Mixed_7a",
    "Mixed_7b",
    "Mixed_7c",
)
# name of a branch inside its block -> what TensorFlow's graph calls it, with _ for its separators
TENSORFLOW_BRANCHES = {
    "A": {
        "branch1x1": "conv",
        "branch5x5_1": "tower_conv",
        "branch5x5_2": "tower_conv_1",
        "branch3x3dbl_1": "tower_1_conv",
        "branch3x3dbl_2": "tower_1_conv_1",
        "branch3x3dbl_3": "tower_1_conv_2",
        "branch_pool": "tower_2_conv",
    },
    "B": {
        "branch3x3": "conv",
        "branch3x3dbl_1": "tower_conv",
        "branch3x3dbl_2": "tower_conv_1",
        "branch3x3dbl_3": "tower_conv_2",
    },
    "C": {
        "branch1x1": "conv",
        "branch7x7_1": "tower_conv",
        "branch7x7_2": "tower_conv_1",
        "branch7x7_3": "tower_conv_2",
        "branch7x7dbl_1": "tower_1_conv",
        "branch7x7dbl_2": "tower_1_conv_1",
        "branch7x7dbl_3": "tower_1_conv_2",
        "branch7x7dbl_4": "tower_1_conv_3",
        "branch7x7dbl_5": "tower_1_conv_4",
        "branch_pool": "tower_2_conv",
    },
    "D": {
        "branch3x3_1": "tower_conv",
        "branch3x3_2": "tower_conv_1",
        "branch7x7x3_1": "tower_1_conv",
        "branch7x7x3_2": "tower_1_conv_1",
        "branch7x7x3_3": "tower_1_conv_2",
        "branch7x7x3_4": "tower_1_conv_3",
    },
    "E": {
        "branch1x1": "conv",
        "branch3x3_1": "tower_conv",
        "branch3x3_2a": "tower_mixed_conv",
        "branch3x3_2b": "tower_mixed_conv_1",
        "branch3x3dbl_1": "tower_1_conv",
        "branch3x3dbl_2": "tower_1_conv_1",
        "branch3x3dbl_3a": "tower_1_mixed_conv",
        "branch3x3dbl_3b": "tower_1_mixed_conv_1",
        "branch_pool": "tower_2_conv",
    },
}
BLOCK_KINDS = "AAABCCCCDEE"
PARTS = ("kernel", "beta", "mean", "var")
# the last words of a name -> part; an OIHW kernel is turned to HWIO
ENDINGS = {
    "conv.weight": "kernel",
    "weight": "kernel",
    "conv2d_params": "kernel",
    "bn.bias": "beta",
    "beta": "beta",
    "batchnorm.beta": "beta",
    "bn.running_mean": "mean",
    "mean": "mean",
    "batchnorm.moving_mean": "mean",
    "bn.running_var": "var",
    "var": "var",
    "batchnorm.moving_variance": "var",
    "bn.weight": "gamma",
    "gamma": "gamma",
    "batchnorm.gamma": "gamma",
}
HEAD_NAMES = {"fc.weight": "torch", "softmax.weights": "tensorflow"}
IGNORED = re.compile(r"^AuxLogits|num_batches_tracked$|^fc\.bias$|^softmax\.biases$")  # IS takes logits without bias


@dataclass(frozen=True)
class Weights:
    """What a metric needs to run the net and to say which net it was."""

    params: dict[str, Any] = field(repr=False)  # Flax parameters, batch norms folded in
    head: np.ndarray | None = field(repr=False)  # [2048, 1008], logits without bias; None where the file lacks it
    name: str
    sha256: str  # of the arrays as stored, by canonical name, without the head
    head_sha256: str | None


def load_weights(path: str | os.PathLike | None = None, sha256: str | None = None) -> Weights:
    """Weights from this file, or from that of DFM_INCEPTION_WEIGHTS.

    Args:
        sha256: expected hash of the arrays, for weights other than the published ones; None: these must be the
            published ones, whose fingerprint is pinned in KNOWN_FINGERPRINTS.
    """
    path = path or os.environ.get(VARIABLE)
    if not path:
        raise UserError(
            f"the Inception weights are missing: give --inception_weights=FILE or set {VARIABLE}; nothing is "
            f"downloaded here, and the file is {INCEPTION_SOURCE}"
        )
    arrays, head = canonical_arrays(read_arrays(path), os.fspath(path))
    content, known = hash_arrays(arrays), KNOWN_FINGERPRINTS.get(fingerprint(arrays))
    if sha256 is not None and sha256 != content:
        raise UserError(f"{path}: the arrays have sha256 {content}, not {sha256}")
    if sha256 is None and known is None:
        raise UserError(
            f"{path}: not the published FID Inception (sha256 of the arrays {content}); if you trust this file, "
            f"give --inception_sha256={content}"
        )
    return Weights(
        params=flax_params(arrays),
        head=head,
        name=known or "inception-unpublished",
        sha256=content,
        head_sha256=None if head is None else hash_arrays({"head": head}),
    )


def fingerprint(arrays: Arrays) -> str:
    """Hash with the kernels rounded to float16, so that float32 and float16 copies of one net have the same."""
    rounded = {
        name: array.astype(np.float16 if name.endswith("kernel") else np.float32) for name, array in arrays.items()
    }
    return hash_arrays(rounded)


def canonical_arrays(stored: Arrays, source: str) -> tuple[Arrays, np.ndarray | None]:
    """`Mixed_5b.branch5x5_1.kernel` (HWIO), .beta, .mean, .var for all 94 convolutions, and the head or None.

    A scale of the batch norms (gamma), which the graph of 2015 has not, must be one.
    """
    shapes = convolution_shapes()
    found: Arrays = {}
    head = None
    for key, array in stored.items():
        name = key.replace("/", ".")
        if name in HEAD_NAMES:
            head = _head(array, HEAD_NAMES[name], source)
        elif not IGNORED.search(name):
            convolution, part = _convolution_and_part(name, source)
            if part == "kernel" and not name.endswith("conv2d_params") and array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            found[f"{convolution}.{part}"] = array
    for name in [name for name in found if name.endswith(".gamma")]:
        if not np.all(found.pop(name) == 1):
            raise UserError(f"{source}: {name} is not one everywhere, so this is not the Inception of FID")
    _check_shapes(found, shapes, source)
    return {name: np.ascontiguousarray(array) for name, array in found.items()}, head


def _head(array: np.ndarray, layout: str, source: str) -> np.ndarray:
    head = array.T if layout == "torch" else array
    if head.shape != (2048, 1008) or not np.all(np.isfinite(head)):
        raise UserError(f"{source}: the 1008-way head has shape {list(head.shape)} or holds NaN")
    return np.ascontiguousarray(head, dtype=np.float32)


def _convolution_and_part(name: str, source: str) -> tuple[str, str]:
    words = name.split(".")
    for length in (2, 1):
        part = ENDINGS.get(".".join(words[-length:]))
        convolution = NAMES.get("_".join(words[:-length]))
        if part and convolution:
            return convolution, part
    raise UserError(f"{source}: {name} is not a name of the FID Inception")


def _check_shapes(found: Arrays, shapes: dict[str, tuple[int, ...]], source: str) -> None:
    for convolution, kernel_shape in shapes.items():
        for part in PARTS:
            name = f"{convolution}.{part}"
            wanted = kernel_shape if part == "kernel" else kernel_shape[-1:]
            if name not in found:
                raise UserError(f"{source}: {name} is missing, so this is not a whole FID Inception")
            if found[name].shape != wanted:
                raise UserError(f"{source}: {name} has shape {list(found[name].shape)} in place of {list(wanted)}")
            if found[name].dtype.kind != "f" or not np.all(np.isfinite(found[name])):
                raise UserError(f"{source}: {name} holds NaN, infinities or no floats")


def convolution_shapes() -> dict[str, tuple[int, ...]]:
    """Name -> HWIO shape of each convolution, from the Flax module itself."""
    from dfm.metrics.inception import INPUT_SIZE, Inception

    picture = jax.ShapeDtypeStruct((1, INPUT_SIZE, INPUT_SIZE, 3), np.float32)
    params = jax.eval_shape(Inception().init, jax.random.key(0), picture)["params"]
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    return {".".join(step.key for step in path[:-1]): leaf.shape for path, leaf in flat if path[-1].key == "kernel"}


def flax_params(arrays: Arrays) -> dict[str, Any]:
    """Parameters of `Inception`: y = (conv(x) - mean) / sqrt(var + 1e-3) + beta as one kernel and one bias."""
    params: dict[str, Any] = {}
    for name in sorted({name.rpartition(".")[0] for name in arrays}):
        kernel, beta, mean, var = (arrays[f"{name}.{part}"].astype(np.float64) for part in PARTS)
        scale = 1 / np.sqrt(var + BATCH_NORM_EPSILON)
        *blocks, last = name.split(".")
        place = params
        for block in blocks:
            place = place.setdefault(block, {})
        place[last] = {"kernel": np.float32(kernel * scale), "bias": np.float32(beta - mean * scale)}
    return {"params": params}


def _names() -> dict[str, str]:
    """Any spelling, with _ for its separators -> canonical name."""
    names = {name: name for name in STEM}
    names |= {f"conv_{i}" if i else "conv": name for i, name in enumerate(STEM)}
    for i, (block, kind) in enumerate(zip(BLOCKS, BLOCK_KINDS, strict=True)):
        for branch, tensorflow_name in TENSORFLOW_BRANCHES[kind].items():
            for spelling in (f"{block}_{branch}", f"{f'mixed_{i}' if i else 'mixed'}_{tensorflow_name}"):
                names[spelling] = f"{block}.{branch}"
    return names


NAMES = _names()
