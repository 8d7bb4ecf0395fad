"""From a fit to integers: step sizes by search, then rounding that weighs bits against quality.

The cost is that of the fit with the networks' bits in it: squared error + rate_weight * (all bits) / pixels. Squared
error and rate are measured by the float model, which the integer decoder follows to a fraction of a grey level.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from dfm.codec import entropy
from dfm.codec.latents import cores, fitting, pieces, prior, quantization, shapes
from dfm.codec.latents.cores import Part
from dfm.codec.latents.fitting import Fit
from dfm.codec.latents.quantization import GROUPS, Integers, Quantized
from dfm.codec.latents.shapes import Layout

CONTEXT_GROUPS = ("context_hidden", "context_hidden_bias", "context_output")
PASSES = 2


@functools.partial(jax.jit, static_argnums=0)
def _latent_rate(layout: Layout, networks: dict, latents: Array) -> Array:
    def of_part(part: Part, networks: dict, latents: Array) -> Array:
        return cores.total(pieces.latent_bits(networks, fitting.split(latents, layout), part), part)

    return cores.in_parts(of_part, cores.parts_of(layout.height, layout.width))(networks, latents)


@functools.partial(jax.jit, static_argnums=0)
def _squared_error(layout: Layout, networks: dict, latents: Array, target: Array) -> Array:
    def of_part(part: Part, networks: dict, latents: Array, target: Array) -> Array:
        return cores.total(pieces.mean_squared_error(networks, fitting.split(latents, layout), target, part), part)

    return cores.in_parts(of_part, cores.parts_of(layout.height, layout.width))(networks, latents, target)


class Costs:
    """Costs of networks for fixed latents of one picture."""

    def __init__(self, picture: UInt8[np.ndarray, "h w c"], layout: Layout, latents: np.ndarray, rate_weight: float):
        self.layout, self.latents = layout, jnp.asarray(latents, jnp.float32)
        self.target = jnp.asarray(np.moveaxis(picture, -1, 0) / np.float32(255), jnp.float32)
        self.bit = rate_weight / layout.pixels

    def of_group(self, group: str, networks: dict[str, Any]) -> float:
        """The part of the cost that this group changes, without its own bits."""
        if group in CONTEXT_GROUPS:
            return self.bit * float(_latent_rate(self.layout, networks, self.latents))
        return float(_squared_error(self.layout, networks, self.latents, self.target))


def dequantized(quantized: Quantized, layout: Layout) -> dict[str, np.ndarray]:
    """float32 networks, as model.py takes them."""
    arrays = prior.values(layout.grids, layout.channels, quantized.prior)
    for group, names in quantization.groups(layout).items():
        for name in names:
            scaled = quantized.integers[name] * 2.0 ** -quantized.exponents[group]
            arrays[name] = (arrays[name] + scaled).astype(np.float32)
    return arrays


def quantize(costs: Costs, fit: Fit, number: int = prior.EMPTY, rounds: int = 0) -> Quantized:
    """Integer networks of a fit, as differences from set `number` of prior.py: a step for each group, then `rounds`
    passes that move single integers towards 0.

    Small pictures, whose networks weigh most, always get one pass: it takes a fraction of a second there."""
    layout = costs.layout
    base = prior.values(layout.grids, layout.channels, number)
    arrays = {name: np.asarray(array, np.float64) - base[name] for name, array in fit.networks.items()}
    present = quantization.groups(layout)
    exponents = {group: GROUPS[group][1] for group in present}
    integers: Integers = {}
    for group, names in present.items():
        integers |= quantization.quantize_group(arrays, names, exponents[group])
    floats = dequantized(Quantized(exponents, integers, number), layout)

    def cost(group: str, exponent: int) -> tuple[float, Integers, dict]:
        names = present[group]
        tried = quantization.quantize_group(arrays, names, exponent)
        part = Quantized(exponents | {group: exponent}, integers | tried, number)
        networks = floats | {name: dequantized(part, layout)[name] for name in names}
        return costs.of_group(group, networks) + costs.bit * quantization.group_bits(tried, names), tried, networks

    for _ in range(PASSES):
        for group in present:
            finest = quantization.COARSEST.get(group, quantization.MOST_EXPONENT)
            exponents[group] = _descend(lambda exponent: cost(group, exponent)[0], exponents[group], finest)  # noqa: B023
            _, tried, floats = cost(group, exponents[group])
            integers |= tried
    quantized = Quantized(exponents, integers, number)
    for _ in range(max(rounds, layout.pixels <= fitting.SMALL_PIXELS)):
        quantized = shrink(costs, quantized)
    return quantized


def _descend(cost: Callable[[int], float], start: int, finest: int) -> int:
    """The exponent at a local minimum of `cost`."""
    best, lowest = start, cost(start)
    for step in (-1, 1):
        while 0 <= best + step <= finest and (tried := cost(best + step)) < lowest:
            best, lowest = best + step, tried
        if best != start:
            break
    return best


def shrink(costs: Costs, quantized: Quantized) -> Quantized:
    """Every integer in turn one nearer to 0, kept where the cost falls: about one evaluation a parameter."""
    layout = costs.layout
    integers = {name: array.copy() for name, array in quantized.integers.items()}
    networks = dequantized(quantized, layout)
    for group, names in quantization.groups(layout).items():
        step = np.float32(2.0 ** -quantized.exponents[group])
        now = costs.of_group(group, networks)
        table = entropy.best_scale(np.concatenate([integers[name].ravel() for name in names]))
        for name in names:
            for place in zip(*np.nonzero(integers[name]), strict=True):
                value = integers[name][place]
                nearer = value - np.sign(value)
                bits = entropy.code_lengths_each(np.array([value, nearer]), "laplace", table)
                networks[name][place] -= np.sign(value) * step
                tried = costs.of_group(group, networks)
                if tried - now < costs.bit * (bits[0] - bits[1]):
                    integers[name][place], now = nearer, tried
                else:
                    networks[name][place] += np.sign(value) * step
    return Quantized(quantized.exponents, integers, quantized.prior)


def latents_vector(fit: Fit) -> np.ndarray:
    limit = shapes.LATENT_LIMIT
    return np.clip(np.round(np.asarray(fit.latents)), -limit, limit - 1)
