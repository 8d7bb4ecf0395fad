"""Which synthesis under latent grids? Fourier, ReLU, both, sines, the full Fourier layer, none, at equal steps.

    python scripts/study_latent_synthesis.py KODAK_FOLDER --output results/study_latent_synthesis.jsonl

Each synthesis stands where `dfm.codec.latents.model.mix` does, beside the same linear bypass, filters, upsampling and
context model, and is fitted to the central 256x256 of each picture at each rate weight: same steps, seed and schedule.
The cost is mean squared error (of the 8-bit picture, in [0, 1]) + rate weight * bits per pixel; bits are code lengths
of latents and of the networks, whose steps are searched for each fit. Each synthesis is fitted with its arrays at the
learning rate of all networks and at a fifth of it (--factors), since one rate does not suit all; of two layers side by
side the Fourier coefficients alone have the factor. Rows that are there already stay as they are.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dfm.codec.bench.command import load_pictures
from dfm.codec.latents import coding, context, fitting, model, pieces, prior, quantization, refinement, shapes
from dfm.models.fourier import fourier_layer
from dfm.models.fourier_kernels import cos_sin_pi
from dfm.results import record

PICTURES = ("kodim01", "kodim03", "kodim05", "kodim07", "kodim13", "kodim15", "kodim20", "kodim23")
RATE_WEIGHTS = (4e-3, 5e-4)
STEPS = 1000
FACTORS = (1.0, fitting.RATES["single"])
MIXING = ("linear", "hidden_weights", "hidden_bias", "output_weights", "input_scale", "single", "pair_cos", "pair_sin")


@dataclass(frozen=True)
class Synthesis:
    """Arrays besides the linear bypass: name -> (shape of [grids, channels], spread at the start), and the function.

    `compute(arrays, features)` is [channels, points]; the bypass is added to it. `constants`: arrays that start at a
    value rather than at random."""

    words: str
    arrays: Callable[[int, int], dict[str, tuple[tuple[int, ...], float]]]
    compute: Callable[[dict, jax.Array], jax.Array]
    constants: tuple[tuple[str, float], ...] = ()


def affine(weights, bias, x):
    return jnp.concatenate([weights, bias[:, None]], 1) @ jnp.concatenate([x, jnp.ones((1, x.shape[1]))])


def one_layer(activation, hidden: int) -> Synthesis:
    def arrays(grids: int, channels: int) -> dict:
        return {
            "hidden_weights": ((hidden, grids), 0.5 / grids**0.5),
            "hidden_bias": ((hidden,), 0.0),
            "output_weights": ((channels, hidden), 0.02),
        }

    def compute(networks: dict, f):
        return networks["output_weights"] @ activation(affine(networks["hidden_weights"], networks["hidden_bias"], f))

    return Synthesis(f"{activation.__name__} layer of {hidden}", arrays, compute)


def two_layers(hidden: int) -> Synthesis:
    first = one_layer(jax.nn.relu, hidden)

    def arrays(grids: int, channels: int) -> dict:
        return {
            **first.arrays(grids, channels),
            "second_weights": ((hidden, hidden), 0.7 / hidden**0.5),
            "second_bias": ((hidden,), 0.0),
        }

    def compute(networks: dict, f):
        h = jax.nn.relu(affine(networks["hidden_weights"], networks["hidden_bias"], f))
        return networks["output_weights"] @ jax.nn.relu(affine(networks["second_weights"], networks["second_bias"], h))

    return Synthesis(f"two ReLU layers of {hidden}", arrays, compute)


def fourier_pairs(grids: int, channels: int) -> dict:
    pairs = len(shapes.frequency_pairs(grids))
    return {
        "input_scale": ((grids,), 0.0),
        "single": ((channels, 2 * grids), 0.02),
        "pair_cos": ((channels, pairs), 0.02),
        "pair_sin": ((channels, pairs), 0.02),
    }


def waves(networks: dict, f):
    """All k with one or two ones, as pieces.py has them."""
    channels, count = len(networks["single"]), 2 * len(f)
    u = jnp.concatenate(cos_sin_pi(jnp.diag(2 * networks["input_scale"]) @ f))
    form = jnp.concatenate([model.quadratic_form(networks, len(f)), networks["single"].reshape(-1, 1)], 1)
    factors = form @ jnp.concatenate([u, jnp.ones((1, u.shape[1]))])
    add = np.kron(np.eye(channels, dtype=np.float32), np.ones((1, count), np.float32))
    return add @ (jnp.concatenate([u] * channels) * factors)


def all_waves(networks: dict, f):
    """The full Fourier layer: all 2^grids frequency vectors."""
    points = (networks["input_scale"][:, None] * f).T
    return fourier_layer(points, {"cos": networks["all_cos"], "sin": networks["all_sin"]}, residual=False).T


def all_frequencies(grids: int, channels: int) -> dict:
    shape = (2**grids, channels)
    return {"input_scale": ((grids,), 0.0), "all_cos": (shape, 0.02), "all_sin": (shape, 0.02)}


SCALE = (("input_scale", 0.05),)  # where ours starts


def side_by_side(hidden: int, scale: tuple[tuple[str, float], ...] = SCALE) -> Synthesis:
    relu = one_layer(jax.nn.relu, hidden)
    return Synthesis(
        f"Fourier, |k| <= 2, beside a ReLU layer of {hidden}",
        lambda grids, channels: relu.arrays(grids, channels) | fourier_pairs(grids, channels),
        lambda networks, f: relu.compute(networks, f) + waves(networks, f),
        scale,
    )


SYNTHESES = {
    "both": side_by_side(shapes.HIDDEN),  # ours
    "both-slow": side_by_side(shapes.HIDDEN, (("input_scale", 0.01),)),  # a period five times as long at the start
    "both-26": side_by_side(26),
    "fourier": Synthesis("Fourier, |k| <= 2", fourier_pairs, waves, SCALE),
    "fourier-all": Synthesis("Fourier, all k", all_frequencies, all_waves, SCALE),
    "relu-10": one_layer(jax.nn.relu, shapes.HIDDEN),
    "relu-26": one_layer(jax.nn.relu, 26),  # as many parameters as both
    "relu-16-16": two_layers(16),
    "relu-24-24": two_layers(24),
    "sine-26": one_layer(jnp.sin, 26),
    "linear": Synthesis("linear alone", lambda grids, channels: {}, lambda networks, f: jnp.zeros(())),
}


@contextlib.contextmanager
def in_place(synthesis: Synthesis, factor: float) -> Iterator[None]:
    """Puts a synthesis where the codec has its own: shapes, groups that share a step, start, rates, and function."""
    own_shapes, own_groups, own_mix, own_start, own_rates = (
        shapes.array_shapes,
        quantization.GROUPS,
        pieces.mix,
        fitting.initial_networks,
        fitting.RATES,
    )

    def array_shapes(layout: shapes.Layout) -> dict:
        kept = {name: shape for name, shape in own_shapes(layout).items() if name not in MIXING[1:]}
        return kept | {name: shape for name, (shape, _) in synthesis.arrays(layout.grids, layout.channels).items()}

    def initial_networks(layout, mean, key):
        networks = {name: a for name, a in own_start(layout, mean, key).items() if name not in MIXING[1:]}
        for number, (name, (shape, spread)) in enumerate(synthesis.arrays(layout.grids, layout.channels).items()):
            networks[name] = jnp.float32(spread) * jax.random.normal(jax.random.fold_in(key, 100 + number), shape)
        for name, value in synthesis.constants:
            networks[name] = jnp.full_like(networks[name], value)
        return networks

    mixed = pieces.piecewise(lambda networks, f: networks["linear"] @ f + synthesis.compute(networks, f))
    names = ("linear", "second_weights", "second_bias", "all_cos", "all_sin", *MIXING)
    groups = dict(own_groups)
    groups["hidden"] = (("hidden_weights", "hidden_bias", "second_weights", "second_bias"), own_groups["hidden"][1])
    groups["fourier"] = ((*own_groups["fourier"][0], "all_cos", "all_sin"), own_groups["fourier"][1])
    changed = set(synthesis.arrays(2, 3)) - {"input_scale"}
    if {"single", "hidden_weights"} <= changed:  # of both layers the Fourier one alone
        changed &= set(own_rates)
    rates = {name: rate for name, rate in own_rates.items() if name not in changed} | dict.fromkeys(changed, factor)
    try:
        fitting.RATES = rates
        shapes.array_shapes, quantization.GROUPS, fitting.initial_networks = array_shapes, groups, initial_networks
        refinement.GROUPS = groups
        pieces.mix = lambda networks, features: mixed(pieces.subset(networks, names), features)
        jax.clear_caches()
        prior.integers.cache_clear()
        yield
    finally:
        shapes.array_shapes, quantization.GROUPS, fitting.initial_networks = own_shapes, own_groups, own_start
        fitting.RATES = own_rates
        refinement.GROUPS = own_groups
        pieces.mix = own_mix
        jax.clear_caches()
        prior.integers.cache_clear()


def fit(pictures: list[np.ndarray], rate_weight: float, steps: int, seed: int) -> list[dict]:
    """Of each picture: cost, squared error, rate, and the networks' share of it."""
    layout = shapes.layout_of(pictures[0].shape)
    fits = [fitting.start(picture, layout.grids, seed) for picture in pictures]
    weights = [rate_weight] * len(pictures)
    fits = fitting.train_together(pictures, fits, layout.grids, weights, steps, seed)
    return [measure(picture, one, layout, rate_weight) for picture, one in zip(pictures, fits, strict=True)]


