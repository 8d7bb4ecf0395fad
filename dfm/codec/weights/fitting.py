"""Fitting one Fourier net to each of a batch of pictures: the training loop.

The loop runs inside jit, `CHUNK_STEPS` steps a call. Pictures that share an architecture are fitted side by side: every
coefficient array has a leading picture axis, which is sharded over the devices where their number divides it. Adam
works element by element, so pictures do not influence each other.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from dfm.codec.profiles import ProgressReport
from dfm.codec.retreats import Retreats
from dfm.codec.weights.painting import coordinates
from dfm.codec.weights.recipes import Recipe
from dfm.errors import UserError
from dfm.metrics.picture_quality import FLOAT_PEAK, decibels
from dfm.models.fourier import COEFFICIENT_NAMES, fourier_net, layer_sizes
from dfm.shapes import typechecked

CHUNK_STEPS = 50
FEWEST_PIXELS = 256
FARTHEST_MEAN = 0.98  # that a fit starts at: tanh has little slope beyond
NEARLY_FLAT = 4.0  # square of the mean's distance from grey, over the variance around it
Layers = list[dict[str, Array]]  # coefficient arrays [picture, 2^m, n]


class Pixels(NamedTuple):
    """A batch of pictures as lists of pixels in raster order, padded to a common length of `padded_pixels`."""

    values: UInt8[Array, "picture pixel channel"]
    heights: Int[Array, "picture"]
    widths: Int[Array, "picture"]


class FitState(NamedTuple):
    layers: Layers
    moments: Any  # optax state of scale_by_adam
    rate: Float[Array, "picture"]  # factor on the recipe's learning rate


@dataclass(frozen=True)
class Schedule:
    """The part of the training that one call of `train` does: steps `start` ... `stop` of `total`."""

    start: int
    stop: int
    total: int


def padded_pixels(pixels: int) -> int:
    """The next power of two, at least `FEWEST_PIXELS`: a net is compiled once for all pictures of such a size."""
    return max(FEWEST_PIXELS, 1 << (pixels - 1).bit_length())


@typechecked
def stack_pictures(pictures: Sequence[UInt8[np.ndarray, "_ _ _"]]) -> Pixels:
    """Pictures [H, W, C] of one channel count to one padded batch."""
    longest = padded_pixels(max(picture.shape[0] * picture.shape[1] for picture in pictures))
    values = np.zeros((len(pictures), longest, pictures[0].shape[-1]), np.uint8)
    for row, picture in zip(values, pictures, strict=True):
        row[: picture.shape[0] * picture.shape[1]] = picture.reshape(-1, picture.shape[-1])
    heights, widths = (jnp.array([picture.shape[axis] for picture in pictures]) for axis in (0, 1))
    return Pixels(jnp.array(values), heights, widths)


def initial_layers(
    recipe: Recipe, widths: Sequence[int], channels: int, basis: str, pictures: int, key: PRNGKeyArray
) -> Layers:
    """Gaussian coefficients, [pictures, 2^m, n] each, with the recipe's standard deviations."""
    sizes = layer_sizes(widths, channels)
    scales = [recipe.first_scale] + [recipe.hidden_scale] * (len(sizes) - 2) + [recipe.last_scale]
    layers: Layers = []
    for (m, n), scale in zip(sizes, scales, strict=True):
        std = recipe.coefficient_std or scale / 2 ** (m / 2)
        layer = {}
        for name in COEFFICIENT_NAMES[basis]:
            key, subkey = jax.random.split(key)
            layer[name] = std * jax.random.normal(subkey, (pictures, 2**m, n))
        layers.append(layer)
    return layers


def start(recipe: Recipe, widths: Sequence[int], pixels: Pixels, basis: str, key: PRNGKeyArray) -> FitState:
    """Freshly drawn nets, one a picture; the picture axis is sharded over all devices where it can be."""
    pictures, _, channels = pixels.values.shape
    layers = initial_layers(recipe, widths, channels, basis, pictures, key)
    if recipe.starts_at_mean:
        layers[-1] = _with_colours(layers[-1], _start_colours(recipe, pixels))
    state = FitState(layers, optax.scale_by_adam(b2=recipe.adam_b2).init(layers), jnp.ones(pictures))
    devices = jax.devices()
    if len(devices) > 1 and pictures % len(devices) == 0:
        mesh = jax.make_mesh((len(devices),), ("picture",), axis_types=(jax.sharding.AxisType.Auto,))
        sharding = jax.sharding.NamedSharding(mesh, jax.P("picture"))
        whole = jax.sharding.NamedSharding(mesh, jax.P())
        state = jax.tree.map(lambda leaf: jax.device_put(leaf, sharding if leaf.ndim else whole), state)
    return state


