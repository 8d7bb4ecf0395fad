"""The sum of a Fourier layer, sum_k a_k cos(2 pi k.x) + b_k sin(2 pi k.x): one door to it, for every device.

The literal form of a layer with m inputs needs 2^m phases, sines and cosines a point. Here it needs m of each. With
phi_j = pi x_j and signs s_j = 2 k_j - 1,

    2 pi k.x = sum_j phi_j + sum_j s_j phi_j,      exp(i s_j phi_j) = cos phi_j + i s_j sin phi_j,

so that, with c_k = a_k - i b_k and Phi = sum_j phi_j,

    sum_k a_k cos(2 pi k.x) + b_k sin(2 pi k.x) = Re[ exp(i Phi) sum_t d_t prod_j (sin phi_j if t_j else cos phi_j) ]

where d = (Walsh-Hadamard transform of c over k, times i^|t|) does not depend on the point. The products are *real*,
which halves the arithmetic of the product form in exp(2 pi i x_j), and they split into two groups of inputs: one matrix
product with the first group's products, then a short weighted sum over the second's. `_split` balances the two arrays.

`fourier_sum` is what the layer and its batched form call. Both layouts are compiled by XLA, on CPUs and accelerators
alike; they were measured on CPUs only. A kernel for an accelerator belongs behind `fourier_sum`, chosen there by the
backend, with `XLA_FORMS` as its oracle; another form for CPUs takes the place of one in `XLA_FORMS`, whose oracle is
dfm/models/literal_fourier.py; and `pictures_at_once` says how much of a batch goes through it together.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

Layout = Literal["points_major", "points_last"]
CHUNK_POINTS = 6_144  # measured on a CPU: 8 pictures of MNIST, 4 of CIFAR-10; half or twice as many cost a quarter more


def fourier_sum(x: Array, cos: Array, sin: Array, layout: Layout) -> Array:
    """sum_k cos_k cos(2 pi k.x) + sin_k sin(2 pi k.x), all float32 or all float64.

    Args:
        x: "points_major": [*batch, points, m], which is the faster form for one picture and wide layers; "points_last":
            [batch, m, points], for one small net a picture and many pictures.
        cos, sin: [2^m, n] or [*batch, 2^m, n], of one shape; "points_last" wants the batch axis.

    Returns:
        [*batch, points, n], or [batch, n, points].
    """
    return XLA_FORMS[layout](x, cos, sin)


def pictures_at_once(batch: int, points: int) -> int:
    """How many pictures of so many points go forward and backward together, on all devices.

    On a CPU a divisor of the batch whose values stay in the cache, or the whole batch where none is near.
    """
    if jax.default_backend() != "cpu":
        return batch  # an accelerator wants all of its work at once
    devices = jax.device_count()
    wanted = max(1.0, CHUNK_POINTS / points) * devices
    divisors = [n for n in range(devices, batch + 1, devices) if batch % n == 0 and wanted / 2 <= n <= 2 * wanted]
    # one picture a chunk would be slow: XLA turns the batched matrix products of the layers into loops
    divisors = [n for n in divisors if n > devices]
    return min(divisors, key=lambda n: abs(n - wanted), default=batch)


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


def _points_major(x: Array, cos: Array, sin: Array) -> Array:
    """[*batch, points, m] -> [*batch, points, n].

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


def _points_last(x: Array, cos: Array, sin: Array) -> Array:
    """[batch, m, points] -> [batch, n, points].

    Every element-wise operation runs along the points, the loops split over the pictures, and the small matrix products
    have the points as their long side.
    """
    batch, m, points = x.shape
    n = cos.shape[-1]
    low = -(-2 * m // 3)  # measured for widths 2 to 8: two thirds of the inputs go into the matrix product
    turns = x - jnp.round(x)  # exact: the sum has period 1 in each input
    cosine, sine = cos_sin_pi(turns)
    factors = [(cosine[:, j], sine[:, j]) for j in range(m)]
    # [batch, 2^m, 2n] -> [batch, 2^(m - low) * 2n, 2^low]
    matrix = jnp.concatenate(_half_angle_coefficients(cos, sin), -1).reshape(batch, 2 ** (m - low), 2**low, 2 * n)
    matrix = jnp.swapaxes(matrix, 2, 3).reshape(batch, -1, 2**low)
    sums = jnp.matmul(matrix, jnp.stack(_separate_products(factors[:low]), 1), precision="highest")
    if low < m:
        sums = sums.reshape(batch, 2 ** (m - low), 2 * n, points)
        terms = [sums[:, t] * product[:, None] for t, product in enumerate(_separate_products(factors[low:]))]
        sums = functools.reduce(jnp.add, terms)
    total_cosine, total_sine = cos_sin_pi(turns.sum(1, keepdims=True))
    return total_cosine * sums[:, :n] - total_sine * sums[:, n:]


def _separate_products(factors: Sequence[tuple[Array, Array]]) -> list[Array]:
    """All products of one array of each pair, the first pair the fastest: separate arrays, which XLA fuses."""
    products = list(factors[0])
    for pair in factors[1:]:
        products = [product * factor for factor in pair for product in products]
    return products


XLA_FORMS: dict[Layout, Callable[[Array, Array, Array], Array]] = {
    "points_major": _points_major,
    "points_last": _points_last,
}
