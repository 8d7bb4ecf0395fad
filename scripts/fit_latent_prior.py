"""Fits the networks that files of the latents profile start from: jointly over many pictures, one set a rate weight.

    python scripts/fit_latent_prior.py FOLDER --output prior.npz

FOLDER holds photographs that no result is reported on. Of each the shorter side is brought to 256 pixels and the
centre is cut. All pictures share the networks but the output's bias, and each has latents of its own. The result is
dfm/codec/latents/prior.npz: integers with 12 fractional bits. (Latents predicted by 5x5 filters, fitted to those of
the joint fits by least squares, were tried as a start too: after 1,000 steps they were no better than zeros.)
"""

import argparse
import io
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dfm.codec.latents import fitting, pieces, prior, shapes
from dfm.codec.latents.fixed_point import WEIGHT_BITS
from dfm.experiments import run_script
from dfm.files import write_atomically

SIZE = 256
RATE_WEIGHTS = (1e-2, 3e-3, 1e-3, 3e-4)
CHUNK = 50


def load(folder: str, count: int, first: int = 0) -> np.ndarray:
    """uint8 [count, 256, 256, 3] in the order of names."""
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    pictures = []
    for path in paths[first : first + count]:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        scale = SIZE / min(picture.size)
        width, height = (max(SIZE, round(scale * side)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        left, top = (width - SIZE) // 2, (height - SIZE) // 2
        pictures.append(np.asarray(picture.crop((left, top, left + SIZE, top + SIZE))))
    return np.stack(pictures)


def joint_fits(pictures: np.ndarray, rate_weights: list[float], steps: int, seed: int) -> list[tuple[dict, float]]:
    """Of each rate weight: networks, and the mean loss of the last steps. All at once."""
    layout = shapes.layout_of(pictures.shape[1:])
    recipe = fitting.DEFAULT
    targets = jnp.asarray(np.moveaxis(pictures, -1, 1) / np.float32(255))
    means = pictures.reshape(len(pictures), -1, 3).mean(1) / 255
    networks = fitting.initial_networks(layout, means.mean(0), jax.random.key(seed))
    networks["bias"] = jnp.asarray(means, jnp.float32)
    axes: Any = {name: 0 if name in prior.FREE else None for name in networks}

    def one_loss(latents, networks, target, noise, temperature, rate_weight):
        y = fitting.soft_round(fitting.soft_round(latents, temperature) + noise, temperature)
        y = jnp.clip(y, -shapes.LATENT_LIMIT, shapes.LATENT_LIMIT - 1)
        return pieces.loss(networks, fitting.split(y, layout), target, rate_weight)[0]

    def loss(parameters, key, way, rate_weight):
        temperature = recipe.temperature + (recipe.last_temperature - recipe.temperature) * way
        deviation = recipe.noise + (recipe.last_noise - recipe.noise) * way
        latents, networks = parameters
        noise = deviation * jax.random.normal(key, latents.shape)
        each = jax.vmap(one_loss, (0, axes, 0, 0, None, None))
        losses = each(latents, networks, targets, noise, temperature, rate_weight)
        # latents and biases see their own picture's gradient
        return losses.sum(), losses.mean()

    def chunk(fit, rate_weight, gain, first):
        def step(number, carry):
            fit, total = carry
            way = number / steps
            key = jax.random.fold_in(jax.random.key(seed + 1), number)
            gradient = jax.value_and_grad(loss, has_aux=True)
            (_, value), gradients = gradient((fit.latents, fit.networks), key, way, rate_weight)
            rate = recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * way)))
            rates = (rate * gain, jax.tree.map(lambda _: rate, fit.networks))
            rates[1]["input_scale"] = recipe.input_rate * rate
            return fitting.adam(recipe, fit, gradients, rates, number), total + value

        fit, total = jax.lax.fori_loop(first, first + CHUNK, step, (fit, jnp.zeros(())))
        return fit, total / CHUNK

    chunks = jax.jit(jax.vmap(chunk, (0, 0, 0, None)), donate_argnums=0)
    fit = fitting.from_networks(jnp.zeros((len(pictures), layout.latents)), networks, {})
    count = len(rate_weights)
    fits = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], count, 0), fit)
    gains = jnp.array([fitting.gain(weight) for weight in rate_weights])
    values = np.full(count, np.nan)
    for first in range(0, steps, CHUNK):
        fits, values = chunks(fits, jnp.array(rate_weights), gains, first)
        print(f"{first + CHUNK} of {steps}: losses {np.asarray(values)}", flush=True)
    networks = jax.tree.map(np.asarray, fits.networks)
    return [({name: array[i] for name, array in networks.items()}, float(values[i])) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--rate-weights", default=",".join(map(str, RATE_WEIGHTS)))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    pictures = load(args.folder, args.pictures)
    weights = [float(word) for word in args.rate_weights.split(",")]
    sets = []
    start = time.perf_counter()
    for weight, (networks, value) in zip(weights, joint_fits(pictures, weights, args.steps, args.seed), strict=True):
        sets.append({name: whole_numbers(name, array) for name, array in networks.items() if name not in prior.FREE})
        sets[-1]["rate_weights"] = np.array(round(weight * 2**40))
        print(f"weight {weight:g}: loss {value:.6f}")
    save(args.output, {name: np.stack([one[name] for one in sets]) for name in sets[0]})
    print(f"{time.perf_counter() - start:.0f} s")


def whole_numbers(name: str, array: np.ndarray) -> np.ndarray:
    """With WEIGHT_BITS fractional bits; taps of the upsampling keep two empty: the decoder has no use for them."""
    step = 4 if name == "upsampling" else 1
    return (step * np.rint(array * 2**WEIGHT_BITS / step)).astype(np.int32)


def save(path: str, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


if __name__ == "__main__":
    run_script(main)