def _start_colours(recipe: Recipe, pixels: Pixels) -> Float[np.ndarray, "picture channel"]:
    """What fresh nets paint, in [-1, 1]: grey, or the mean colour of pictures that are little else.

    A nearly white page gains 3 to 10 dB by it. A photograph, whose pixels differ from their mean as much as that
    differs from grey, does not: 28.2 dB with it, 28.7 without (china.jpg, 128 pixels, 548 steps, mean of two seeds).
    """
    colours = []
    for own in _own_values(pixels):
        values = own / np.float32(127.5) - 1
        mean = values.mean(0)
        is_nearly_flat = np.square(mean).mean() > NEARLY_FLAT * values.var(0).mean()
        colours.append(mean if recipe.starts_at_mean and is_nearly_flat else np.zeros_like(mean))
    return np.stack(colours)


def _with_colours(last_layer: dict[str, Array], colours: Float[np.ndarray, "picture channel"]) -> dict[str, Array]:
    """The last layer with these colours in its constants, the coefficients of k = 0; where they are grey, as it is."""
    name = next(iter(last_layer))  # cos, or cas, which is 1 at k = 0 too
    constants = np.arctanh(np.clip(colours, -FARTHEST_MEAN, FARTHEST_MEAN)).astype(np.float32)
    drawn = last_layer[name][:, 0]
    return {**last_layer, name: last_layer[name].at[:, 0].set(jnp.where(constants == 0, drawn, constants))}


def _own_values(pixels: Pixels) -> list[UInt8[np.ndarray, "pixel channel"]]:
    """Each picture without its padding."""
    counts = np.asarray(pixels.heights * pixels.widths)
    return [values[:count] for values, count in zip(np.asarray(pixels.values), counts, strict=True)]


def round_to_steps(layers: Layers, steps: Float[Array, "picture layer"]) -> Layers:
    """Coefficients rounded to multiples of their layer's step, or as they are where it is 0.

    Gradients pass straight through.
    """

    def rounded(coefficient: Array, step: Array) -> Array:
        step = step[:, None, None]
        multiple = jnp.round(coefficient / jnp.where(step > 0, step, 1)) * step
        return coefficient + jax.lax.stop_gradient(jnp.where(step > 0, multiple - coefficient, 0))

    return [{name: rounded(c, steps[:, i]) for name, c in layer.items()} for i, layer in enumerate(layers)]


def _rate(recipe: Recipe, step: Array, total_steps: Array) -> Array:
    """Learning rate of a step, for a layer with six inputs."""
    if recipe.schedule == "constant":
        return jnp.float32(recipe.learning_rate)
    warmup = jnp.maximum(1.0, recipe.warmup_fraction * total_steps)
    decay = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((step - warmup) / jnp.maximum(1.0, total_steps - warmup), 0, 1)))
    return recipe.learning_rate * jnp.minimum((step + 1) / warmup, decay)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_chunk(
    recipe: Recipe, state: FitState, pixels: Pixels, steps: Array, key: PRNGKeyArray, first, last, total
) -> tuple[FitState, Float[Array, "picture"]]:
    """Steps first ... last - 1; returns the state and each picture's mean loss over them."""
    pictures, longest, _ = pixels.values.shape
    counts = (pixels.heights * pixels.widths)[:, None]
    batch = min(recipe.batch_pixels, longest)
    adam = optax.scale_by_adam(b2=recipe.adam_b2)
    inputs = [next(iter(layer.values())).shape[-2].bit_length() - 1 for layer in state.layers]
    factors = [1.0] * len(inputs)
    if recipe.scaled_rates:
        residual_layers = max(1, len(inputs) - 2)
        factors = [2.0 ** (6 - m) / residual_layers for m in inputs]
        factors[0], factors[-1] = recipe.first_rate, recipe.last_rate

    def loss(layers: Layers, index: Array, weights: Array) -> tuple[Array, Array]:
        targets = jnp.take_along_axis(pixels.values, index[..., None], 1).astype(jnp.float32) / 127.5 - 1
        x = coordinates(index, pixels.heights[:, None], pixels.widths[:, None]) * recipe.input_scale
        errors = fourier_net(round_to_steps(layers, steps), x) - targets
        each = jnp.sum(jnp.mean(errors**2, -1) * weights, 1)
        return each.sum(), each  # the sum: each picture's gradient is then its own

    def step(number: Array, carry: tuple[FitState, Array]) -> tuple[FitState, Array]:
        state, losses = carry
        if batch < longest:
            index = jax.random.randint(jax.random.fold_in(key, number), (pictures, batch), 0, counts)
            weights = jnp.full((pictures, batch), 1 / batch)
        else:  # all pixels; the padding of a smaller picture weighs nothing
            index = jnp.minimum(jnp.arange(longest), counts - 1)
            weights = (jnp.arange(longest) < counts) / counts
        gradients, each = jax.grad(loss, has_aux=True)(state.layers, index, weights)
        updates, moments = adam.update(_without_sines_of_0(gradients), state.moments)
        rate = (_rate(recipe, number, total) * state.rate)[:, None, None]
        layers = [
            {name: layer[name] - rate * factor * update[name] for name in layer}
            for layer, update, factor in zip(state.layers, updates, factors, strict=True)
        ]
        return FitState(layers, moments, state.rate), losses + each

    state, losses = jax.lax.fori_loop(first, last, step, (state, jnp.zeros(pictures)))
    return state, losses / (last - first)


