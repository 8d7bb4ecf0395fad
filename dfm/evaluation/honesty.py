"""What FID does not say: are samples copies of training pictures, and do the latents fill the prior?"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from dfm.arrays import grid, to_float
from dfm.errors import UserError
from dfm.evaluation.metrics import Value
from dfm.metrics.lipschitz import ITERATIONS, local_lipschitz
from dfm.metrics.sliced import squared_sliced_wasserstein
from dfm.models import latent_vectors
from dfm.picture_files import save_picture
from dfm.shapes import typechecked

if TYPE_CHECKING:
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016
NEIGHBOURS, GRID_ROWS, COMPARED = 4, 10, 256
PRIOR_SAMPLES = 10_000
STRETCHED = 32  # pictures at whose latents smoothness is measured


def latents(data: "RunData", prior: "Prior", seed: int) -> dict[str, Value]:
    """Active units, and how far the aggregated posterior is from the prior; latents are the posterior's means.

    active_units: dimensions whose latents have a variance over pictures above 0.01.
    posterior_kl: KL(N(m, S) || N(m', S')) in nats, of the Gaussians with the moments of the latents and of the prior.
    posterior_sliced: squared sliced 2-Wasserstein distance over the latents' mean variance: 0 for a prior without
    holes, about 2 for one that has nothing to do with the latents. It sees the shape that the KL does not.
    """
    z = data.training_latents
    drawn = np.asarray(prior.sample(jax.random.key(seed), PRIOR_SAMPLES))
    variances = z.var(axis=0)
    sliced = squared_sliced_wasserstein(z, drawn, seed) / max(float(variances.mean()), 1e-12)
    of_latents = {"latent_size": z.shape[1], "count": len(z)}
    return {
        "active_units": Value(
            int((variances > ACTIVE_VARIANCE).sum()),
            details=of_latents
            | {
                "threshold": ACTIVE_VARIANCE,
                "smallest_variance": float(variances.min()),
                "largest_variance": float(variances.max()),
            },
        ),
        "posterior_kl": Value(gaussian_kl(z, drawn), details=of_latents | {"prior_samples": PRIOR_SAMPLES}),
        "posterior_sliced": Value(sliced, details=of_latents | {"prior_samples": PRIOR_SAMPLES}),
    }


def smoothness(data: "RunData", seed: int) -> dict[str, Value]:
    """The decoder's local Lipschitz constant at training latents: the mean, in values of [-1, 1] a unit of latents.

    A small constant is what makes a generator of latents forgiving: an error d of its output moves the picture by at
    most L ||d||. `relative` is L times the latents' deviation over that of the pictures: free of either's scale.
    """
    rows = np.arange(min(STRETCHED, len(data.train)))
    latents, run = data.latents_of_training(rows), data.run
    decode = functools.partial(latent_vectors.decode, run.model, run.variables)
    found = np.asarray(local_lipschitz(decode, jnp.asarray(latents), jax.random.key(seed)))
    pictures = to_float(data.pictures(data.train, rows))
    relative = float(found.mean() * latents.std() / max(float(pictures.std()), 1e-12))
    details = {"largest": float(found.max()), "relative": relative, "count": len(rows), "iterations": ITERATIONS}
    return {"smoothness": Value(float(found.mean()), float(found.std()), "pictures", details)}


@typechecked
def gaussian_kl(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float | None:
    """KL of the Gaussians with these samples' moments, in nats; None where the second is degenerate."""
    mean_x, mean_y = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
    cov_x, cov_y = (np.atleast_2d(np.cov(v.astype(np.float64), rowvar=False)) for v in (x, y))
    sign_x, log_x = np.linalg.slogdet(cov_x)
    sign_y, log_y = np.linalg.slogdet(cov_y)
    if sign_x <= 0 or sign_y <= 0:
        return None
    difference = mean_y - mean_x
    trace = np.trace(np.linalg.solve(cov_y, cov_x))
    return float(0.5 * (trace + difference @ np.linalg.solve(cov_y, difference) - len(mean_x) + log_y - log_x))


def memorisation(
    data: "RunData", samples: UInt8[np.ndarray, "n h w c"], path: Path, note: Callable[[str], None]
) -> dict[str, Value]:
    """Distance of samples to their nearest training pictures beside that of test pictures, and a grid to look at.

    The value is the ratio of the two medians of root mean squared errors: far below 1, samples are nearer to training
    pictures than real new pictures are, which is how copies look. Null where there is no unseen test split.
    """
    distances = nearest_distances(data, samples)
    rows = samples[:GRID_ROWS]
    nearest = data.nearest_in_training(rows, NEIGHBOURS)
    neighbours = data.pictures(data.train, nearest.reshape(-1)).reshape(len(rows), -1, *rows.shape[1:])
    cells = np.concatenate([rows[:, None], neighbours], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(path, enlarged(grid(cells.reshape(-1, *rows.shape[1:]), cells.shape[1], margin=1)))
    note(f"{path}: samples on the left, beside each its {NEIGHBOURS} nearest training pictures")
    details = {"compared": len(samples), "median_distance_of_samples": float(np.median(distances)), "grid": path.name}
    if data.test_was_trained_on:
        return {"memorisation": Value(None, details=details | {"why_null": "the run was trained on its test split"})}
    try:
        test = data.pictures(data.test, np.arange(min(len(samples), len(data.test))))
    except UserError as error:  # a folder without a test split
        return {"memorisation": Value(None, details=details | {"why_null": str(error)})}
    unseen = float(np.median(nearest_distances(data, test)))
    details["median_distance_of_test_pictures"] = unseen
    return {"memorisation": Value(float(np.median(distances)) / unseen if unseen else None, details=details)}


def nearest_distances(data: "RunData", pictures: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, " n"]:
    """Root mean squared error, in levels, of each picture to the nearest one of the training."""
    rows = data.nearest_in_training(pictures, 1)[:, 0]
    known = data.pictures(data.train, rows).astype(np.float64)
    return np.sqrt(np.square(pictures - known).mean(axis=(1, 2, 3)))


def enlarged(page: np.ndarray) -> np.ndarray:
    """Tiny pictures are painted larger, pixel by pixel, until the page has about 400 pixels."""
    factor = max(1, 400 // max(page.shape[:2]))
    return page.repeat(factor, axis=0).repeat(factor, axis=1)
