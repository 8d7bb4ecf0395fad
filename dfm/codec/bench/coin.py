"""COIN (Dupont et al. 2021): a picture as the float16 weights of a SIREN.

Our own small implementation, the peer of `bench`. What it shares with the paper: SIREN with w0 = 30, Adam at a constant
2e-4 on the mean squared error of all pixels, the best network met on the way is kept, weights in float16, no entropy
coding. What differs: the bytes are real (a header of 11 bytes and the weights; the paper counts weights only), and the
steps and the learning rate are the caller's: the paper takes 50,000 steps, more than an hour a picture on a CPU, so
every result must name its steps. Published curves of COIN are for 768x512 pictures and 50,000 steps.

The learning rate belongs to the number of steps. 2,000 steps of 4,096 pixels on 256x256 crops with 10 layers x 10 units
(0.26 bits per pixel) gave 16.7, 17.3 and 16.3 dB on kodim05 and 19.6, 21.5 and 21.5 dB on kodim23 at 2e-4, 1e-3 and
3e-3: a peer that gets few steps deserves 1e-3.

Sizes. The paper's ladder for 768x512, layers x width, is 5x20, 5x30, 10x28, 10x40, 13x49 = 0.07, 0.16, 0.30, 0.61,
1.21 bits per pixel. For other pictures `size_for_bytes` keeps the depth that the paper uses nearest to that rate and
takes the widest net that fits; at 256x256, 0.15, 0.3, 0.6, 1.0 and 1.2 bits per pixel give 5x11, 10x10, 10x15, 13x17
and 13x19.
"""

import functools
import math
import struct
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, UInt8

from dfm.errors import UserError
from dfm.metrics.picture_quality import decibels
from dfm.models.siren import COORDINATES, Siren, parameter_count
from dfm.shapes import typechecked

LADDER = ((5, 20), (5, 30), (10, 28), (10, 40), (13, 49))  # (layers, width), Dupont et al. 2021, Table 1
LADDER_BITS_PER_PIXEL = tuple(16 * parameter_count(width, depth) / (768 * 512) for depth, width in LADDER)
PAPER_STEPS = 50_000
PAPER_LEARNING_RATE = 2e-4

MAGIC = b"COIN"
HEADER = struct.Struct("<4sHHBBB")  # magic, height, width of the picture, channels, width, depth of the net
CHUNK_STEPS = 100
MAXIMUM_SIDE = 65_535
MAXIMUM_SIZE = 255


class FitState(NamedTuple):
    """What a fit carries from step to step; `best_loss` is the full picture's mean squared error of `best_params`."""

    params: dict
    opt_state: optax.OptState
    best_params: dict
    best_loss: Float[Array, ""]


