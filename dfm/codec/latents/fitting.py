"""Fitting latents and networks to one picture: soft rounding with noise, then rounded latents that stay as they are.

The proxy is Cool-Chic's (soft rounding s_T, y = s_T(s_T(z) + noise)); see also C3 (Kim et al. 2023). In the hard part
the latents are rounded and have no gradient: with a straight-through gradient integers flip to and fro, and more steps
ended worse. The steps run inside jit, `CHUNK_STEPS` a call.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from dfm.codec.latents import cores, model, pieces, prior, quantization, shapes
from dfm.codec.latents.cores import Part
from dfm.codec.latents.shapes import Layout

CHUNK_STEPS = 50
SMALL_PIXELS = 128**2
NOISE_STEPS = 2**16  # offsets into one long draw of noise: drawing anew costs more than the rest of the rounding
Progress = Callable[[int, int, float], None]  # steps done, steps in all, PSNR in dB of the latest chunk


class Recipe(NamedTuple):
    """How a picture is fitted. Numbers only, which no program is compiled for.

    Attributes:
        learning_rate: Adam's, of the networks; the latents' is `gain` times as high. Cosine to `last_rate` of it.
        hard_fraction, hard_rate: share of the steps, at the end, with rounded latents; the networks' rate there.
        temperature, last_temperature: of the soft rounding; `noise`, `last_noise`: deviations of its noise.
    """

    learning_rate: float = 1e-2
    last_rate: float = 1e-2
    hard_fraction: float = 0.2
    hard_rate: float = 1e-3
    adam_b1: float = 0.9
    adam_b2: float = 0.99
    temperature: float = 0.35
    last_temperature: float = 0.08
    noise: float = 0.22
    last_noise: float = 0.15


DEFAULT = Recipe()
# Factors on the networks' learning rate. From the shipped sets of networks, of 0, 0.1, 0.2, 0.3 and 1 for the Fourier
# layer's coefficients 0.2 had the lowest cost of photographs outside Kodak.
RATES = {"input_scale": 0.1, "single": 0.2, "pair_cos": 0.2, "pair_sin": 0.2}
# from latents and networks that were fitted already, at another weight of the rate
AGAIN = Recipe(learning_rate=4e-3, hard_fraction=0.35, temperature=0.15, noise=0.17)


class Fit(NamedTuple):
    """Latents before rounding, one vector, finest grid first; the networks, what they are coded as differences from,
    and Adam's moments."""

    latents: Float[Array, "latents"]
    networks: dict[str, Array]
    base: dict[str, Array]
    first_moments: Any
    second_moments: Any


def gain(rate_weight: float) -> float:
    """Latents' steps per unit: finer pictures need larger integers (Cool-Chic 5)."""
    return 16.0 if rate_weight >= 5e-4 else 20.0 if rate_weight >= 2e-4 else 24.0


def initial_networks(layout: Layout, mean: np.ndarray, key: PRNGKeyArray) -> dict[str, Array]:
    """Small random networks; the output starts at the picture's mean colour, upsampling as bicubic."""
    grids = layout.grids
    spreads = {
        "context_weights_1": 0.3 / math.sqrt(shapes.CONTEXT_INPUTS),
        "context_weights_2": 0.3 / math.sqrt(shapes.CONTEXT_INPUTS),
        "context_weights_3": 0.02,
        "linear": 0.02,
        "hidden_weights": 0.5 / math.sqrt(grids),
        "output_weights": 0.02,
        "single": 0.02,
        "pair_cos": 0.02,
        "pair_sin": 0.02,
    }
    networks = {}
    for number, (name, shape) in enumerate(shapes.array_shapes(layout).items()):
        networks[name] = jnp.float32(spreads.get(name, 0.0)) * jax.random.normal(jax.random.fold_in(key, number), shape)
    networks["context_bias_3"] = jnp.array([0.0, -2.0], jnp.float32)
    networks["input_scale"] = jnp.full(grids, 0.05, jnp.float32)
    networks["bias"] = jnp.asarray(mean, jnp.float32)
    if grids > 1:
        networks["upsampling"] = jnp.asarray(prior.values(grids, layout.channels, prior.EMPTY)["upsampling"])
    return networks


def start(picture: UInt8[np.ndarray, "height width channels"], grids: int, seed: int, number: int = 0) -> Fit:
    """Latents of zero under the networks of set `number` of prior.py, or under fresh ones."""
    layout = shapes.layout_of(picture.shape, grids)
    mean = picture.reshape(-1, picture.shape[-1]).mean(0) / 255
    base = {name: jnp.asarray(array) for name, array in prior.values(grids, layout.channels, number).items()}
    if number == prior.EMPTY:
        networks = initial_networks(layout, mean, jax.random.key(seed))
    else:
        networks = {name: jnp.array(array) for name, array in base.items()}
        networks["bias"] = jnp.asarray(mean, jnp.float32)
    return from_networks(jnp.zeros(layout.latents, jnp.float32), networks, base)