def measure(picture: np.ndarray, fitted: fitting.Fit, layout: shapes.Layout, rate_weight: float) -> dict:
    latents = refinement.latents_vector(fitted)
    networks = refinement.quantize(refinement.Costs(picture, layout, latents, rate_weight), fitted)
    grids = fitting.split(latents.astype(np.int64), layout)
    coder = context.context(quantization.fixed_point(networks, layout))
    bits = sum(
        coding.code_lengths(coder, k, grid, grids[k + 1] if k + 1 < layout.grids else None)
        for k, grid in enumerate(grids)
    )
    network_bits = quantization.bits(networks, layout)
    floats = {name: jnp.asarray(array) for name, array in refinement.dequantized(networks, layout).items()}
    features = model.upsample([jnp.asarray(grid, jnp.float32) for grid in grids], floats["upsampling"])
    mixed = pieces.mix(floats, features.reshape(layout.grids, -1)).reshape(-1, layout.height, layout.width)
    painted = np.clip(np.rint(255 * np.asarray(model.filtered(floats, mixed))), 0, 255)
    error = float(((np.moveaxis(painted, 0, -1) - picture) ** 2).mean()) / 255**2
    rate = (bits + network_bits) / (layout.height * layout.width)
    return {
        "cost": error + rate_weight * rate,
        "psnr": -10 * np.log10(error),
        "bits_per_pixel": rate,
        "network_bits_per_pixel": network_bits / (layout.height * layout.width),
        "parameters": shapes.parameter_count(layout),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the Kodak pictures")
    parser.add_argument("--syntheses", default=",".join(SYNTHESES))
    parser.add_argument("--pictures", default=",".join(PICTURES))
    parser.add_argument("--rate-weights", default=",".join(map(str, RATE_WEIGHTS)))
    parser.add_argument("--factors", default=",".join(map(str, FACTORS)), help="on the rate of a synthesis' arrays")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="results/study_latent_synthesis.jsonl")
    args = parser.parse_args()
    done = set()
    if Path(args.output).exists():
        done = {json.dumps(json.loads(line)["config"]) for line in Path(args.output).read_text().splitlines()}
    pictures = load_pictures(args.folder, "kodak-256", args.pictures.split(","))
    for name in args.syntheses.split(","):
        for factor in map(float, args.factors.split(",")):
            if name == "linear" and factor != 1:  # it has no arrays of its own
                continue
            with in_place(SYNTHESES[name], factor):
                for weight in map(float, args.rate_weights.split(",")):
                    about = {"synthesis": name, "factor": factor, "rate_weight": weight}
                    measure_all(pictures, about, args, done)


def measure_all(pictures: list, about: dict, args: argparse.Namespace, done: set[str]) -> None:
    """Rows of all pictures that have none yet."""
    configs = {n: {**about, "picture": n, "steps": args.steps, "seed": args.seed} for n, _ in pictures}
    missing = [(n, picture) for n, picture in pictures if json.dumps(configs[n]) not in done]
    if not missing:
        return
    start = time.perf_counter()
    found = fit([picture for _, picture in missing], about["rate_weight"], args.steps, args.seed)
    seconds = (time.perf_counter() - start) / len(missing)
    for (name, _), metrics in zip(missing, found, strict=True):
        record(args.output, "study_latent_synthesis", "kodak-256", sys.argv, configs[name], args.seed, seconds, metrics)
        print(*configs[name].values(), {k: round(v, 6) for k, v in metrics.items()}, flush=True)


if __name__ == "__main__":
    main()
