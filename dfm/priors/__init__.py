"""Densities on latents, fitted after training: N(0, I), a Gaussian with full covariance, a mixture of Gaussians.

    prior = find("gmm").fit(latents, components=10)
    z = prior.sample(jax.random.key(0), 64)

Sampling and densities are JAX; a stored prior is an .npz file of its arrays with a few facts about its fit (files.py).
Names are listed here once, without importing JAX: command lines are parsed before it is loaded.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dfm import registry

if TYPE_CHECKING:
    from dfm.priors.prior import Prior

PRIORS = {
    "normal": "dfm.priors.gaussian:Normal",
    "gaussian": "dfm.priors.gaussian:Gaussian",
    "gmm": "dfm.priors.mixture:Mixture",
}
DEFAULT_PRIOR = "gaussian"  # of every command


def is_trained(name: str) -> bool:
    """Whether this is no name of a family but the folder of a run of dfm.train that made a prior."""
    return name not in PRIORS and Path(name).expanduser().is_dir()


def check_name(name: str) -> str:
    """The name of a family or the folder of a trained prior; UserError for anything else."""
    if not is_trained(name):
        registry.check("prior", name, PRIORS)
    return name


def find(name: str) -> "type[Prior]":
    """The family of this name; UserError with the known ones and the nearest where there is none."""
    return registry.load(registry.find("prior", name, PRIORS))
