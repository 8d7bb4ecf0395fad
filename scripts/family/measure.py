"""One row of the table: trained for its budget, then measured as every other row is."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfm.array_files import write_npz
from dfm.errors import UserError
from dfm.evaluation import Options, evaluate_run, make_statistics
from dfm.evaluation.reconstruction import Reconstructions
from dfm.evaluation.report import Line
from dfm.evaluation.sources import SampleSource, Subset, open_source
from dfm.experiments import training_facts
from dfm.metrics.weight_files import WeightFiles
from dfm.models.latent_vectors import latent_size
from dfm.priors import CODES
from dfm.sampling import RunData, fit_prior, store_prior, stored_or_fitted
from dfm.train import train
from dfm.training.runs import load_run
from family.rows import ROWS, budgeted, code_prior_config, priors_of

NETWORKS = {"digits": "digits", "mnist": "mnist", "cifar10": "inception"}
MAIN = "main"
SAMPLES = {"full": {"digits": 10_000, "mnist": 10_000, "cifar10": 2_048}, "quick": dict.fromkeys(NETWORKS, 200)}
REFERENCES = {"full": 2_048, "quick": 64}  # test pictures that are reconstructed, and whose likelihood is bounded
INVERT_STEPS = {"full": 300, "quick": 20}
IMPORTANCE_SAMPLES = {"full": 16, "quick": 2}
CODES_WORD = "codes"  # of a prior over codes, in tables
TRAINED_PRIORS = ("two_stage", "flow")
QUICK_FIT: dict[str, Any] = {"steps": 30, "width": 32}  # of them
SHOWN_RECONSTRUCTIONS, SHOWN_SAMPLES = 8, 12


class Diverged(UserError):
    """A loss, a gradient or a parameter of the training is not finite."""


@dataclass(frozen=True)
class Place:
    """Where a table is made: folders and files."""

    dataset: str
    budget: str
    workdir: Path
    data_dir: str | None = None
    inception_weights: str | None = None

    @property
    def folder(self) -> Path:
        return self.workdir / f"{self.dataset}-{self.budget}"

    @property
    def statistics(self) -> Path:
        return self.folder / "reference.npz"

    @property
    def test_split(self) -> str:
        return f"{self.dataset}:test"

    def options(self, protocol: str | None = None, references: int | None = None) -> Options:
        weights = WeightFiles(self.inception_weights)
        command = f"python scripts/table_autoencoders.py --dataset={self.dataset} --budget={self.budget}"
        return Options(protocol, references, data_dir=self.data_dir, weights=weights, command=command)


def distance_name(dataset: str) -> str:
    """`fid`, or the distance by the classifier of these pictures, which is no FID."""
    return "fid" if NETWORKS[dataset] == "inception" else f"fd-{NETWORKS[dataset]}"


def make_reference(place: Place) -> None:
    """Statistics of the test split, once for all rows; of a few of its pictures where the budget is quick."""
    if place.statistics.exists():
        return
    place.folder.mkdir(parents=True, exist_ok=True)
    source = open_source(place.test_split, place.data_dir)
    if place.budget == "quick":
        source = Subset(source, min(200, source.count))
    make_statistics(source, place.statistics, NETWORKS[place.dataset], options=place.options())


def train_row(name: str, place: Place) -> dict[str, Any]:
    """Trains a row, or goes on where it stopped; facts about it for the results.

    Raises:
        Diverged: something is not finite.
        InterruptedError: it was asked to stop; the next call goes on.
    """
    config, operations = budgeted(name, place.dataset, place.budget)
    workdir = str(place.folder / name)
    try:
        train(config, workdir, place.data_dir, quiet=True)
    except UserError as error:
        if "training stopped" not in str(error):
            raise
        raise Diverged(str(error).partition(";")[0]) from None
    run = load_run(workdir)
    check_finished(name, run.step, config.total_steps)
    facts = json.loads((place.folder / name / "run.json").read_text(encoding="utf-8"))
    trained = training_facts(workdir)
    return {
        "steps": config.total_steps,
        "operations_a_step": operations,
        "operations": operations * config.total_steps,
        "parameters": sum(count for group, count in facts["parameters"].items() if group != "latents"),
        "numbers_in_table": facts["parameters"].get("latents", 0),
        "latent_size": latent_size(run.model),
        "training_seconds": trained["training_seconds"],
        "training_starts": trained["training_starts"],
    }


def measure_row(name: str, place: Place) -> dict[str, Any]:
    """Distances of samples by each prior, of reconstructions, PSNR, and bounds on the likelihood where there are some.

    Reconstructed are test pictures: by the encoder, or by inversion where a machine has a table of latents. A generator
    whose latents are only drawn has none.
    """
    begin = time.perf_counter()
    data, budget, dataset = RunData(load_run(place.folder / name), place.data_dir), place.budget, place.dataset
    run, distance = data.run, distance_name(place.dataset)
    priors = priors_of(name, latent_size(run.model))
    if ROWS[name].learns_codes:
        priors.append(train_code_prior(name, place))
    if budget == "quick":
        for prior in set(priors) & set(TRAINED_PRIORS):  # with options of their own they are found, and not fitted anew
            store_prior(run, *fit_prior(data, prior, **QUICK_FIT))
    full_inception = budget == "full" and NETWORKS[dataset] == "inception"
    lines = evaluate_run(
        run,
        [distance],
        str(place.statistics),
        priors=priors,
        num_samples=None if full_inception else SAMPLES[budget][dataset],
        options=place.options("fid-2k" if full_inception else None),
    )
    by_prior = {line["prior"]: line["value"] for line in lines}
    given = dict(zip(by_prior, priors, strict=True))  # lines call a prior over codes by its run's identity
    found: dict[str, Any] = {"distance": distance, "by_prior": _worded(by_prior)}
    found |= {"samples": SAMPLES[budget][dataset], "reference": lines[0]["reference"]["id"]}
    found["warnings"] = sorted({warning for line in lines for warning in line["warnings"]})
    if data.training_has_latents:
        found |= _of_test_pictures(data, place, distance)
    _keep_pictures(data, place, name, given[min(by_prior, key=lambda prior: _order(by_prior[prior]))])
    return found | {"evaluation_seconds": round(time.perf_counter() - begin, 1)}


def _of_test_pictures(data: RunData, place: Place, distance: str) -> dict[str, Any]:
    metrics = ["psnr", f"r{distance}"]
    metrics += ["likelihood"] if data.run.model.has_likelihood else []
    count = min(REFERENCES[place.budget], open_source(place.test_split, place.data_dir).count)
    lines = evaluate_run(
        data.run,
        metrics,
        place.test_split,
        invert_steps=INVERT_STEPS[place.budget],
        importance_samples=IMPORTANCE_SAMPLES[place.budget],
        options=place.options(references=count),
    )
    by_name: dict[str, Line] = {line["metric"]: line for line in lines}
    found: dict[str, Any] = {
        "reconstructions": count,
        "latents_by": by_name["psnr"]["latents_by"],
        "psnr": by_name["psnr"]["value"],
        "psnr_of_mean_squared_error": by_name["psnr"]["details"]["psnr_of_mean_mse"],
        "reconstruction_distance": by_name[f"r{distance}"]["value"],
    }
    bounds = {name: line["value"] for name, line in by_name.items() if name.endswith(("_nats", "_bits_per_dim"))}
    return found | ({"likelihood": bounds} if bounds else {})


def measure_samples(name: str, place: Place, protocol: str, priors: list[str]) -> dict[str, Any]:
    """FID by a named protocol against the test split: of rows that get one beside the table's own distance."""
    begin = time.perf_counter()
    run = load_run(place.folder / name)
    priors = [train_code_prior(name, place) if prior == CODES_WORD else prior for prior in priors]
    reference = str(place.statistics) if protocol.startswith("fid-") else place.test_split
    lines = evaluate_run(run, ["fid"], reference, priors=priors, options=place.options(protocol))
    return {
        "distance": "fid",
        "by_prior": _worded({line["prior"]: line["value"] for line in lines}),
        "samples": lines[0]["samples"]["count"],
        "reference": lines[0]["reference"]["id"],
        "evaluation_seconds": round(time.perf_counter() - begin, 1),
    }