def train(
    recipe: Recipe,
    state: FitState,
    pixels: Pixels,
    key: PRNGKeyArray,
    schedule: Schedule,
    steps: Float[Array, "picture layer"] | None = None,
    progress: ProgressReport | None = None,
) -> FitState:
    """Steps `schedule.start` ... `schedule.stop`; with `steps`, of coefficients rounded to these step sizes.

    A fit that goes wrong (dfm/codec/retreats.py) goes back and on at half the rate. The steps lost are not repeated.

    Raises:
        UserError: the last steps' loss is not finite.
    """
    if steps is None:  # a step of 0 rounds nothing: one program serves both parts of the training
        steps = jnp.zeros((len(pixels.heights), len(state.layers)))
    retreats = _retreats(recipe, pixels, schedule)
    incoming = best = jax.tree.map(jnp.copy, state)
    finite = np.ones(len(pixels.heights), bool)
    for first in range(schedule.start, schedule.stop, CHUNK_STEPS):
        last = min(first + CHUNK_STEPS, schedule.stop)
        state, losses = _train_chunk(recipe, state, pixels, steps, key, first, last, schedule.total)
        loss = np.asarray(losses, np.float64)
        finite = np.isfinite(loss) & np.asarray(_all_finite(state.layers))
        if recipe.retreats:
            better, bad, stuck = retreats.update(last, loss, finite)
            if better.any():
                best = _select(jnp.array(better), state, best)
            if bad.any():  # what is stuck has no good state: back to the start
                state = _go_back(state, _select(jnp.array(stuck), incoming, best), jnp.array(bad))
            finite |= bad
        if progress is not None:
            each = [decibels(value, FLOAT_PEAK) for value in np.maximum(loss, 1e-12)]
            progress(last, schedule.total, float(np.mean(each)))
    if not finite.all():
        raise UserError("the fit diverged and did not recover: another seed or net may do")
    return state


def _retreats(recipe: Recipe, pixels: Pixels, schedule: Schedule) -> Retreats:
    flat, fresh = [], []
    for own, colour in zip(_own_values(pixels), _start_colours(recipe, pixels), strict=True):
        values = own / np.float32(127.5) - 1
        flat.append(float(np.var(values, 0).mean()))
        # a fresh net paints about this colour: its loss is known, and a first chunk that ends above it is no progress
        fresh.append(float(np.mean(np.square(values - colour))))
    best = 1.05 * np.array(fresh) + 1e-4 if schedule.start == 0 else np.full(len(flat), np.inf)
    return Retreats(np.array(flat), best, schedule.start, schedule.total)


def _without_sines_of_0(gradients: Layers) -> Layers:
    """Zero for the coefficients of sin(0): theirs is nothing but rounding, of which Adam would make full steps."""
    return [
        {name: gradient.at[:, 0].set(0) if name == "sin" else gradient for name, gradient in layer.items()}
        for layer in gradients
    ]


@jax.jit
def _all_finite(layers: Layers) -> Array:
    """Of each picture, whether all of its coefficients are finite."""
    return jnp.stack([jnp.isfinite(c).all((1, 2)) for layer in layers for c in layer.values()]).all(0)


@jax.jit
def _select(chosen: Array, one: FitState, other: FitState) -> FitState:
    """Of each picture `one` where chosen, else `other`. Scalars (Adam's step count, shared) come from `one`."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b) if a.ndim else a

    return jax.tree.map(pick, one, other)


@jax.jit
def _go_back(state: FitState, best: FitState, bad: Array) -> FitState:
    slower = jnp.where(bad, state.rate / 2, state.rate)
    return _select(~bad, state, best)._replace(rate=slower)
