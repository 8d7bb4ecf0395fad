"""Priors that are learned: with their VAE (`vamp`), or by runs over codes (`codes:RUN`) or latents (`latents:RUN`)."""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from dfm.errors import UserError
from dfm.models.latent_vectors import flatten
from dfm.priors import CODES, LATENTS, VAMP
from dfm.priors.by_class import class_log_weights
from dfm.priors.learned import OverCodes, Vamp
from dfm.priors.prior import Prior
from dfm.sampling.flow_priors import check_flow, load_flow
from dfm.training.codes import CODES_OF, MODEL, check_quantizes
from dfm.training.run_folder import read_config, read_facts
from dfm.training.runs import load_run

if TYPE_CHECKING:
    from dfm.sampling.run_data import RunData
    from dfm.training.runs import Run


def check_learned(run: "Run", name: str) -> None:
    """UserError where this run has no such prior, before any work."""
    if name == VAMP:
        if getattr(run.model, "prior", None) != VAMP:
            raise UserError(f"{run.workdir}: its model has learned no VampPrior (model.prior={VAMP})")
        return
    if name.startswith(LATENTS):
        check_flow(run, name)
        return
    workdir = name.removeprefix(CODES)
    check_quantizes(run)
    if read_config(workdir).model.name != MODEL:
        raise UserError(f"{workdir}: is no prior over codes (configs/autoencoders.py:code_prior)")
    if (of := read_facts(workdir).get("data", {}).get(CODES_OF)) != run.sha256:
        why = "another checkpoint than" if of else "no known run, and so not of"
        raise UserError(f"{workdir}: was trained on the codes of {why} step {run.step} of {run.workdir}")


def classes_of(name: str) -> int:
    """Number of classes that a prior codes:RUN or latents:RUN is told; 0 for others."""
    _, colon, workdir = name.partition(":")
    return read_config(workdir).model.get("classes", 0) if colon else 0


def learned_prior(data: "RunData", name: str) -> Prior:
    """The prior of this name.

    Raises:
        UserError: this run has no such prior.
    """
    run = data.run
    if name.startswith(LATENTS):
        return load_flow(run, name)
    check_learned(run, name)
    if name == VAMP:
        components: Any = run.model.apply(run.variables, method="prior_components")
        return Vamp(flatten(components.mean), flatten(components.logvar))
    codes = load_run(name.removeprefix(CODES))
    transformer: Any = codes.model
    book: Any = run.model.apply(run.variables, jnp.arange(transformer.codes), method="embed")
    weights = jnp.zeros(0)
    if transformer.classes:
        weights = class_log_weights(data.train.labels, transformer.classes)
    return OverCodes(transformer, codes.variables, book, weights)
