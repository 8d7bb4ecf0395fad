"""Deep Fourier Machines: Fourier layers over binary frequency vectors, and their composition (Asadi 2022, chapter 4).

The sum of a layer is computed in dfm/models/fourier_kernels.py.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float

from dfm.models.fourier_kernels import fourier_sum
from dfm.shapes import typechecked

Basis = Literal["cos_sin", "cas"]
COEFFICIENT_NAMES: dict[str, tuple[str, ...]] = {"cos_sin": ("cos", "sin"), "cas": ("cas",)}


def hidden_widths(width: int | Sequence[int], depth: int | None) -> tuple[int, ...]:
    """Widths of the hidden vectors: `depth` times `width`, or `width` itself where it is a list already.

    Raises:
        ValueError: neither a positive width with a positive depth, nor a list of positive widths (of length `depth`).
    """
    if isinstance(width, int | np.integer):
        if depth is None:
            raise ValueError("one width needs a depth")
        widths = (int(width),) * depth
    else:
        widths = tuple(width)
        if depth not in (None, len(widths)):
            raise ValueError(f"depth {depth} contradicts the {len(widths)} widths {widths}")
    if not widths or min(widths) < 1:
        raise ValueError(f"widths must be positive and at least one, not {widths}")
    return widths


def layer_sizes(widths: Sequence[int], channels: int, inputs: int = 2) -> list[tuple[int, int]]:
    """(m, n) of each layer of the net inputs -> widths[0] -> ... -> widths[-1] -> channels: len(widths) + 1 layers."""
    sizes = (inputs, *widths, channels)
    return list(zip(sizes[:-1], sizes[1:], strict=True))


def coefficient_count(widths: Sequence[int], channels: int, basis: str = "cos_sin", inputs: int = 2) -> int:
    """Number of coefficients of the net: 2^m n a layer and coefficient array."""
    return sum(len(COEFFICIENT_NAMES[basis]) * 2**m * n for m, n in layer_sizes(widths, channels, inputs))


@typechecked
def split_coefficients(
    vector: Float[Array, "*batch count"], widths: Sequence[int], channels: int, basis: Basis = "cas", inputs: int = 2
) -> list[dict[str, Array]]:
    """Cut coefficient vectors into layers: layers in order, cos before sin, row-major (the order of the file format).

    Raises:
        ValueError: the vector's length is not `coefficient_count` of the net.
    """
    expected = coefficient_count(widths, channels, basis, inputs)
    if vector.shape[-1] != expected:
        raise ValueError(f"{vector.shape[-1]} coefficients for a net that needs {expected}")
    layers, start = [], 0
    for m, n in layer_sizes(widths, channels, inputs):
        layer = {}
        for name in COEFFICIENT_NAMES[basis]:
            layer[name] = vector[..., start : start + 2**m * n].reshape(*vector.shape[:-1], 2**m, n)
            start += 2**m * n
        layers.append(layer)
    return layers


@typechecked
def fourier_layer(
    x: Float[ArrayLike, "*points_batch points m"], coefficients: Mapping[str, ArrayLike], residual: bool | None = None
) -> Float[Array, "*batch points n"]:
    """Fourier layer, y = sum_k a_k cos(2 pi k.x) + b_k sin(2 pi k.x) [+ x], k in {0,1}^m (Asadi 2022, Eq. 4.5).

    Args:
        x: points; leading axes are batch axes, broadcast against those of the coefficients.
        coefficients: {"cos": a, "sin": b}, or {"cas": a} for the Hartley kernel a_k (cos + sin)(2 pi k.x), which has
            one coefficient a frequency and output. Each is [2^m, n], or [*batch, 2^m, n] for one set an example; bit j
            of the row index is k_j. The thesis writes two coefficients, but the sizes of its generators (352 and
            3,672) fit one: "cos_sin" is our default for compression, "cas" for generated coefficients.
        residual: add x; None adds it where n = m, as the thesis does.

    Returns:
        [*batch, points, n], float32 or wider.

    Raises:
        ValueError: the number of rows is not 2^m, the names are not of one basis, or a residual between unequal sizes.
    """
    if set(coefficients) == {"cas"}:
        cos = sin = coefficients["cas"]
    elif set(coefficients) == {"cos", "sin"}:
        cos, sin = coefficients["cos"], coefficients["sin"]
    else:
        raise ValueError(f'coefficients are {{"cos", "sin"}} or {{"cas"}}, not {sorted(coefficients)}')
    x, cos, sin = jnp.asarray(x), jnp.asarray(cos), jnp.asarray(sin)
    m, n = x.shape[-1], cos.shape[-1]
    if cos.shape != sin.shape:
        raise ValueError(f"cos is {cos.shape} and sin {sin.shape}: their shapes must agree")
    if cos.shape[-2] != 2**m:
        raise ValueError(f"{cos.shape[-2]} rows of coefficients for {m} inputs, which need {2**m}")
    if residual and m != n:
        raise ValueError(f"no residual between {m} inputs and {n} outputs")
    dtype = jnp.promote_types(jnp.result_type(x, cos, sin), jnp.float32)  # phases need at least float32
    x, cos, sin = x.astype(dtype), cos.astype(dtype), sin.astype(dtype)
    y = fourier_sum(x, cos, sin, "points_major")
    return y + x if (m == n if residual is None else residual) else y


@typechecked
def fourier_net(layers: Sequence[Mapping[str, ArrayLike]], x: Float[ArrayLike, "*batch points inputs"]) -> Array:
    """Composition of Fourier layers, tanh at the end (Asadi 2022, Eq. 4.6): [*batch, points, channels] in (-1, 1)."""
    for layer in layers:
        x = fourier_layer(x, layer)
    return jnp.tanh(x)


class FourierLayer(nn.Module):
    """`fourier_layer` as a Flax module: its parameters, unless coefficients are given, are "cos" and "sin", or "cas".

    Attributes:
        features: number of outputs n.
        basis: "cos_sin" (Eq. 4.5) or "cas" (one coefficient a frequency and output).
        coefficient_init: initializer of each [2^m, n] array; the thesis' is a Gaussian of variance 2e-10.
    """

    features: int
    basis: Basis = "cos_sin"
    coefficient_init: nn.initializers.Initializer = nn.initializers.normal(2e-10**0.5)

    @nn.compact
    def __call__(self, x: Array, coefficients: Mapping[str, Array] | None = None) -> Array:
        if coefficients is None:
            shape = (2 ** x.shape[-1], self.features)
            names = COEFFICIENT_NAMES[self.basis]
            coefficients = {name: self.param(name, self.coefficient_init, shape) for name in names}
        return fourier_layer(x, coefficients)


class FourierNet(nn.Module):
    """`fourier_net` as a Flax module: points [..., inputs] -> width -> ... -> width -> channels, tanh (Eq. 4.6).

    A net of depth d has d + 1 layers. Layers are submodules `layers_0`, `layers_1`, ...

    Attributes:
        width: width of every hidden vector, or the list of their widths.
        depth: number of hidden vectors; not needed with a list.
        channels: 1 for grey, 3 for RGB.
        basis, coefficient_init: as in `FourierLayer`.
    """

    width: int | Sequence[int]
    depth: int | None = None
    channels: int = 3
    basis: Basis = "cos_sin"
    coefficient_init: nn.initializers.Initializer = nn.initializers.normal(2e-10**0.5)

    def setup(self):
        sizes = (*hidden_widths(self.width, self.depth), self.channels)
        self.layers = [FourierLayer(size, self.basis, self.coefficient_init) for size in sizes]

    def __call__(self, x: Array, coefficients: Sequence[Mapping[str, Array]] | None = None) -> Array:
        if coefficients is not None:
            return fourier_net(coefficients, x)
        for layer in self.layers:
            x = layer(x)
        return jnp.tanh(x)
