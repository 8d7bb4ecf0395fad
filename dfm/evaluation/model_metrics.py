"""What FID does not say: whether samples are copies, latents fill the prior, and how the decoder stretches.

Latents are the posterior's means, or the table.
"""

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from dfm.arrays import grid, to_float
from dfm.errors import UserError
from dfm.evaluation.metric import MODEL, Inputs, Metric, Value, no_value
from dfm.metrics.gaussians import GaussianMoments, gaussian_kl
from dfm.metrics.lipschitz import ITERATIONS, local_lipschitz
from dfm.metrics.sliced import squared_sliced_wasserstein
from dfm.models import latent_vectors
from dfm.picture_files import save_picture

if TYPE_CHECKING:
    from dfm.sampling import RunData

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016
NEIGHBOURS, GRID_ROWS, COMPARED = 4, 10, 256
PRIOR_SAMPLES = 10_000
MOST_DIMENSIONS = 8192  # of latents whose covariance is computed: half a gigabyte and a minute
STRETCHED = 32  # pictures at whose latents smoothness is measured


def _active_units(inputs: Inputs) -> dict[str, Value]:
    """Dimensions whose latents have a variance over pictures above 0.01."""
    assert inputs.data is not None
    z = inputs.data.training_latents
    variances = z.var(axis=0)
    details = {
        "latent_size": z.shape[1],
        "count": len(z),
        "threshold": ACTIVE_VARIANCE,
        "smallest_variance": float(variances.min()),
        "largest_variance": float(variances.max()),
    }
    return {"active_units": Value(int((variances > ACTIVE_VARIANCE).sum()), details=details)}


def _posterior_kl(inputs: Inputs) -> dict[str, Value]:
    """KL(N(m, S) || N(m', S')) in nats, of the Gaussians with the moments of the latents and of the prior.

    The prior's moments are known in closed form for every density that has `moments`; of others they are those of
    10,000 draws, whose noise adds about d (d + 3) / 4 / 10,000 nats.
    """
    assert inputs.data is not None and inputs.prior is not None
    z = inputs.data.training_latents
    details = {"latent_size": z.shape[1], "count": len(z), "prior_samples": 0}
    if z.shape[1] > MOST_DIMENSIONS:
        return {"posterior_kl": no_value(f"latents of more than {MOST_DIMENSIONS:,} numbers", **details)}
    known = inputs.prior.moments()
    if known is None:
        details["prior_samples"] = PRIOR_SAMPLES
        of_prior = GaussianMoments.of(np.asarray(inputs.prior.sample(jax.random.key(inputs.seed), PRIOR_SAMPLES)))
    else:
        of_prior = GaussianMoments(*known)
    value = gaussian_kl(GaussianMoments.of(z), of_prior)
    if value is None:
        why = "a covariance is singular: fewer pictures than dimensions, or dimensions without spread"
        return {"posterior_kl": no_value(why, **details)}
    return {"posterior_kl": Value(value, details=details)}


def _posterior_sliced(inputs: Inputs) -> dict[str, Value]:
    """Squared sliced 2-Wasserstein distance over the latents' mean variance.

    0 for a prior without holes, about 2 for one that has nothing to do with the latents. It sees the shape that the KL
    does not.
    """
    assert inputs.data is not None and inputs.prior is not None
    z = inputs.data.training_latents
    drawn = np.asarray(inputs.prior.sample(jax.random.key(inputs.seed), PRIOR_SAMPLES))
    variance = float(z.var(axis=0).mean())
    details = {"latent_size": z.shape[1], "count": len(z), "prior_samples": PRIOR_SAMPLES}
    if variance == 0:
        return {"posterior_sliced": no_value(f"all {len(z)} latents are equal", **details)}
    distance = squared_sliced_wasserstein(z, drawn, inputs.seed)
    return {"posterior_sliced": Value(distance / variance, details=details)}


def _smoothness(inputs: Inputs) -> dict[str, Value]:
    """The decoder's local Lipschitz constant at training latents: the mean, in values of [-1, 1] a unit of latents.

    A small constant is what makes a generator of latents forgiving: an error d of its output moves the picture by at
    most L ||d||. `relative` is L times the latents' deviation over that of the pictures: free of either's scale.
    """
    assert inputs.data is not None
    data, run = inputs.data, inputs.data.run
    rows = np.arange(min(STRETCHED, len(data.train)))
    latents = data.latents_of_training(rows)
    labels = jnp.asarray(data.train.labels[rows]) if run.model.classes else None
    decode = functools.partial(latent_vectors.decode, run.model, run.variables, labels=labels)
    found = np.asarray(local_lipschitz(decode, jnp.asarray(latents), jax.random.key(inputs.seed)))
    deviation = float(to_float(data.pictures(data.train, rows)).std())
    details = {
        "largest": float(found.max()),
        "relative": float(found.mean() * latents.std() / deviation) if deviation else None,
        "count": len(rows),
        "iterations": ITERATIONS,
    }
    return {"smoothness": Value(float(found.mean()), float(found.std()), "pictures", details)}


