"""Priors fitted to the latents of a run, stored as <workdir>/priors/<name>.npz.

A stored prior belongs to one checkpoint: its file holds the step and a checksum of parameters and latents. Where it
belongs to another one it is fitted again, with the options it was fitted with, and the file is replaced: nothing is
lost, since a fit is determined by the checkpoint and these options.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm import priors
from dfm.errors import UserError
from dfm.models.latent_vectors import latent_size
from dfm.priors import files
from dfm.priors.by_class import fit_by_class
from dfm.priors.gaussian import Normal
from dfm.priors.prior import Prior, mean_log_likelihood
from dfm.progress import Progress
from dfm.sampling.learned_priors import check_learned, learned_prior
from dfm.sampling.run_data import INVERSION, RunData

if TYPE_CHECKING:
    from dfm.training.runs import Run


def prior_path(run: "Run", name: str) -> Path:
    return Path(run.workdir) / "priors" / f"{name}.npz"


def fit_prior(data: RunData, name: str, quiet: bool = True, **options: Any) -> tuple[Prior, dict[str, Any]]:
    """Fits a prior to the training latents of a run, class by class of a conditional model; `store_prior` keeps it.

    Args:
        quiet: no progress bar.
        options: of the fit, as the family has them (`Prior.options`); those left out have its defaults.

    Returns:
        The prior and the facts to be stored with it, mean log-likelihoods in nats a picture among them; that of the
        test split only where an encoder gives latents to its pictures, and None otherwise.
    """
    run, family = data.run, priors.find(name)
    for option in options:
        if option not in family.options:
            raise UserError(f"the prior {name} has no option {option!r}{_known(family.options)}")
    options = family.options | options
    latents, classes = data.training_latents, run.model.classes if family is not Normal else 0
    labels = data.train.labels if classes else None
    with Progress(None, f"fitting {name}", "round", quiet=quiet, keep=False) as progress:
        if labels is None:
            prior = family.fit(latents, **options, progress=progress.reach)
        else:
            prior = fit_by_class(family, latents, labels, classes, **options, progress=progress.reach)
    facts = {
        "step": int(run.step),
        "checksum": run.sha256,
        "count": len(latents),
        "dimension": prior.dimension,
        **options,
        "classes": classes,
        "likelihood_is_bound": prior.is_bound,
        "train_log_likelihood": mean_log_likelihood(prior, latents, labels),
        "test_log_likelihood": _test_log_likelihood(data, prior),
    }
    return prior, facts


def store_prior(run: "Run", prior: Prior, facts: dict[str, Any]) -> Path:
    """Writes the prior's file; UserError where it cannot be written."""
    path = prior_path(run, prior.name)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from None
    files.save(path, prior, facts)
    return path


def default_prior(data: RunData) -> str:
    """The prior of a run where none is named: N(0, I) of a model that has learned from draws of it, such as a GAN."""
    return priors.DEFAULT_PRIOR if data.training_has_latents else Normal.name


def check_prior(data: RunData, name: str) -> None:
    """UserError for a prior that cannot be had of this run, before any work."""
    if priors.is_learned(name):
        check_learned(data.run, name)
    elif priors.find(name) is not Normal:
        data.check_training_latents()


def stored_or_fitted(
    data: RunData, name: str, note: Callable[[str], None] = lambda line: None, quiet: bool = True
) -> Prior:
    """The stored prior of this checkpoint; fitted first, and said so in a note, where there is none. Or a learned one.

    The file is a convenience: of a run that cannot be written to, the prior is fitted again each time.
    """
    check_prior(data, name)
    if priors.is_learned(name):
        return learned_prior(data, name)
    run, family = data.run, priors.find(name)
    if family is Normal:
        return Normal(latent_size(run.model))  # nothing to fit
    path = prior_path(run, name)
    options: dict[str, Any] = {}
    if path.exists():
        prior, facts = files.load(path)
        # by class, or fitted by an earlier version that did not tell classes apart
        as_now = prior.classes == run.model.classes
        if prior.name == name and facts.get("checksum") == run.sha256 and as_now:
            return prior
        options = {option: facts[option] for option in family.options if option in facts}
        whose = f"belongs to another checkpoint (step {facts.get('step')})" if as_now else "does not tell classes apart"
        note(f"prior {name} {whose}: fitting it again")
    else:
        note(f"prior {name} is not fitted yet: fitting it to the training latents of step {run.step}")
    prior, facts = fit_prior(data, name, quiet, **options)
    try:
        store_prior(run, prior, facts)
    except UserError as error:
        note(f"{error}; the prior {name} is used all the same, and will be fitted again next time")
    return prior


def _known(options: dict[str, Any]) -> str:
    return f": it has {', '.join(options)}" if options else ": it has none"


def _test_log_likelihood(data: RunData, prior: Prior) -> float | None:
    """Held out: None where the test pictures have no latents, or were in the training, or are not there."""
    if data.latents_by(of_training=False) == INVERSION or data.test_was_trained_on:
        return None
    try:
        test = data.test
    except UserError:  # a folder of pictures need not have a test split
        return None
    return mean_log_likelihood(prior, data.encode(test), test.labels)
