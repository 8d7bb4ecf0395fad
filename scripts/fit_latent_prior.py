"""Fits the networks that files of the latents profile start from: jointly over many pictures, one set a rate weight.

    python scripts/fit_latent_prior.py FOLDER --pictures 64 --steps 2500 --sets 2 --output prior.npy
    python scripts/fit_latent_prior.py FOLDER --pictures 24 --steps 400 --sets 1,3 --start 2 --learning-rate 4e-3 \\
        --output prior.npy

FOLDER holds photographs that no result is reported on. Of each the shorter side is brought to 256 pixels and the
centre is cut. All pictures share the networks but the output's bias, and each has latents of its own. The result is
dfm/codec/latents/prior.npy: integers with 12 fractional bits. (Latents predicted by 5x5 filters, fitted to those of
the joint fits by least squares, were tried as a start too: after 1,000 steps they were no better than zeros.)
"""

import argparse
import functools
import io
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dfm.codec.latents import fitting, model, pieces, prior, shapes
from dfm.codec.latents.fixed_point import WEIGHT_BITS
from dfm.experiments import run_script
from dfm.files import write_atomically

SIZE = 256
CHUNK = 20


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


def joint_fit(
    pictures: np.ndarray, rate_weight: float, steps: int, seed: int, learning_rate: float, number: int
) -> tuple[dict, float]:
    """Networks, from those of set `number`, and the mean loss of the last steps."""
    layout = shapes.layout_of(pictures.shape[1:])
    recipe = fitting.DEFAULT
    targets = jnp.asarray(np.moveaxis(pictures, -1, 1) / np.float32(255))
    fits = [fitting.start(picture, layout.grids, seed, number) for picture in pictures]
    networks = fits[0].networks | {name: jnp.stack([fit.networks[name] for fit in fits]) for name in prior.FREE}

    def one_loss(latents, own, shared, target, noise, temperature):
        y = fitting.soft_round(fitting.soft_round(latents, temperature) + noise, temperature)
        y = jnp.clip(y, -shapes.LATENT_LIMIT, shapes.LATENT_LIMIT - 1)
        return pieces.loss(shared | own, fitting.split(y, layout), target, rate_weight)[0]

    def losses(parameters, key, way):
        temperature = recipe.temperature + (recipe.last_temperature - recipe.temperature) * way
        deviation = recipe.noise + (recipe.last_noise - recipe.noise) * way
        latents, networks = parameters
        noise = deviation * jax.random.normal(key, latents.shape)
        own = {name: networks[name] for name in prior.FREE}
        shared = {name: array for name, array in networks.items() if name not in prior.FREE}
        each = lambda one: one_loss(one[0], one[1], shared, one[2], one[3], temperature)  # noqa: E731
        batch = (latents, own, targets, noise)
        found = jax.vmap(each)(batch) if model.together() else jax.lax.map(each, batch)
        # latents and biases see their own picture's gradient
        return found.sum(), found.mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(fit, first):
        def step(at, carry):
            fit, total = carry
            way = at / steps
            key = jax.random.fold_in(jax.random.key(seed + 1), at)
            gradient = jax.value_and_grad(losses, has_aux=True)
            (_, value), gradients = gradient((fit.latents, fit.networks), key, way)
            rate = learning_rate * (0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * way)))
            gain = fitting.gain(rate_weight) * recipe.learning_rate / learning_rate
            rates = (rate * gain, fitting.network_rates(rate, fit.networks))
            return fitting.adam(recipe, fit, gradients, rates, at), total + value

        fit, total = jax.lax.fori_loop(first, first + CHUNK, step, (fit, jnp.zeros(())))
        return fit, total / CHUNK

    fit, value = fitting.from_networks(jnp.stack([fit.latents for fit in fits]), networks, {}), jnp.nan
    begun = time.perf_counter()
    for first in range(0, steps, CHUNK):
        fit, value = chunk(fit, first)
        print(f"{first + CHUNK} of {steps} steps, {time.perf_counter() - begun:.0f} s: loss {value:.6f}", flush=True)
    return {name: np.asarray(array) for name, array in fit.networks.items()}, float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--sets", default="1,2,3", help="which ones; the rest of OUTPUT stays")
    parser.add_argument(
        "--start", type=int, default=prior.EMPTY, help="the set whose networks are the start; 0: random ones"
    )
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=fitting.DEFAULT.learning_rate, help="of the networks")
    parser.add_argument("--output", required=True, help="prior.npy")
    args = parser.parse_args()
    pictures = load(args.folder, args.pictures)
    for number in map(int, args.sets.split(",")):
        weight = prior.RATE_WEIGHTS[number - 1]
        networks, value = joint_fit(pictures, weight, args.steps, args.seed, args.learning_rate, args.start)
        add(
            args.output, number, np.concatenate([whole_numbers(name, networks[name]) for name in prior.fitted_shapes()])
        )
        print(f"set {number}, rate weight {weight:g}: loss {value:.6f}", flush=True)


def whole_numbers(name: str, array: np.ndarray) -> np.ndarray:
    """With WEIGHT_BITS fractional bits; taps of the upsampling keep two empty: the decoder has no use for them."""
    step = 4 if name == "upsampling" else 1
    return (step * np.rint(array.ravel() * 2**WEIGHT_BITS / step)).astype(np.int16)


def add(path: str, number: int, fitted: np.ndarray) -> None:
    """Puts a set into the file."""
    sets = np.load(path) if Path(path).exists() else np.zeros((prior.COUNT, len(fitted)), np.int16)
    sets[number - 1] = fitted
    buffer = io.BytesIO()
    np.save(buffer, sets)
    write_atomically(path, buffer.getvalue())


if __name__ == "__main__":
    run_script(main)
