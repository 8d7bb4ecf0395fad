"""Densities on latents, fitted after training: N(0, I), a Gaussian with full covariance, a mixture of Gaussians, a
second VAE, a normalising flow.

    prior = find("gmm").fit(latents, components=10)
    z = prior.sample(jax.random.key(0), 64)

Sampling and densities are JAX; a stored prior is an .npz file of its arrays with a few facts about its fit (files.py).
Names are listed here once, without importing JAX: command lines are parsed before it is loaded.
"""

from typing import TYPE_CHECKING

from dfm import registry

if TYPE_CHECKING:
    from dfm.priors.prior import Prior

PRIORS = {
    "normal": "dfm.priors.gaussian:Normal",
    "gaussian": "dfm.priors.gaussian:Gaussian",
    "gmm": "dfm.priors.mixture:Mixture",
    "two_stage": "dfm.priors.two_stage:TwoStage",
    "flow": "dfm.priors.flow:Flow",
}
DEFAULT_PRIOR = "gaussian"  # but for models whose latents are only drawn, see dfm.sampling.default_prior
# priors that are learned and not fitted: with their VAE (model.prior=vamp); or by a run of their own, over a VQ-VAE's
# codes, or as a flow of latents
VAMP, CODES, LATENTS = "vamp", "codes:", "latents:"
LEARNED = (VAMP, f"{CODES}RUN", f"{LATENTS}RUN")


def is_learned(name: str) -> bool:
    """Whether the name is one of LEARNED."""
    return name == VAMP or any(name.startswith(prefix) and name != prefix for prefix in (CODES, LATENTS))


def check(name: str) -> None:
    """UserError for a name that no prior has, fitted or learned."""
    if not is_learned(name):
        registry.check("prior", name, (*PRIORS, *LEARNED))


def find(name: str) -> "type[Prior]":
    """The family of this name; UserError with the known ones and the nearest where there is none."""
    return registry.load(registry.find("prior", name, PRIORS))
