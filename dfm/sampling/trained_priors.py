"""Priors that are runs of dfm.train on the latents of another run, and that belong to these latents alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from dfm.errors import UserError
from dfm.priors import is_trained
from dfm.priors.trained import TrainedFlow
from dfm.training.run_folder import read_config
from dfm.training.run_latents import names_latents, read_facts

if TYPE_CHECKING:
    from dfm.training.runs import Run


def check_trained_prior(run: "Run", workdir: str | Path) -> dict[str, Any]:
    """What is known of the latents of the prior in this folder; UserError where they are not this run's."""
    workdir = Path(workdir).expanduser()
    if not names_latents(read_config(workdir).dataset.name):
        raise UserError(f"{workdir}: is no prior: it was trained on {read_config(workdir).dataset.name}")
    facts = read_facts(workdir)
    if facts.get("params_sha256") != run.sha256:
        raise UserError(
            f"{workdir}: is a prior of the latents of {facts.get('run')} at step {facts.get('step')}, not of "
            f"{run.workdir} at step {int(run.step)}: its parameters differ"
        )
    return facts


def load_trained_prior(run: "Run", workdir: str | Path) -> TrainedFlow:
    """The latest checkpoint of a prior, by its moving average where it keeps one."""
    from dfm.training.runs import load_run

    facts = check_trained_prior(run, workdir)
    found = load_run(Path(workdir).expanduser())
    mean, deviation = (jnp.asarray(facts[key], jnp.float32) for key in ("mean", "standard_deviation"))
    return TrainedFlow(found.model, found.variables, mean, deviation)


def prior_label(name: str) -> str:
    """What results call a prior: its name; of a trained one the folder, step and a hash of its parameters."""
    if not is_trained(name):
        return name
    from dfm.training.runs import load_run

    found = load_run(Path(name).expanduser())
    return f"{found.workdir.resolve().name}@{found.step}-{found.sha256[:8]}"
