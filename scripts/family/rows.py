"""The rows of the table of generators, and the training that each gets for one budget of floating-point operations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dfm import models, objectives
from dfm.config import config_module, flatten, resolve
from dfm.data.datasets import SHAPES
from dfm.errors import UserError
from dfm.experiments import STEPS_A_CALL, steps_per_call
from dfm.registry import check
from dfm.results import read_lines
from dfm.training.cost import gradient_operations

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BUDGETS: dict[str, dict[str, float]] = {
    "full": {"digits": 1e12, "mnist": 2e13, "cifar10": 4e13},
    "quick": {"digits": 5e9, "mnist": 5e11, "cifar10": 1e12},
}
QUICK_STEPS = 500  # at most
CODE_PRIOR_STEPS = {"full": 1_000, "quick": 20}
DATASETS = tuple(BUDGETS["full"])
EVERY_PRIOR = ("normal", "gaussian", "gmm")
MORE_PRIORS = ("two_stage", "flow")  # of a VAE and an autoencoder
LARGEST_MIXTURE = 256  # numbers of a latent: a mixture of more takes longer than the training


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        config: file and argument of a config; {dataset} stands for the data set.
        settings: in place of the config's own.
        priors: that its latents are drawn from.
        most_steps: it has converged long before; None: the budget decides.
        learns_codes: a transformer over its codes is trained afterwards, and is a prior too.
        datasets: that it is a row of.
    """

    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    priors: tuple[str, ...] = EVERY_PRIOR
    most_steps: int | None = None
    learns_codes: bool = False
    datasets: tuple[str, ...] = DATASETS


def _family(word: str, **more: Any) -> Row:
    return Row(f"autoencoders.py:{word},dataset={{dataset}}", **more)


def _machine(word: str) -> Row:
    # the thesis trains on MNIST's test pictures too; all rows are compared on them
    return Row(f"dfm_{{dataset}}.py:{word}", {"dataset.split": "train"})


ROWS: dict[str, Row] = {
    "pca": _family("pca", most_steps=1),  # closed form: the step measures only
    "linear_ae": _family("linear_ae", most_steps=20_000),
    "ae": _family("ae", priors=(*EVERY_PRIOR, *MORE_PRIORS)),
    "rae": _family("rae"),
    "wae": _family("wae"),
    "vae": _family("vae", priors=(*EVERY_PRIOR, *MORE_PRIORS)),
    "beta_vae_0.25": _family("beta_vae", settings={"objective.beta": 0.25}),
    "beta_vae_4": _family("beta_vae"),
    "vamp_vae": _family("vamp_vae", priors=("vamp", *EVERY_PRIOR)),
    "sigma_vae": _family("sigma_vae"),
    "bernoulli_vae": _family("bernoulli_vae", datasets=("digits", "mnist")),
    "conditional_vae": _family("conditional_vae"),
    "hierarchical_vae": _family("hierarchical_vae"),
    "vq_vae": _family("vq_vae", learns_codes=True),
    "gan": _family("gan", priors=("normal",)),
    "dfm_tuned": _machine("tuned"),
    "dfm_thesis": _machine("thesis"),
}


def find_rows(dataset: str, names: str | None) -> list[str]:
    """The rows of a data set, or those of them that are named."""
    known = [name for name, row in ROWS.items() if dataset in row.datasets]
    if names is None:
        return known
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        check("row", name, ROWS)
        if name not in known:
            raise UserError(f"{name} is no row of {dataset}: it is one of {', '.join(ROWS[name].datasets)}")
    return chosen


def first_config(name: str, dataset: str) -> ConfigDict:
    """The config of a row before the budget has a say: what identifies it."""
    file, _, argument = ROWS[name].config.format(dataset=dataset).partition(":")
    config = config_module(CONFIGS / file).get_config(argument)
    for key, value in ROWS[name].settings.items():
        section, _, word = key.partition(".")
        config[section][word] = value
    config.sample_every_steps, config.keep_best, config.keep_last = 0, 0, 1
    return resolve(config)


def budgeted(name: str, dataset: str, budget: str) -> tuple[ConfigDict, float]:
    """(the config with as many steps as the budget pays for, operations of one step).

    Warm-ups take a fifth of the steps at most.
    """
    config = first_config(name, dataset)
    model = models.build(config.model, SHAPES[dataset])
    operations = gradient_operations(objectives.build(config.objective, model), config.batch_size)
    paid = max(1, int(BUDGETS[budget][dataset] / operations))
    steps = min(paid, ROWS[name].most_steps or paid, paid if budget == "full" else QUICK_STEPS)
    if steps > 10 * STEPS_A_CALL:
        steps -= steps % STEPS_A_CALL
    config.total_steps = steps
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, steps // 5)
    if "warmup_steps" in config.objective:
        config.objective.warmup_steps = min(config.objective.warmup_steps, steps // 5)
    config.log_every_steps = _in_calls(steps // 20)
    config.checkpoint_every_steps = _in_calls(max(500, steps // 4))
    config.steps_per_call = steps_per_call()
    return config, operations


def _in_calls(steps: int) -> int:
    """So many steps, or a few more: whole calls of the device."""
    return max(1, -(-steps // STEPS_A_CALL)) * STEPS_A_CALL


def code_prior_config(run: Path, budget: str) -> ConfigDict:
    """Of the transformer over the codes of a run: like the other fitted priors it is no part of the row's budget."""
    config = config_module(CONFIGS / "autoencoders.py").get_config("code_prior")
    config.dataset.name = f"codes:{run}"
    config.total_steps = CODE_PRIOR_STEPS[budget]
    config.optimizer.warmup_steps = config.total_steps // 5
    config.log_every_steps = config.checkpoint_every_steps = max(1, config.total_steps // 4)
    config.sample_every_steps, config.keep_best, config.keep_last = 0, 0, 1
    return resolve(config)


def identity(name: str, dataset: str, budget: str, part: str) -> dict[str, Any]:
    """What a line of results is found by: row, budget and the whole config of the training but for its steps."""
    training = with_what_counts(flatten(first_config(name, dataset)))
    operations = BUDGETS[budget][dataset]
    return {
        "dataset": dataset,
        "row": name,
        "budget": budget,
        "operations": operations,
        "part": part,
        "training": training,
    }


def measured_lines(path: str | Path) -> list[dict[str, Any]]:
    """Lines of results, as `identity` has their trainings."""
    lines = read_lines(path)
    for line in lines:
        line["config"]["training"] = with_what_counts(line["config"]["training"])
    return lines


def with_what_counts(training: Mapping[str, Any]) -> dict[str, Any]:
    """Without the value of a sigma that is no number of the training: an optimal one, or that of no Gaussian."""
    has_none = training.get("objective.sigma") == "optimal" or training.get("objective.likelihood") == "bernoulli"
    return {key: value for key, value in training.items() if not (has_none and key == "objective.sigma_value")}


def priors_of(name: str, latent_size: int) -> list[str]:
    """The priors that a row is sampled by."""
    return [prior for prior in ROWS[name].priors if prior != "gmm" or latent_size <= LARGEST_MIXTURE]
