"""The model of the latents profile as plain JAX: what the fast forms in pieces.py and the integer decoder both mean.

Latents are grids y_k [rows, columns], finest first. Arrays of the networks are named in shapes.py. Channels are the
major axis everywhere: on a CPU the points then are the vectors that its units work on.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dfm.codec.latents import shapes
from dfm.models.fourier_kernels import cos_sin_pi
from dfm.shapes import typechecked

Networks = Mapping[str, Array]
PIECE = 4096
LARGE_PLANE = 2**13  # values that no longer stay in a cache together with what is made of them
LOG2_SCALE_RANGE = (-5.0, 5.0)  # of the Laplace distribution's scale


def upsample(grids: Sequence[Array], taps: Array | None) -> Float[Array, "grids height width"]:
    """All grids at the resolution of the finest, finest first.

    A cascade from coarse to fine: what came from coarser grids is doubled together, by a symmetric filter with four
    taps a phase, `taps[k]` from grid k + 1 to grid k, then grid k joins it.
    """
    stack = grids[-1][None]
    for k in range(len(grids) - 2, -1, -1):
        assert taps is not None
        rows, columns = grids[k].shape
        stack = double(double(stack, taps[k], 1)[:, :rows], taps[k], 2)[:, :, :columns]
        stack = jnp.concatenate([grids[k][None], stack])
    return stack


def double(stack: Array, taps: Array, axis: int) -> Array:
    """Twice as many values along `axis`: phase 0 at -1/4, phase 1 at +1/4 of each; edge values are repeated."""
    pads = [(0, 0)] * 3
    pads[axis] = (2, 2)
    return interleaved_phases(jnp.pad(stack, pads, mode="edge"), taps, axis)


def interleaved_phases(padded: Array, taps: Array, axis: int) -> Array:
    """Both phases of all values along `axis` but two at either end, which are only looked at."""
    count = padded.shape[axis] - 4
    # as one product: the taps' gradient is then a product too, and not a sum over all points one at a time
    matrix = jnp.stack([jnp.append(taps, 0), jnp.append(0, taps[::-1])])

    def phases(planes: Array) -> Array:
        shifted = jnp.stack([jax.lax.slice_in_dim(planes, i, i + count, axis=axis) for i in range(5)])
        product = _product(matrix, shifted.reshape(5, -1)).reshape(2, *shifted.shape[1:])
        shape = tuple(2 * n if a == axis else n for a, n in enumerate(shifted.shape[1:]))
        return jnp.moveaxis(product, 0, axis + 1).reshape(shape)

    if together() or len(padded) == 1 or padded[0].size < LARGE_PLANE:
        return phases(padded)
    # plane after plane: what one needs in between stays near, and is computed anew on the way back
    return jax.lax.map(jax.checkpoint(lambda plane: phases(plane[None])[0]), padded)


def together() -> bool:
    """Whether pieces, and pictures, go through at once: on an accelerator, which is idle otherwise.

    A processor takes one after the other, each within its cache."""
    return jax.default_backend() != "cpu"


def _product(matrix: Array, columns: Array) -> Array:
    """matrix @ columns; on an accelerator in pieces, so that the matrix' gradient is not one long sum by one core."""
    count = columns.shape[1]
    if not together() or count <= PIECE:
        return matrix @ columns
    pieces = -(-count // PIECE)
    cut = jnp.pad(columns, ((0, 0), (0, pieces * PIECE - count))).reshape(len(columns), pieces, PIECE)
    product = jnp.einsum("pij,jpn->ipn", jnp.broadcast_to(matrix, (pieces, *matrix.shape)), cut)
    return product.reshape(len(matrix), -1)[:, :count]


def context_inputs(grids: Sequence[Array]) -> Float[Array, "inputs latents"]:
    """What each latent is predicted from: neighbours in its grid, then four of the next coarser grid (or zeros)."""
    columns = []
    for k, grid in enumerate(grids):
        rows, width = grid.shape
        padded = jnp.pad(grid, ((shapes.REACH_UP, 0), (shapes.REACH_LEFT, shapes.REACH_RIGHT)))
        inputs = neighbours(padded, rows, width)
        if k + 1 < len(grids):
            inputs += parents(jnp.pad(grids[k + 1], 1), rows, width)
        else:
            inputs += [jnp.zeros_like(grid)] * shapes.PARENTS
        columns.append(jnp.stack(inputs).reshape(shapes.CONTEXT_INPUTS, -1))
    return jnp.concatenate(columns, 1)


def neighbours(padded: Array, rows: int, columns: int) -> list[Array]:
    """The neighbours of each latent in its grid, which is padded by what they reach."""
    up, left = shapes.REACH_UP, shapes.REACH_LEFT
    return [padded[up + dy :, left + dx :][:rows, :columns] for dx, dy in shapes.NEIGHBOURS]


def parents(padded: Array, rows: int, columns: int) -> list[Array]:
    """The coarser latent of the same place, then its neighbours on the nearer side: in x, in y, in both.

    `padded` is the coarser grid with one more latent all around."""
    results = []
    for near_y, near_x in ((False, False), (False, True), (True, False), (True, True)):
        picked = padded
        for axis, near in ((0, near_y), (1, near_x)):
            count = padded.shape[axis] - 2
            even, odd = (0, 2) if near else (1, 1)
            parts = [jax.lax.slice_in_dim(picked, first, first + count, axis=axis) for first in (even, odd)]
            shape = tuple(2 * count if a == axis else n for a, n in enumerate(picked.shape))
            picked = jnp.stack(parts, axis + 1).reshape(shape)
        results.append(picked[:rows, :columns])
    return results


def context_model(
    networks: Networks, inputs: Float[Array, "inputs points"], grid_scale: Float[Array, "points"]
) -> tuple[Float[Array, "points"], Float[Array, "points"]]:
    """Mean and log2 of the scale of each latent's Laplace distribution; two residual ReLU layers and a linear one."""
    hidden = inputs
    for layer in (1, 2):
        weights, bias = networks[f"context_weights_{layer}"], networks[f"context_bias_{layer}"]
        hidden = hidden + jax.nn.relu(weights @ hidden + bias[:, None])
    mean, log2_scale = networks["context_weights_3"] @ hidden + networks["context_bias_3"][:, None]
    return mean, jnp.clip(log2_scale + grid_scale, *LOG2_SCALE_RANGE)


def laplace_bits(y: Array, mean: Array, log2_scale: Array) -> Array:
    """-log2 of the probability of [y - 1/2, y + 1/2] under the Laplace distribution.

    Two forms, as neither holds everywhere in float32; the gradient of the tail keeps pulling at any distance.
    """
    inverse = jnp.exp2(-log2_scale)
    distance = jnp.abs(y - mean)
    inside = distance < 0.5
    near = jnp.exp(-jnp.abs(distance - 0.5) * inverse)
    far = jnp.exp(-(distance + 0.5) * inverse)
    centre = -jnp.log(1 - 0.5 * (jnp.where(inside, near + far, 1.0)))
    tail = (distance - 0.5) * inverse - jnp.log(0.5 - 0.5 * jnp.exp(-inverse))
    return jnp.where(inside, centre, tail) * np.float32(1 / np.log(2))


def quadratic_form(networks: Networks, grids: int) -> Float[Array, "rows features"]:
    """Matrix that turns the Fourier features u = (cos t_i, sin t_i) into the factors g of y_c = sum_i u_i g_(c, i).

    cos(t_i + t_j) = cos t_i cos t_j - sin t_i sin t_j and sin(t_i + t_j) = sin t_i cos t_j + cos t_i sin t_j, so the
    sum over all pairs is a quadratic form in u and needs no features of pairs.
    """
    pairs = shapes.frequency_pairs(grids)
    basis_cos = np.zeros((len(pairs), 2 * grids, 2 * grids), np.float32)
    basis_sin = np.zeros_like(basis_cos)
    for row, (i, j) in enumerate(pairs):
        basis_cos[row, i, j], basis_cos[row, grids + i, grids + j] = 1, -1
        basis_sin[row, grids + i, j], basis_sin[row, i, grids + j] = 1, 1
    channels = networks["single"].shape[0]
    if not pairs:
        return jnp.zeros((channels * 2 * grids, 2 * grids))
    matrix = jnp.tensordot(networks["pair_cos"], basis_cos, 1) + jnp.tensordot(networks["pair_sin"], basis_sin, 1)
    return matrix.reshape(channels * 2 * grids, 2 * grids)


def mix(networks: Networks, features: Float[Array, "grids points"]) -> Float[Array, "channels points"]:
    """Colours before the filters, without the bias: linear + ReLU layer + Fourier layer of all k with |k| = 1 and 2."""
    grids = features.shape[0]
    hidden = jax.nn.relu(networks["hidden_weights"] @ features + networks["hidden_bias"][:, None])
    y = networks["linear"] @ features + networks["output_weights"] @ hidden
    # t = 2 pi s f: the double of cos_sin_pi's argument
    u = jnp.concatenate(cos_sin_pi(2 * networks["input_scale"][:, None] * features))
    channels = y.shape[0]
    factors = (quadratic_form(networks, grids) @ u).reshape(channels, 2 * grids, -1)
    return y + (u * (factors + networks["single"][:, :, None])).sum(1)


def filtered(networks: Networks, y: Float[Array, "channels height width"]) -> Float[Array, "channels height width"]:
    """Two residual 3x3 filters, the second of the first one's positive part; then the bias."""
    y = y + convolve(networks["filter_1"], y)
    y = y + convolve(networks["filter_2"], jax.nn.relu(y + networks["filter_bias"][:, None, None]))
    return y + networks["bias"][:, None, None]


def convolve(kernel: Array, y: Array) -> Array:
    """3x3, edge values repeated: sum over (i, dy, dx) of kernel[o, i, dy, dx] y[i, row + dy - 1, column + dx - 1]."""
    rows, columns = y.shape[1:]
    padded = jnp.pad(y, ((0, 0), (1, 1), (1, 1)), mode="edge")
    patches = jnp.stack([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], 1)
    return jnp.einsum("oik,ikyx->oyx", kernel.reshape(*kernel.shape[:2], 9), patches, precision="highest")


@typechecked
def paint(networks: Networks, grids: Sequence[Array]) -> Float[Array, "channels height width"]:
    """The picture in [0, 1] (not clamped) of these latents."""
    features = upsample(grids, networks.get("upsampling"))
    y = mix(networks, features.reshape(len(grids), -1))
    return filtered(networks, y.reshape(-1, *grids[0].shape))


def grid_scales(networks: Networks, grids: Sequence[Array]) -> Float[Array, "latents"]:
    """Each latent's own grid's offset of the log2-scale."""
    return jnp.concatenate([jnp.broadcast_to(networks["grid_scale"][k], g.size) for k, g in enumerate(grids)])


def rate(networks: Networks, grids: Sequence[Array]) -> Float[Array, ""]:
    """Bits of all latents together."""
    mean, log2_scale = context_model(networks, context_inputs(grids), grid_scales(networks, grids))
    y = jnp.concatenate([g.ravel() for g in grids])
    return laplace_bits(y, mean, log2_scale).sum()