def from_networks(latents: Array, networks: dict[str, Array], base: dict[str, Array]) -> Fit:
    """A fit that goes on from these latents and networks, with fresh moments."""
    # two trees: the training step is donated both, and may not be given one buffer twice
    first, second = (jax.tree.map(jnp.zeros_like, (latents, networks)) for _ in range(2))
    return Fit(latents, networks, base, first, second)


def split(latents: Any, layout: Layout) -> list[Any]:
    """One vector as grids [rows, columns], finest first."""
    grids, first = [], 0
    for rows, columns in layout.grid_shapes:
        grids.append(latents[first : first + rows * columns].reshape(rows, columns))
        first += rows * columns
    return grids


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def split_once(latents: Array, layout: Layout) -> list[Array]:
    """`split`, whose gradient is one vector of ready parts: left to itself, XLA computes each of its entries from the
    paddings of every slice of every grid."""
    return split(latents, layout)


split_once.defvjp(
    lambda latents, layout: (split(latents, layout), None),
    lambda layout, _, grids: (jnp.concatenate([grid.ravel() for grid in jax.lax.optimization_barrier(grids)]),),
)


def soft_round(x: Array, temperature: Array) -> Array:
    """floor(x) + 1/2 + tanh((x - floor(x) - 1/2) / T) / (2 tanh(1 / 2T)): the identity for large T, round(x) for 0."""
    floor = jnp.floor(x)
    return floor + 0.5 + jnp.tanh((x - floor - 0.5) / temperature) / (2 * jnp.tanh(0.5 / temperature))


def _chunk(
    layout: Layout, part: Part, recipe: Recipe, fit: Fit, target: Array, rate_weight, gain, key, first, last, total
) -> tuple[Fit, dict[str, Array]]:
    """Steps first ... last - 1; returns the fit and the means of loss, squared error and rate over them.

    All cores take the same steps; each computes its part of the loss and its gradients."""
    count = layout.latents
    noise = jax.random.normal(key, (count + NOISE_STEPS,))
    hard_from = total - jnp.round(recipe.hard_fraction * total)

    def step(number: Array, carry: tuple[Fit, Any]) -> tuple[Fit, Any]:
        fit, sums = carry
        hard = number >= hard_from
        way = jnp.clip(number / jnp.maximum(hard_from, 1), 0, 1)
        temperature = recipe.temperature + (recipe.last_temperature - recipe.temperature) * way
        deviation = recipe.noise + (recipe.last_noise - recipe.noise) * way
        offset = jax.random.randint(jax.random.fold_in(key, number), (), 0, NOISE_STEPS)
        drawn = deviation * jax.lax.dynamic_slice_in_dim(noise, offset, count)

        def loss(latents: Array, networks: dict) -> tuple[Array, dict]:
            soft = soft_round(soft_round(latents, temperature) + drawn, temperature)
            y = jnp.where(hard, jnp.round(latents), soft)
            y = jnp.clip(y, -shapes.LATENT_LIMIT, shapes.LATENT_LIMIT - 1)
            value, terms = pieces.loss(networks, split_once(y, layout), target, rate_weight, part)
            bits = small_picture_weight(layout) * network_bits(networks, fit.base, layout)
            return value + rate_weight * bits / (layout.pixels * part.parts), terms

        found = jax.value_and_grad(loss, (0, 1), has_aux=True)(fit.latents, fit.networks)
        (value, terms), gradients = cores.total(found, part)
        decay = recipe.last_rate + (1 - recipe.last_rate) * 0.5 * (1 + jnp.cos(jnp.pi * way))
        rate = jnp.where(hard, recipe.hard_rate, recipe.learning_rate * decay)
        rates = (jnp.where(hard, 0, rate * gain), network_rates(rate, fit.networks))
        fit = adam(recipe, fit, gradients, rates, number)
        return fit, jax.tree.map(jnp.add, sums, {"loss": value, **terms})

    sums = {name: jnp.zeros(()) for name in ("loss", "squared_error", "bits_per_pixel")}
    fit, sums = jax.lax.fori_loop(first, last, step, (fit, sums))
    return fit, jax.tree.map(lambda total: total / (last - first), sums)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _train_chunk(layout: Layout, recipe: Recipe, fit: Fit, *others) -> tuple[Fit, dict[str, Array]]:
    run = cores.in_parts(functools.partial(_chunk, layout), cores.parts_of(layout.height, layout.width))
    return run(recipe, fit, *others)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _train_chunks(layout: Layout, recipe: Recipe, fits: Fit, targets, rate_weights, gains, *same) -> Any:
    """`_chunk` of several pictures at once; they see the same noise, as they do one after the other."""
    return jax.vmap(lambda *each: _chunk(layout, Part(), recipe, *each, *same))(fits, targets, rate_weights, gains)


