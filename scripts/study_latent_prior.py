"""What the prior of the latents profile's networks saves: fits with and without it, of pictures it was not fitted to.

    python scripts/study_latent_prior.py FOLDER --output results/study_latent_prior.jsonl

FOLDER is that of scripts/fit_latent_prior.py, whose first pictures made the sets; the ones after --first are measured.
The cost is mean squared error (of [0, 1]) + rate weight * bits per pixel of the file.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import jax
import numpy as np
from fit_latent_prior import load

from dfm.codec.latents import fitting, picture_fit, prior, shapes
from dfm.codec.latents.choices import Settings
from dfm.experiments import run_script
from dfm.results import record

RATE_WEIGHTS = (8e-3, 1.2e-3, 3e-4)


def measure(picture: np.ndarray, state: tuple, settings: Settings) -> dict[str, float]:
    """Of a fit: cost, PSNR, bytes of the file and of its networks."""
    from dfm.codec.latents import payload, quantization

    content = picture_fit.content(picture, picture_fit.State(*state), settings)
    error = float(((payload.paint(content).astype(np.float64) - picture) ** 2).mean()) / 255**2
    size = picture_fit.file_bytes(content, picture)
    return {
        "cost": error + state[1] * 8 * size / (picture.shape[0] * picture.shape[1]),
        "psnr": -10 * float(np.log10(error)),
        "bytes": size,
        "network_bytes": quantization.bits(content.networks, content.layout) / 8,
    }


def study_parser(description: str | None, pictures: int, rate_weights: tuple[float, ...], output: str):
    """The words of a study of photographs that the sets were not fitted to."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--first", type=int, default=64, help="pictures that are left out")
    parser.add_argument("--pictures", type=int, default=pictures)
    parser.add_argument("--rate-weights", default=",".join(map(str, rate_weights)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=output)
    return parser


def main() -> None:
    parser = study_parser(__doc__, 8, RATE_WEIGHTS, "results/study_latent_prior.jsonl")
    parser.add_argument("--steps", default="300,1000,3000")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    args = parser.parse_args()
    pictures = list(load(args.folder, args.pictures, args.first))
    grids = shapes.usual_grids(*pictures[0].shape[:2])
    weights = [float(word) for word in args.rate_weights.split(",")]
    tasks = [
        (picture, weight, number) for weight in weights for number in (0, prior.nearest(weight)) for picture in pictures
    ]
    jax.devices()  # before the workers are told to use the processor
    os.environ["JAX_PLATFORMS"] = "cpu"
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for steps in map(int, args.steps.split(",")):
            start = time.perf_counter()
            fits = [fitting.start(picture, grids, args.seed, number) for picture, _, number in tasks]
            each = [weight for _, weight, _ in tasks]
            fits = fitting.train_together([task[0] for task in tasks], fits, grids, each, steps, args.seed)
            fits = jax.device_get(fits)
            settings = Settings(steps, args.seed, 0)
            futures = [
                pool.submit(measure, picture, (fit, weight, number), settings)
                for (picture, weight, number), fit in zip(tasks, fits, strict=True)
            ]
            found = [future.result() for future in futures]
            seconds = (time.perf_counter() - start) / len(tasks)
            for place, ((_, weight, number), metrics) in enumerate(zip(tasks, found, strict=True)):
                config = {"picture": args.first + place % len(pictures), "rate_weight": weight, "steps": steps}
                config |= {"prior": number, "seed": args.seed}
                record(args.output, "study_latent_prior", "as-is", sys.argv, config, args.seed, seconds, metrics)
            logs = np.log([metrics["cost"] for metrics in found]).reshape(len(weights), 2, -1).mean(-1)
            for weight, (without, having) in zip(weights, logs, strict=True):
                print(f"{steps} steps, weight {weight:g}: cost with / without {np.exp(having - without):.4f}")


if __name__ == "__main__":
    run_script(main)
