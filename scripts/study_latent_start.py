"""Would an encoder that predicts the first latents pay? Fits that begin with the latents which a long fit ended with.

    python scripts/study_latent_start.py FOLDER --output results/study_latent_start.jsonl

FOLDER is that of scripts/fit_latent_prior.py, of whose pictures those after --first are fitted: none made the prior.
No encoder can predict better latents than these, so what they save is a bound on what one could save. Starts: `zeros`
(ours), `latents` (those of a fit of --long steps, under the networks of the prior's set), `whole` (its networks too:
the fit goes on). The cost is mean squared error (of [0, 1]) + rate weight * bits per pixel of the file; `ratio` is that
over the cost of the long fit.
"""

import argparse
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from fit_latent_prior import load
from study_latent_prior import measure, study_parser

from dfm.codec.latents import fitting, prior, shapes
from dfm.codec.latents.choices import Settings
from dfm.experiments import run_script
from dfm.results import record


def main() -> None:
    parser = study_parser(__doc__, 4, (1.2e-3,), "results/study_latent_start.jsonl")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--long", type=int, default=1000)
    args = parser.parse_args()
    for weight in map(float, args.rate_weights.split(",")):
        for index, picture in enumerate(load(args.folder, args.pictures, args.first), args.first):
            compare(picture, index, weight, args)


def compare(picture: np.ndarray, index: int, weight: float, args: argparse.Namespace) -> None:
    """Rows of one picture: a short fit from each start, against the long one."""
    grids, number = shapes.usual_grids(*picture.shape[:2]), prior.nearest(weight)
    settings = Settings(args.long, args.seed, shrinking=0)

    def fitted(fit: fitting.Fit, steps: int) -> tuple[fitting.Fit, dict[str, float]]:
        (fit,) = fitting.train_together([picture], [fit], grids, [weight], steps, args.seed)
        return fit, measure(picture, (fit, weight, number), settings)

    def begin(latents: jax.Array | None = None, networks: dict | None = None) -> fitting.Fit:
        """Ours, or with these latents and networks: copies, since training takes what it is given."""
        usual = fitting.start(picture, grids, args.seed, number)
        latents, networks = jax.tree.map(jnp.array, (latents, networks))
        return fitting.from_networks(
            usual.latents if latents is None else latents, networks or usual.networks, usual.base
        )

    long, reference = fitted(begin(), args.long)
    starts = {"zeros": begin(), "latents": begin(long.latents), "whole": begin(long.latents, long.networks)}
    for start, fit in starts.items():
        began = time.perf_counter()
        _, found = fitted(fit, args.steps)
        config = {"start": start, "picture": index, "rate_weight": weight, "steps": args.steps, "long": args.long}
        metrics = {**found, "ratio": found["cost"] / reference["cost"]}
        seconds = time.perf_counter() - began
        record(args.output, "study_latent_start", "256x256", sys.argv, config, args.seed, seconds, metrics)
        print(*config.values(), {name: round(value, 5) for name, value in metrics.items()}, flush=True)


if __name__ == "__main__":
    run_script(main)
