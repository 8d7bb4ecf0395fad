"""Deep Fourier Machines: Fourier layers over binary frequency vectors, and their composition (Asadi 2022, chapter 4).

The literal form of a layer with m inputs needs 2^m phases, sines and cosines a point. Here it needs m of each. With
phi_j = pi x_j and signs s_j = 2 k_j - 1,

    2 pi k.x = sum_j phi_j + sum_j s_j phi_j,      exp(i s_j phi_j) = cos phi_j + i s_j sin phi_j,

so that, with c_k = a_k - i b_k and Phi = sum_j phi_j,

    sum_k a_k cos(2 pi k.x) + b_k sin(2 pi k.x) = Re[ exp(i Phi) sum_t d_t prod_j (sin phi_j if t_j else cos phi_j) ]

where d = (Walsh-Hadamard transform of c over k, times i^|t|) does not depend on the point. The products are *real*,
which halves the arithmetic of the product form in exp(2 pi i x_j), and they split into two groups of inputs: one matrix
product with the first group's products, then a short weighted sum over the second's. `_split` balances the two arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float

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


@jax.custom_jvp
def cos_sin_pi(x: Array) -> tuple[Array, Array]:
    """(cos pi x, sin pi x), element-wise, to about one unit in the last place of float32.

    Reduced to an eighth of a turn and evaluated as Taylor polynomials: XLA's sine and cosine are several times slower
    on a CPU and lose accuracy in the product pi x. float64 uses the library functions, whose accuracy it needs.
    """
    quarter_turns = jnp.round(2.0 * x)
    rest = x - 0.5 * quarter_turns  # exact: both are multiples of x's last place
    if x.dtype == jnp.float64:
        cosine, sine = jnp.cos(jnp.pi * rest), jnp.sin(jnp.pi * rest)
    else:
        u = rest * rest
        sine = rest * (3.14159265 + u * (-5.16771278 + u * (2.55016404 + u * (-0.59926453 + u * 0.08214589))))
        cosine = 1.0 + u * (-4.93480220 + u * (4.05871213 + u * (-1.33526277 + u * (0.23533063 + u * -0.02580689))))
    # float arithmetic modulo 4: integers would overflow for |x| above 2^30
    quadrant = quarter_turns - 4.0 * jnp.floor(0.25 * quarter_turns)
    odd = (quadrant == 1.0) | (quadrant == 3.0)
    cosine, sine = jnp.where(odd, sine, cosine), jnp.where(odd, cosine, sine)
    negative_cosine = (quadrant == 1.0) | (quadrant == 2.0)
    return jnp.where(negative_cosine, -cosine, cosine), jnp.where(quadrant >= 2.0, -sine, sine)


@cos_sin_pi.defjvp
def _cos_sin_pi_jvp(primals, tangents):
    # custom_jvp, not custom_vjp: forward mode and second derivatives must keep working
    cosine, sine = cos_sin_pi(primals[0])
    turn = jnp.pi * tangents[0]
    return (cosine, sine), (-sine * turn, cosine * turn)


def _split(m: int, n: int) -> int:
    """How many inputs the matrix product takes: 2^split features against 2^(m - split) * 2n sums, balanced."""
    return min(m, max(1, (m + (2 * n).bit_length()) // 2))


def _half_angle_coefficients(cos: Array, sin: Array) -> tuple[Array, Array]:
    """Real and imaginary part of d_t (module docstring): [..., 2^m, n] each, from a_k and b_k of the same shape."""
    *batch, frequencies, n = cos.shape
    m = frequencies.bit_length() - 1
    real, imaginary = cos.reshape(*batch, *(2,) * m, n), -sin.reshape(*batch, *(2,) * m, n)
    for axis in range(len(batch), len(batch) + m):
        real0, real1 = jnp.moveaxis(real, axis, 0)
        imaginary0, imaginary1 = jnp.moveaxis(imaginary, axis, 0)
        # t = 0: c_0 + c_1.  t = 1: i (c_1 - c_0).
        real = jnp.stack([real0 + real1, imaginary0 - imaginary1], axis)
        imaginary = jnp.stack([imaginary0 + imaginary1, real1 - real0], axis)
    return real.reshape(cos.shape), imaginary.reshape(cos.shape)


def _products(factors: Sequence[Array]) -> Array:
    """Products of one entry of each [points, 2] factor: [points, 2^len(factors)], the first factor the fastest."""
    if len(factors) == 1:
        return factors[0]
    middle = len(factors) // 2
    low, high = _products(factors[:middle]), _products(factors[middle:])
    return (high[:, :, None] * low[:, None, :]).reshape(len(low), 2 ** len(factors))


def _fourier_sum(x: Array, cos: Array, sin: Array) -> Array:
    """sum_k cos_k cos(2 pi k.x) + sin_k sin(2 pi k.x) by XLA; an accelerator's kernel would replace this function.

    Only the matrix product sees the batch axes: XLA's CPU loops are split by their outermost axis, and with a short one
    in front (a batch of one picture) the element-wise work took seven times as long.
    """
    m, n = x.shape[-1], cos.shape[-1]
    low = _split(m, n)
    batch = jnp.broadcast_shapes(x.shape[:-2], cos.shape[:-2])
    points = jnp.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, m)
    points = points - jnp.round(points)  # exact, as the sum has period 1 in each input; large x.sum() would be rounded
    cosine, sine = cos_sin_pi(points)
    factors = [jnp.stack([cosine[:, j], sine[:, j]], -1) for j in range(m)]
    # [..., 2^m, 2n] -> [..., 2^low, 2^(m - low) * 2n]: bit 0 is the fastest, so the low inputs are the last of axis -2
    matrix = jnp.concatenate(_half_angle_coefficients(cos, sin), -1)
    matrix = matrix.reshape(*matrix.shape[:-2], 2 ** (m - low), 2**low, 2 * n)
    matrix = jnp.swapaxes(matrix, -3, -2).reshape(*matrix.shape[:-3], 2**low, -1)
    features = _products(factors[:low])
    if cos.ndim > 2:
        features = features.reshape(*batch, x.shape[-2], 2**low)
    # highest: on a GPU the default is TF32, and decoded pixels depend on it
    sums = jnp.matmul(features, matrix, precision="highest").reshape(-1, 2 ** (m - low), 2 * n)
    sums = (sums * _products(factors[low:])[..., None]).sum(1) if low < m else sums[:, 0]
    total_cosine, total_sine = cos_sin_pi(points.sum(-1, keepdims=True))
    y = total_cosine * sums[:, :n] - total_sine * sums[:, n:]
    return y.reshape(*batch, x.shape[-2], n)


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
    y = _fourier_sum(x, cos, sin)
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