def encode_coin(
    image: UInt8[np.ndarray, "height width channel"],
    width: int,
    depth: int,
    total_steps: int = PAPER_STEPS,
    learning_rate: float = PAPER_LEARNING_RATE,
    seed: int = 0,
    *,
    batch_pixels: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> bytes:
    """Fit a SIREN to a picture and return the file: header and float16 weights.

    Args:
        image: uint8, one or three channels.
        width, depth: units and number of the sine layers.
        total_steps: Adam steps; the paper takes 50,000.
        learning_rate: constant; the paper takes 2e-4.
        seed: of the initial weights and of the minibatches.
        batch_pixels: random pixels a step; None is the full picture, as in the paper. A minibatch makes a step
            cheaper on a CPU; the best network is then looked for once every 100 steps instead of at every one.
        progress: called with (steps done, PSNR in dB of the best network so far, before rounding to float16).

    Raises:
        UserError: the picture or a size is out of bounds.
    """
    height, picture_width, channels = _check_picture(image)
    if not (1 <= width <= MAXIMUM_SIZE and 1 <= depth <= MAXIMUM_SIZE and total_steps >= 1):
        raise UserError(
            f"COIN needs width and depth of 1 to {MAXIMUM_SIZE} and a positive number of steps, "
            f"not {width}, {depth}, {total_steps}"
        )
    model = Siren(width, depth, channels)
    params = fit(model, image, total_steps, learning_rate, seed, batch_pixels, progress)
    weights = np.asarray(ravel_pytree(params)[0], dtype="<f2")
    return HEADER.pack(MAGIC, height, picture_width, channels, width, depth) + weights.tobytes()


@typechecked
def decode_coin(data: bytes) -> UInt8[np.ndarray, "height width channel"]:
    """The picture of a file of `encode_coin`.

    Raises:
        UserError: not such a file, or cut short.
    """
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise UserError("not a COIN file")
    _, height, picture_width, channels, width, depth = HEADER.unpack_from(data)
    if min(height, picture_width, width, depth) < 1 or channels not in (1, 3):
        raise UserError("damaged COIN file: its header holds impossible sizes")
    if len(data) != file_bytes(width, depth, channels):
        raise UserError(f"damaged COIN file: {len(data)} bytes, {file_bytes(width, depth, channels)} expected")
    weights = np.frombuffer(data, "<f2", offset=HEADER.size).astype(np.float32)
    model = Siren(width, depth, channels)
    colours = _render(model, _unravel(model)(jnp.asarray(weights)), coordinates(height, picture_width))
    # damaged weights may give NaN, whose conversion to uint8 is undefined: black instead
    pixels = np.nan_to_num(np.round(255 * np.clip(colours, 0, 1))).astype(np.uint8)
    return pixels.reshape(height, picture_width, channels)


def file_bytes(width: int, depth: int, channels: int = 3) -> int:
    """Length of a file: known before fitting, since nothing is entropy coded."""
    return HEADER.size + 2 * parameter_count(width, depth, channels)


def size_for_bytes(pixels: int, target_bytes: float, channels: int = 3) -> tuple[int, int]:
    """(width, depth) of the widest net whose file is at most `target_bytes`, with the paper's depth at that rate.

    A target below the smallest net (width 1) gives that net.
    """
    rate = max(8 * target_bytes / pixels, 1e-9)
    nearest = min(range(len(LADDER)), key=lambda index: abs(math.log(rate / LADDER_BITS_PER_PIXEL[index])))
    depth = LADDER[nearest][0]
    width = 1
    while width < MAXIMUM_SIZE and file_bytes(width + 1, depth, channels) <= target_bytes:
        width += 1
    return width, depth


@typechecked
def coordinates(height: int, width: int) -> Float[np.ndarray, "pixel 2"]:
    """(row, column) of every pixel, rows over [-1, 1] and columns in the same unit, as in COIN's code."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    positions = np.stack([rows, columns], axis=-1).reshape(-1, COORDINATES)
    return (2 * positions / max(height - 1, 1) - 1).astype(np.float32)


def fit(
    model: Siren,
    image,
    total_steps: int,
    learning_rate: float,
    seed: int,
    batch_pixels: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> dict:
    """Parameters of the best network (least full-picture error) met during `total_steps` steps of Adam."""
    x = jnp.asarray(coordinates(*image.shape[:2]))
    y = jnp.asarray(image.reshape(-1, image.shape[-1]), jnp.float32) / 255
    if batch_pixels is not None and batch_pixels >= len(x):
        batch_pixels = None
    key = jax.random.key(seed)
    state = _start(model, key)
    for first in range(0, total_steps, CHUNK_STEPS):
        steps = min(CHUNK_STEPS, total_steps - first)
        state = _fit_chunk(model, batch_pixels, steps, state, x, y, learning_rate, jax.random.fold_in(key, first + 1))
        if progress is not None:
            progress(first + steps, decibels(max(float(state.best_loss), 1e-12), peak=1))
    return state.best_params


@functools.partial(jax.jit, static_argnames="model")
def _start(model, key) -> FitState:
    params = model.init(key, jnp.zeros((1, COORDINATES)))
    return FitState(params, optax.adam(PAPER_LEARNING_RATE).init(params), params, jnp.float32(jnp.inf))


@functools.partial(jax.jit, static_argnames=("model", "batch_pixels", "steps"))
def _fit_chunk(model, batch_pixels, steps, state, x, y, learning_rate, key) -> FitState:
    """`steps` steps inside one program: a step of these nets is too short to be started from Python each time."""
    optimizer = optax.adam(learning_rate)

    def loss_fn(params, x, y):
        return jnp.mean((model.apply(params, x) - y) ** 2)

    def step(state, step_key):
        if batch_pixels is None:
            loss, gradients = jax.value_and_grad(loss_fn)(state.params, x, y)
            state = _keep_best(state, loss)
        else:
            index = jax.random.randint(step_key, (batch_pixels,), 0, len(x))
            gradients = jax.grad(loss_fn)(state.params, x[index], y[index])
        updates, opt_state = optimizer.update(gradients, state.opt_state)
        return state._replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state), None

    state, _ = jax.lax.scan(step, state, jax.random.split(key, steps))
    return _keep_best(state, loss_fn(state.params, x, y))


def _keep_best(state: FitState, loss: Float[Array, ""]) -> FitState:
    better = loss < state.best_loss  # false for a NaN: a fit that diverges keeps what it had
    best_params = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, state.best_params)
    return state._replace(best_params=best_params, best_loss=jnp.where(better, loss, state.best_loss))


@functools.partial(jax.jit, static_argnames="model")
def _apply(model, params, x):
    return model.apply(params, x)


def _render(model: Siren, params: dict, x: np.ndarray) -> Float[np.ndarray, "pixel channel"]:
    """Colours at all positions, in slices: a crafted header must not ask for gigabytes at once."""
    slice_pixels = 1 << 18
    return np.concatenate(
        [np.asarray(_apply(model, params, x[first : first + slice_pixels])) for first in range(0, len(x), slice_pixels)]
    )


def _unravel(model: Siren) -> Callable:
    """Flat weights -> parameters of `model`, in the order of `ravel_pytree`."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, COORDINATES)))
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))[1]


def _check_picture(image) -> tuple[int, int, int]:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3) or image.size == 0:
        raise UserError(f"COIN fits uint8 pictures with 1 or 3 channels, not {image.dtype} {list(image.shape)}")
    if max(image.shape[:2]) > MAXIMUM_SIDE:
        raise UserError(f"COIN files hold pictures of at most {MAXIMUM_SIDE} pixels a side")
    return image.shape
