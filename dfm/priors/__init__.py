"""Densities on latents, fitted after training: N(0, I), a Gaussian with full covariance, a mixture of Gaussians.

One protocol: `prior = PRIORS["gmm"].fit(latents)`, `prior.sample(key, n, start)`, `prior.log_prob(z)`. Sampling and
densities are JAX; a stored prior is an .npz file of its arrays with a few facts about its fit.
"""

import difflib
import io
import json
import os
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np

from dfm.errors import UserError
from dfm.priors.gaussian import Gaussian, Normal
from dfm.priors.mixture import COMPONENTS, Mixture
from dfm.priors.prior import Prior, mean_log_likelihood

__all__ = [
    "COMPONENTS",
    "PRIORS",
    "Gaussian",
    "Mixture",
    "Normal",
    "Prior",
    "find",
    "load",
    "mean_log_likelihood",
    "save",
]

PRIORS: dict[str, type[Prior]] = {family.name: family for family in (Normal, Gaussian, Mixture)}


def find(name: str) -> type[Prior]:
    """The family of this name; UserError with the known ones and the nearest where there is none."""
    if name in PRIORS:
        return PRIORS[name]
    nearest = difflib.get_close_matches(name, PRIORS, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UserError(f"unknown prior {name!r}: known are {', '.join(PRIORS)}{hint}")


def save(path: str | os.PathLike, prior: Prior, facts: dict[str, Any]) -> None:
    """Writes the prior and what is known of its fit (plain JSON values); the file appears only when complete."""
    from dfm.files import write_atomically
    from dfm.results import dump

    buffer = io.BytesIO()
    # Any: NumPy's stub takes the first of the unpacked arguments for its flag allow_pickle
    arrays: dict[str, Any] = {"prior": prior.name, "facts": dump(facts), **prior.arrays()}
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load(path: str | os.PathLike) -> tuple[Prior, dict[str, Any]]:
    """What `save` wrote: the prior and the facts about its fit.

    Raises:
        UserError: no such file, or one that `save` did not write.
    """
    try:
        with np.load(path) as file:
            contents = dict(file)
        family = find(str(contents.pop("prior")))
        facts = json.loads(str(contents.pop("facts")))
        if family is Normal:
            return Normal(int(contents["size"])), facts
        return family(**{name: jnp.asarray(array, jnp.float32) for name, array in contents.items()}), facts
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, UserError) as error:
        raise UserError(f"{path}: not a stored prior, or damaged ({' '.join(str(error).split())})") from None
