"""LPIPS, the learned perceptual distance (Zhang et al. 2018, v0.1), with AlexNet or VGG-16; weights from a file.

    LPIPS(a, b) = sum over five layers of mean over positions of sum_c w_c (f_c(a) - f_c(b))^2,

f being a layer's activations divided by their norm over channels. Files hold `conv{i}.kernel` (HWIO), `conv{i}.bias`
and `lin{0..4}`; which net it is shows in the first kernel.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from dfm.array_files import Arrays, hash_arrays, read_arrays
from dfm.errors import UserError
from dfm.shapes import typechecked

VARIABLE = "DFM_LPIPS_WEIGHTS"
KNOWN = {"2f48b01f47e3b2bb751420883b16c01334b8d004201de62517f1dbf3fefe6656": "lpips-alex-v0.1"}
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of inputs in [-1, 1]
PRECISION = jax.lax.Precision.HIGHEST
SMALLEST_SIDE = 32  # AlexNet's pools leave nothing of a smaller picture
ENLARGED_SIDE = 64  # to which smaller pictures are brought, and the result says so


@dataclass(frozen=True)
class Layer:
    """One convolution, stride and padding, what pooling stands before it, and whether its activation is compared."""

    size: int
    outputs: int
    stride: int = 1
    pool: int = 0  # window of a maximum pool with stride 2 in front; 0: none
    tap: bool = True


def _vgg16() -> tuple[Layer, ...]:
    layers = []
    for block, (count, outputs) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]):
        for i in range(count):
            layers.append(Layer(3, outputs, pool=2 if block and i == 0 else 0, tap=i == count - 1))
    return tuple(layers)


NETS = {
    "alex": (Layer(11, 64, stride=4), Layer(5, 192, pool=3), Layer(3, 384, pool=3), Layer(3, 256), Layer(3, 256)),
    "vgg": _vgg16(),
}


class Backbone(nn.Module):
    """Pictures in [-1, 1] -> activations of the compared layers, shallow to deep."""

    layers: Sequence[Layer]

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> list[Array]:
        taps = []
        x = (x - jnp.array(SHIFT)) / jnp.array(SCALE)
        for i, layer in enumerate(self.layers):
            if layer.pool:
                x = nn.max_pool(x, (layer.pool, layer.pool), (2, 2))
            padding = 2 if layer.size == 11 else layer.size // 2
            x = nn.Conv(
                layer.outputs, (layer.size, layer.size), layer.stride, padding, precision=PRECISION, name=f"conv{i}"
            )(x)
            x = nn.relu(x)
            if layer.tap:
                taps.append(x)
        return taps


@dataclass(frozen=True)
class Lpips:
    """A backbone with its heads: call it on two batches, [0, 255], for one distance a pair."""

    net: str
    params: Any = field(repr=False)
    heads: list[np.ndarray] = field(repr=False)
    sha256: str
    name: str

    @typechecked
    def __call__(
        self, a: Num[Array, "batch height width channel"], b: Num[Array, "batch height width channel"]
    ) -> Float[Array, " batch"]:
        taps_a, taps_b = (self._activations(x) for x in (a, b))
        total = jnp.zeros(len(a))
        for x, y, head in zip(taps_a, taps_b, self.heads, strict=True):
            total += jnp.mean(jnp.square(_unit(x) - _unit(y)) @ jnp.asarray(head), axis=(1, 2))
        return total

    def features(self, pictures: Num[Array, "batch height width channel"]) -> Float[Array, "batch feature"]:
        """Means over positions of the compared layers, one after another: a feature network of another kind."""
        return jnp.concatenate([jnp.mean(tap, axis=(1, 2)) for tap in self._activations(pictures)], axis=-1)

    def _activations(self, pictures: Array) -> list[Array]:
        x = pictures.astype(jnp.float32) / 127.5 - 1
        if x.shape[-1] == 1:
            x = jnp.repeat(x, 3, axis=-1)
        height, width = input_size(x.shape[1], x.shape[2])
        if (height, width) != x.shape[1:3]:
            x = jax.image.resize(x, (len(x), height, width, 3), "bilinear", precision=PRECISION)
        return Backbone(NETS[self.net]).apply(self.params, x)  # type: ignore[return-value]


def input_size(height: int, width: int) -> tuple[int, int]:
    """The size at which pictures enter the net: their own, or enlarged so that the shorter side has 64 pixels."""
    shorter = min(height, width)
    if shorter >= SMALLEST_SIDE:
        return height, width
    return round(height * ENLARGED_SIDE / shorter), round(width * ENLARGED_SIDE / shorter)


def _unit(x: Array) -> Array:
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    # where every channel is silent: the root's gradient there is infinite, and times zero that is NaN
    silent = squares == 0
    norm = jnp.where(silent, 0.0, jnp.sqrt(jnp.where(silent, 1.0, squares)))
    # the small number stands outside of the root, as in the published code
    return x / (norm + 1e-10)


@dataclass(frozen=True)
class LpipsFile:
    """Where the weights are, as a command line says it; None: in the environment, and pinned."""

    path: str | None = None
    sha256: str | None = None

    def load(self) -> Lpips:
        return load_lpips(self.path, self.sha256)


def load_lpips(path: str | os.PathLike | None = None, sha256: str | None = None) -> Lpips:
    """LPIPS from this file, or from that of DFM_LPIPS_WEIGHTS; `sha256`: expected hash of weights not pinned here."""
    path = path or os.environ.get(VARIABLE)
    if not path:
        raise UserError(f"the LPIPS weights are missing: give --lpips_weights=FILE or set {VARIABLE}")
    arrays = read_arrays(path)
    net = "alex" if arrays.get("conv0.kernel", np.zeros(0)).shape[:2] == (11, 11) else "vgg"
    _check(arrays, net, path)
    content = hash_arrays(arrays)
    if sha256 is not None and sha256 != content:
        raise UserError(f"{path}: the arrays have sha256 {content}, not {sha256}")
    if sha256 is None and content not in KNOWN:
        raise UserError(
            f"{path}: weights whose hash is not pinned here (sha256 of the arrays {content}); if you trust this file, "
            f"give --lpips_sha256={content}"
        )
    params = {
        f"conv{i}": {part: arrays[f"conv{i}.{part}"] for part in ("kernel", "bias")} for i in range(len(NETS[net]))
    }
    heads = [arrays[f"lin{i}"] for i in range(5)]
    return Lpips(net, {"params": params}, heads, content, KNOWN.get(content, f"lpips-{net}-unpublished"))


def _check(arrays: Arrays, net: str, path: str | os.PathLike) -> None:
    inputs, taps = 3, 0
    for i, layer in enumerate(NETS[net]):
        wanted = {f"conv{i}.kernel": (layer.size, layer.size, inputs, layer.outputs), f"conv{i}.bias": (layer.outputs,)}
        if layer.tap:
            wanted[f"lin{taps}"] = (layer.outputs,)
            taps += 1
        for name, shape in wanted.items():
            if name not in arrays or arrays[name].shape != shape or not np.all(np.isfinite(arrays[name])):
                raise UserError(f"{path}: {name} is missing, not of shape {list(shape)}, or holds NaN")
        inputs = layer.outputs
    if any(np.any(arrays[f"lin{i}"] < 0) for i in range(taps)):
        raise UserError(f"{path}: a head has negative weights, which LPIPS has not")
