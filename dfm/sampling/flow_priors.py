"""Flows of latents, `latents:RUN` of a run of dfm.train on such a data set: each belongs to its latents alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from dfm.errors import UserError
from dfm.priors import LATENTS
from dfm.priors.latent_flow import LatentFlowPrior
from dfm.training.run_folder import read_config
from dfm.training.run_latents import names_latents, read_facts

if TYPE_CHECKING:
    from dfm.training.runs import Run


def folder_of(name: str) -> Path:
    """The run of latents:RUN."""
    return Path(name.removeprefix(LATENTS)).expanduser()


def check_flow(run: "Run", name: str) -> dict[str, Any]:
    """What is known of the latents of this flow; UserError where they are not this run's."""
    workdir = folder_of(name)
    if not names_latents(read_config(workdir).dataset.name):
        raise UserError(f"{workdir}: is no prior of latents: it was trained on {read_config(workdir).dataset.name}")
    facts = read_facts(workdir)
    if facts.get("params_sha256") != run.sha256:
        raise UserError(
            f"{workdir}: is a prior of the latents of {facts.get('run')} at step {facts.get('step')}, not of "
            f"{run.workdir} at step {int(run.step)}: its parameters differ"
        )
    return facts


def load_flow(run: "Run", name: str) -> LatentFlowPrior:
    """The latest checkpoint of a prior, by its moving average where it keeps one."""
    from dfm.training.runs import load_run

    facts = check_flow(run, name)
    found = load_run(folder_of(name))
    mean, deviation = (jnp.asarray(facts[key], jnp.float32) for key in ("mean", "standard_deviation"))
    return LatentFlowPrior(found.model, found.variables, mean, deviation)


def prior_label(name: str) -> str:
    """What results call a prior: its name; of one that is a run its kind, folder, step and a hash of its parameters."""
    kind, colon, folder = name.partition(":")
    if not colon:
        return name
    from dfm.training.runs import load_run

    found = load_run(Path(folder).expanduser())
    return f"{kind}:{found.workdir.resolve().name}@{found.step}-{found.sha256[:8]}"