def train_code_prior(name: str, place: Place) -> str:
    """The name of the prior over the codes of a row, which is trained where it is not yet."""
    workdir = place.folder / f"{name}-{CODES_WORD}"
    config = code_prior_config(place.folder / name, place.budget)
    train(config, str(workdir), place.data_dir, quiet=True)
    check_finished(workdir.name, load_run(workdir).step, config.total_steps)
    return f"{CODES}{workdir}"


def check_finished(name: str, step: int, steps: int) -> None:
    """InterruptedError where a training was asked to stop before its end: the next call goes on."""
    if step < steps:
        raise InterruptedError(f"{name}: stopped at step {step} of {steps}")


def _worded(by_prior: dict[str, Any]) -> dict[str, Any]:
    """The same without the folder of a prior over codes."""
    return {CODES_WORD if prior.startswith(CODES) else prior: value for prior, value in by_prior.items()}


def _order(value: float | None) -> float:
    return np.inf if value is None else value


def _keep_pictures(data: RunData, place: Place, name: str, prior: str) -> None:
    """The first samples by the best prior, and the first test pictures given back, for the sheet."""
    drawn = SampleSource(data, lambda: stored_or_fitted(data, prior), 0, SHOWN_SAMPLES)
    arrays = {
        "samples": np.concatenate(list(drawn.batches(0, SHOWN_SAMPLES))),
        "prior": np.array(next(iter(_worded({prior: 0})))),
    }
    if data.training_has_latents:
        shown = Subset(open_source(place.test_split, place.data_dir), SHOWN_RECONSTRUCTIONS)
        made = Reconstructions(data, shown, INVERT_STEPS[place.budget])
        pairs = [np.concatenate(side) for side in zip(*made.pairs(0, SHOWN_RECONSTRUCTIONS), strict=True)]
        arrays |= {"originals": pairs[0], "reconstructions": pairs[1]}
    write_npz(place.folder / f"{name}.npz", arrays)
