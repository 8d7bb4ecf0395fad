"""Fits the networks that files of the latents profile start from: jointly over many pictures, one set a rate weight.

    python scripts/fit_latent_prior.py FOLDER --output prior.npz

FOLDER holds photographs that no result is reported on. Of each the shorter side is brought to 256 pixels and the
centre is cut. All pictures share the networks but the output's bias, and each has latents of its own. The result is
dfm/codec/latents/prior.npz: integers with 12 fractional bits. --analysis also holds, for each rate weight and grid, a
5x5 filter that predicts the grid's latents from the picture at its resolution, by least squares: a start for an
encoder, of which a file says nothing.
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
from dfm.codec.latents.shapes import Layout
from dfm.experiments import run_script
from dfm.files import write_atomically

SIZE = 256
RATE_WEIGHTS = (1.6e-2, 4e-3, 1e-3, 2.5e-4)
ANALYSIS_TAPS = 5
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


def joint_fit(pictures: np.ndarray, rate_weight: float, steps: int, seed: int) -> tuple[dict, np.ndarray, float]:
    """(networks, latents [pictures, latents], mean loss of the last steps)."""
    layout = shapes.layout_of(pictures.shape[1:])
    recipe = fitting.DEFAULT._replace(hard_fraction=0.0)
    targets = jnp.asarray(np.moveaxis(pictures, -1, 1) / np.float32(255))
    means = pictures.reshape(len(pictures), -1, 3).mean(1) / 255
    networks = fitting.initial_networks(layout, means.mean(0), jax.random.key(seed))
    networks["bias"] = jnp.asarray(means, jnp.float32)
    axes: Any = {name: 0 if name in prior.FREE else None for name in networks}
    latents = jnp.zeros((len(pictures), layout.latents))
    gain = fitting.gain(rate_weight)

    def one_loss(latents, networks, target, noise, temperature):
        y = fitting.soft_round(fitting.soft_round(latents, temperature) + noise, temperature)
        y = jnp.clip(y, -shapes.LATENT_LIMIT, shapes.LATENT_LIMIT - 1)
        return pieces.loss(networks, fitting.split(y, layout), target, rate_weight)[0]

    def loss(parameters, key, way):
        temperature = recipe.temperature + (recipe.last_temperature - recipe.temperature) * way
        deviation = recipe.noise + (recipe.last_noise - recipe.noise) * way
        latents, networks = parameters
        noise = deviation * jax.random.normal(key, latents.shape)
        each = jax.vmap(one_loss, (0, axes, 0, 0, None))(latents, networks, targets, noise, temperature)
        # latents and biases see their own picture's gradient
        return each.sum(), each.mean()

    @jax.jit
    def chunk(fit, first):
        def step(number, carry):
            fit, total = carry
            way = number / steps
            key = jax.random.fold_in(jax.random.key(seed + 1), number)
            parameters = fit.latents, fit.networks
            (_, value), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, key, way)
            rate = recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * way)))
            rates = (rate * gain, jax.tree.map(lambda _: rate, fit.networks))
            rates[1]["input_scale"] = recipe.input_rate * rate
            return fitting.adam(recipe, fit, gradients, rates, number), total + value

        fit, total = jax.lax.fori_loop(first, first + CHUNK, step, (fit, jnp.zeros(())))
        return fit, total / CHUNK

    fit, value = fitting.from_networks(latents, networks, {}), jnp.nan
    for first in range(0, steps, CHUNK):
        fit, value = chunk(fit, first)
    return {name: np.asarray(array) for name, array in fit.networks.items()}, np.asarray(fit.latents), float(value)


def analysis_inputs(picture: np.ndarray, layout: Layout) -> list[np.ndarray]:
    """For each grid [rows * columns, 76]: the 5x5 neighbourhood of the downscaled picture less its mean, and 1."""
    whole = picture.astype(np.float32) / 255
    whole = whole - whole.mean((0, 1))
    columns = []
    for rows, width in layout.grid_shapes:
        reach = ANALYSIS_TAPS // 2
        padded = np.pad(whole, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        near = [
            padded[i : i + rows, j : j + width].reshape(rows * width, -1)
            for i in range(ANALYSIS_TAPS)
            for j in range(ANALYSIS_TAPS)
        ]
        columns.append(np.concatenate([*near, np.ones((rows * width, 1), np.float32)], 1))
        even = np.pad(whole, ((0, rows % 2), (0, width % 2), (0, 0)), mode="edge")
        whole = even.reshape(len(even) // 2, 2, even.shape[1] // 2, 2, -1).mean((1, 3))
    return columns


def fit_analysis(pictures: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """[grids, 76]: least squares of the joint fit's latents."""
    layout = shapes.layout_of(pictures.shape[1:])
    size = 3 * ANALYSIS_TAPS**2 + 1
    normal, right = np.zeros((layout.grids, size, size)), np.zeros((layout.grids, size))
    for picture, vector in zip(pictures, latents, strict=True):
        grids = fitting.split(vector, layout)
        for k, inputs in enumerate(analysis_inputs(picture, layout)):
            normal[k] += inputs.T.astype(np.float64) @ inputs
            right[k] += inputs.T.astype(np.float64) @ grids[k].ravel()
    ridge = 1e-3 * len(pictures) * np.eye(size)
    return np.stack([np.linalg.solve(n + ridge, r) for n, r in zip(normal, right, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--rate-weights", default=",".join(map(str, RATE_WEIGHTS)))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    parser.add_argument("--analysis", help="output of the filters")
    args = parser.parse_args()
    pictures = load(args.folder, args.pictures)
    weights = [float(word) for word in args.rate_weights.split(",")]
    sets, filters = [], []
    for weight in weights:
        start = time.perf_counter()
        networks, latents, value = joint_fit(pictures, weight, args.steps, args.seed)
        sets.append({name: whole_numbers(name, array) for name, array in networks.items() if name not in prior.FREE})
        sets[-1]["rate_weights"] = np.array(round(weight * 2**40))
        print(f"weight {weight:g}: loss {value:.6f} in {time.perf_counter() - start:.0f} s", flush=True)
        if args.analysis:
            filters.append(fit_analysis(pictures, latents))
            save(args.analysis, {"rate_weights": np.array(weights[: len(filters)]), "filters": np.stack(filters)})
        save(args.output, {name: np.stack([one[name] for one in sets]) for name in sets[0]})


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