def small_picture_weight(layout: Layout) -> float:
    """Factor on the networks' bits: 4 at 64x64, 1 from 128x128 on. Few pixels leave most parameters at zero, which
    the estimate does not see; 4 saved 5 % of the cost of six 64x64 pictures, 2 cost 1 % at 128x128."""
    return min(max(SMALL_PIXELS / layout.pixels, 1.0), 4.0)


def network_bits(networks: dict[str, Array], base: dict[str, Array], layout: Layout) -> Array:
    """About the bits of the coded networks: a Laplace distribution a group of arrays, at the group's usual step."""
    total = jnp.zeros(())
    for group, names in quantization.groups(layout).items():
        values = jnp.concatenate([(networks[name] - base[name]).ravel() for name in names])
        step = 2.0 ** -quantization.GROUPS[group][1]
        total += values.size * jnp.log2(1 + math.e / step * jnp.abs(values).mean())
    return total


def network_rates(rate: Array, networks: dict[str, Array]) -> dict[str, Array]:
    return {name: RATES.get(name, 1.0) * rate for name in networks}


def adam(recipe: Recipe, fit: Fit, gradients: Any, rates: Any, number: Array) -> Fit:
    b1, b2 = recipe.adam_b1, recipe.adam_b2
    first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, fit.first_moments, gradients)
    second = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, fit.second_moments, gradients)
    corrections = (1 - b1 ** (number + 1.0), 1 - b2 ** (number + 1.0))

    def moved(parameter: Array, m: Array, v: Array, rate: Array) -> Array:
        return parameter - rate * (m / corrections[0]) / (jnp.sqrt(v / corrections[1]) + 1e-12)

    latents, networks = jax.tree.map(moved, (fit.latents, fit.networks), first, second, rates)
    return Fit(latents, networks, fit.base, first, second)


def train(
    picture: UInt8[np.ndarray, "height width channels"],
    fit: Fit,
    grids: int,
    rate_weight: float,
    steps: int,
    seed: int,
    recipe: Recipe = DEFAULT,
    progress: Progress | None = None,
) -> Fit:
    """`train_together` of one picture."""
    return train_together([picture], [fit], grids, [rate_weight], steps, seed, recipe, progress)[0]


def train_together(
    pictures: Sequence[UInt8[np.ndarray, "height width channels"]],
    fits: Sequence[Fit],
    grids: int,
    rate_weights: Sequence[float],
    steps: int,
    seed: int,
    recipe: Recipe = DEFAULT,
    progress: Progress | None = None,
) -> list[Fit]:
    """`steps` steps of loss = mean squared error (of [0, 1]) + rate_weight * bits per pixel, networks' bits included.

    Pictures of one shape.
    """
    layout = shapes.layout_of(pictures[0].shape, grids)
    targets = [jnp.asarray(np.moveaxis(picture, -1, 0) / np.float32(255), jnp.float32) for picture in pictures]
    key = jax.random.fold_in(jax.random.key(seed), 1)
    weights, gains = jnp.array(rate_weights), jnp.array([gain(weight) for weight in rate_weights])
    batched = len(pictures) > 1 and model.together()
    parts = cores.parts_of(layout.height, layout.width)
    work = [_stack(fits)] if batched else [cores.on_all(fit, parts) for fit in fits]
    goals = [jnp.stack(targets)] if batched else [cores.on_all(target, parts) for target in targets]
    for first in range(0, steps, CHUNK_STEPS):
        last = min(first + CHUNK_STEPS, steps)
        if batched:
            work[0], means = _train_chunks(layout, recipe, work[0], goals[0], weights, gains, key, first, last, steps)
        else:
            found = []
            for i, goal in enumerate(goals):
                work[i], one = _train_chunk(
                    layout, recipe, work[i], goal, weights[i], gains[i], key, first, last, steps
                )
                found.append(one)
            means = _stack(found)
        if progress is not None:
            progress(last, steps, -10 * math.log10(max(float(means["squared_error"].mean()), 1e-12)))
    if batched:
        work = [jax.tree.map(lambda leaf, i=i: leaf[i], work[0]) for i in range(len(pictures))]
    return work


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def rounded(fit: Fit, layout: Layout) -> list[Int[np.ndarray, "rows columns"]]:
    """The integers that the file holds."""
    limit = shapes.LATENT_LIMIT
    values = np.clip(np.round(np.asarray(fit.latents)), -limit, limit - 1).astype(np.int64)
    return split(values, layout)