def _memorisation(inputs: Inputs) -> dict[str, Value]:
    """Distance of samples to their nearest training pictures beside that of test pictures, and a grid to look at.

    The value is the ratio of the two medians of root mean squared errors: far below 1, samples are nearer to training
    pictures than real new pictures are, which is how copies look. Null where there is no unseen test split.
    """
    assert inputs.data is not None and inputs.samples is not None
    data = inputs.data
    samples = np.concatenate(list(inputs.samples.batches(0, COMPARED)))
    distances = nearest_distances(data, samples)
    median = float(np.median(distances))
    details = {"compared": len(samples), "median_distance_of_samples": median, "grid": _neighbour_page(inputs, samples)}
    if data.test_was_trained_on:
        return {"memorisation": no_value("the run was trained on its test split", **details)}
    try:
        test = data.pictures(data.test, np.arange(min(len(samples), len(data.test))))
    except UserError as error:  # a folder without a test split
        return {"memorisation": no_value(str(error), **details)}
    unseen = float(np.median(nearest_distances(data, test)))
    details["median_distance_of_test_pictures"] = unseen
    if unseen == 0:
        why = "most test pictures are training pictures too: their median distance is 0"
        return {"memorisation": no_value(why, **details)}
    return {"memorisation": Value(median / unseen, details=details)}


def _neighbour_page(inputs: Inputs, samples: UInt8[np.ndarray, "n h w c"]) -> str | None:
    """Writes a few samples beside their nearest training pictures; the file's name, None where it cannot be written."""
    assert inputs.data is not None
    data, rows = inputs.data, samples[:GRID_ROWS]
    if inputs.folder is None:
        return None
    nearest = data.nearest_in_training(rows, NEIGHBOURS)
    neighbours = data.pictures(data.train, nearest.reshape(-1)).reshape(len(rows), -1, *rows.shape[1:])
    cells = np.concatenate([rows[:, None], neighbours], axis=1)
    path = inputs.folder / f"neighbours-{inputs.prior_name}-seed{inputs.seed}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(path, enlarged(grid(cells.reshape(-1, *rows.shape[1:]), cells.shape[1], margin=1)))
    except (OSError, UserError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        inputs.note(f"{path}: the samples' neighbours are not shown ({reason})")
        return None
    inputs.note(f"{path}: samples on the left, beside each its {NEIGHBOURS} nearest training pictures")
    return path.name


def nearest_distances(data: "RunData", pictures: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, " n"]:
    """Root mean squared error, in levels, of each picture to the nearest one of the training."""
    rows = data.nearest_in_training(pictures, 1)[:, 0]
    known = data.pictures(data.train, rows).astype(np.float64)
    return np.sqrt(np.square(pictures - known).mean(axis=(1, 2, 3)))


def enlarged(page: np.ndarray) -> np.ndarray:
    """Tiny pictures are shown larger, pixel by pixel, until the page has about 400 pixels."""
    factor = max(1, 400 // max(page.shape[:2]))
    return page.repeat(factor, axis=0).repeat(factor, axis=1)


_LATENTS = ("diagnostics", "latents")
MODEL_METRICS: dict[str, Metric] = {
    "memorisation": Metric(
        _memorisation,
        "samples' distance to their nearest training pictures, over that of test pictures",
        MODEL,
        ("diagnostics",),
        reference=False,
        prior=True,
        draws=True,
    ),
    "active_units": Metric(
        _active_units, "dimensions of latents that vary over pictures", MODEL, _LATENTS, reference=False, latents=True
    ),
    "posterior_kl": Metric(
        _posterior_kl,
        "KL of latents to the prior, as Gaussians",
        MODEL,
        _LATENTS,
        reference=False,
        prior=True,
        latents=True,
    ),
    "posterior_sliced": Metric(
        _posterior_sliced,
        "sliced distance of latents to the prior",
        MODEL,
        _LATENTS,
        reference=False,
        prior=True,
        latents=True,
    ),
    "smoothness": Metric(
        _smoothness, "local Lipschitz constant of the decoder", MODEL, ("diagnostics",), reference=False, latents=True
    ),
}
