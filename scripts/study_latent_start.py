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

import jax.numpy as jnp
from fit_latent_prior import load
from study_latent_prior import measure

from dfm.codec.latents import fitting, prior, shapes
from dfm.codec.latents.choices import Settings
from dfm.experiments import run_script
from dfm.results import record

RATE_WEIGHTS = (1.2e-3, 3e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--first", type=int, default=64, help="pictures that are left out")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rate-weights", default=",".join(map(str, RATE_WEIGHTS)))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--long", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="results/study_latent_start.jsonl")
    args = parser.parse_args()
    pictures = list(load(args.folder, args.pictures, args.first))
    for weight in map(float, args.rate_weights.split(",")):
        for index, picture in enumerate(pictures, args.first):
            grids, number = shapes.usual_grids(*picture.shape[:2]), prior.nearest(weight)

            def fitted(fit, steps, picture=picture, grids=grids, weight=weight):
                return fitting.train_together([picture], [fit], grids, [weight], steps, args.seed)[0]

            def usual(picture=picture, grids=grids, number=number):
                return fitting.start(picture, grids, args.seed, number)

            long = fitted(usual(), args.long)
            kept = long._replace(
                latents=jnp.array(long.latents), networks={k: jnp.array(v) for k, v in long[1].items()}
            )
            begin = usual()
            starts = {
                "zeros": begin,
                "latents": fitting.from_networks(jnp.array(kept.latents), usual().networks, usual().base),
                "whole": fitting.from_networks(jnp.array(kept.latents), dict(kept.networks), usual().base),
            }
            settings = Settings(args.long, args.seed, shrinking=0)
            whole_cost = measure(picture, (kept, weight, number), settings)["cost"]
            for start, fit in starts.items():
                began = time.perf_counter()
                found = measure(picture, (fitted(fit, args.steps), weight, number), settings)
                seconds = time.perf_counter() - began
                config = {
                    "start": start,
                    "picture": index,
                    "rate_weight": weight,
                    "steps": args.steps,
                    "long": args.long,
                }
                metrics = {**found, "ratio": found["cost"] / whole_cost}
                record(args.output, "study_latent_start", "256x256", sys.argv, config, args.seed, seconds, metrics)
                print(*config.values(), {name: round(value, 5) for name, value in metrics.items()}, flush=True)


if __name__ == "__main__":
    run_script(main)
