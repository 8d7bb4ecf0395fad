"""Evaluations from Python: of pictures, of a run, of an autoencoder; the command calls the same functions.

Each comes in two forms: `evaluate...` returns all lines, `prepare...` an `Evaluation` whose `lines()` come as they are
computed. The plan is made, and refused, before anything is computed.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm.errors import UserError
from dfm.evaluation.evaluation import Evaluation, Sampler
from dfm.evaluation.given import Given, as_source, check_count
from dfm.evaluation.likelihood_metrics import why_no_likelihood
from dfm.evaluation.measure import Measured, measure
from dfm.evaluation.metric import RECONSTRUCTIONS
from dfm.evaluation.models import open_autoencoder, open_run
from dfm.evaluation.options import (
    Options,
    Reference,
    cache_folder,
    changed_samples,
    check_protocol,
    common_facts,
    fixed_count,
    open_given_reference,
    protocol_of,
    size_warnings,
    training_warnings,
)
from dfm.evaluation.plan import Resources, make_plan
from dfm.evaluation.protocols import Protocol
from dfm.evaluation.reconstruction import Reconstructions
from dfm.evaluation.references import Statistics, save_statistics
from dfm.evaluation.registry import Request, parse_metrics
from dfm.evaluation.report import Line
from dfm.evaluation.sources import SampleSource, Source, Subset
from dfm.metrics import networks
from dfm.metrics.features import Extractor
from dfm.progress import Progress
from dfm.results import provenance
from dfm.sampling.fitted_priors import check_prior, default_prior, stored_or_fitted
from dfm.sampling.flow_priors import prior_label
from dfm.sampling.learned_priors import classes_of

if TYPE_CHECKING:
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData
    from dfm.training.runs import Run

DEFAULT_COUNT = 10_000
IMPORTANCE_SAMPLES = 50
Metrics = str | Sequence[str]


def evaluate(
    samples: Given,
    reference: Reference = None,
    metrics: Metrics = ("fid",),
    *,
    count: int | None = None,
    seed: int = 0,
    options: Options | None = None,
) -> list[Line]:
    """Metrics on pictures, for any program that has some.

        evaluate(array, reference="cifar10:train", metrics=("fid", "kid"))
        evaluate(sample, reference="cifar10:train", count=50_000)  # sample(first, count) -> uint8 [n, h, w, c]

    Args:
        samples: an array, uint8 [N, H, W, C]; an iterator of such batches; a function (first, count) -> such a batch;
            a folder, an .npz, or a data set such as "cifar10:test".
        reference: likewise, or a file of statistics.
        count: how many pictures an iterator or a function is asked for (an iterator without it is held in memory);
            of a folder or an array a fixed random subset.
        seed: of metrics that draw subsets or directions.

    Returns:
        A line a metric, as `python -m dfm.evaluate` prints it.

    Raises:
        UserError: a metric that cannot be had, before anything is computed, or pictures that cannot be used.
    """
    return list(prepare(samples, reference, metrics, count=count, seed=seed, options=options).lines())


def evaluate_run(
    run: "Run | str | Path", metrics: Metrics = ("fid",), reference: Reference = None, **settings: Any
) -> list[Line]:
    """Metrics on the samples of a run, on its reconstructions and on itself; arguments as of `prepare_run`."""
    return list(prepare_run(run, metrics, reference, **settings).lines())


def evaluate_autoencoder(
    autoencoder: Any, metrics: Metrics = ("reconstruction",), reference: Reference = None, **settings: Any
) -> list[Line]:
    """Metrics on an autoencoder and its reconstructions of the reference; arguments as of `prepare_autoencoder`."""
    return list(prepare_autoencoder(autoencoder, metrics, reference, **settings).lines())


def make_statistics(
    pictures: Given,
    path: str | Path,
    network: str = "inception",
    *,
    count: int | None = None,
    keep_features: bool = False,
    options: Options | None = None,
) -> Measured:
    """Writes an .npz of the statistics of some pictures, which serves as a reference in their place.

    Args:
        pictures, count: see `evaluate`; of a data set one class by `options.label`, of a folder by `options.size`.
        network: a name of `dfm.metrics.networks.NETWORKS`.
        keep_features: features too, for metrics that need more than moments.
    """
    import jax

    options = options or Options()
    opening = {"label": options.label, "size": options.size, "data_dir": options.data_dir}
    source = as_source(pictures, "pictures", count, **opening)
    loaded = networks.load(network, options.weights)
    with Progress(source.count, source.id, "picture", quiet=options.quiet) as progress:
        measured = measure(source, Extractor(loaded, options.batch_size), keep_features, progress.advance)
    if jax.process_index() == 0:
        facts = {"command": options.command, "warnings": measured.warnings, **provenance()}
        save_statistics(path, measured, loaded, facts)
    return measured


def prepare(
    samples: Given,
    reference: Reference = None,
    metrics: Metrics = ("fid",),
    *,
    count: int | None = None,
    seed: int = 0,
    options: Options | None = None,
) -> Evaluation:
    """See `evaluate`."""
    options = options or Options()
    protocol = protocol_of(options)
    wanted = fixed_count("samples", count, protocol.samples, options)
    source = as_source(samples, "samples", wanted, data_dir=options.data_dir, may_resize=False)
    if wanted is not None and wanted != source.count:
        source = Subset(source, wanted)
    source = changed_samples(source, protocol)
    opened = open_given_reference(reference, options, protocol)
    return _prepared(metrics, opened, [Sampler(lambda seed: source)], source, None, protocol, options, seeds=[seed])


def prepare_run(
    run: "Run | str | Path",
    metrics: Metrics = ("fid",),
    reference: Reference = None,
    *,
    which: str | int = "latest",
    priors: Sequence[str] | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    repeats: int = 1,
    temperature: float = 1.0,
    invert_steps: int = 300,
    importance_samples: int = IMPORTANCE_SAMPLES,
    options: Options | None = None,
) -> Evaluation:
    """See `evaluate_run`.

    Args:
        run: opened, or its folder, whose checkpoint `which` is opened: "latest", "best" or a step.
        priors: names of `dfm.priors.PRIORS`, fitted to the training's latents where they are not yet; or of
            `dfm.priors.LEARNED`; None: `dfm.sampling.default_prior`.
        num_samples: of each prior and seed; None: what the protocol says, or 10,000.
        seed: sample i depends on it and on i alone.
        repeats: seeds `seed`, `seed` + 1, ...: mean and spread over them.
        temperature: factor of the latents' deviations.
        invert_steps: for reconstructions of pictures that have no latents in a table.
        importance_samples: k of the bound `iwae`.
    """
    options = options or Options()
    check_count("repeats", repeats)
    check_count("importance_samples", importance_samples)
    protocol = protocol_of(options)
    data = open_run(run, which, options.data_dir)
    count = fixed_count("samples", num_samples, protocol.samples, options) or DEFAULT_COUNT
    trained_label = data.run.config["dataset"].get("label", -1)
    opened = open_given_reference(reference, options, protocol, trained_label)
    names = [default_prior(data)] if priors is None else priors
    samplers = [_run_sampler(data, name, count, temperature, protocol, options) for name in names]
    assert samplers[0].sources is not None
    return _prepared(
        metrics,
        opened,
        samplers,
        samplers[0].sources(seed),
        data,
        protocol,
        options,
        seeds=range(seed, seed + repeats),
        invert_steps=invert_steps,
        importance_samples=importance_samples,
        folder=Path(data.run.workdir) / "evaluation",
    )


def prepare_autoencoder(
    autoencoder: Any,
    metrics: Metrics = ("reconstruction",),
    reference: Reference = None,
    *,
    which: str | int = "latest",
    seed: int = 0,
    options: Options | None = None,
) -> Evaluation:
    """See `evaluate_autoencoder`.

    Args:
        autoencoder: a folder of diffusers, a .safetensors file or a run, or (model, params).
        reference: pictures to reconstruct; latents and smoothness are those of them, and the prior is N(0, I).
    """
    options = options or Options()
    protocol = protocol_of(options)
    opened = open_given_reference(reference, options, protocol)
    if opened is None or isinstance(opened, Statistics):
        raise UserError("an autoencoder needs a reference: pictures such as cifar10:test or folder:PATH")
    data = open_autoencoder(autoencoder, which, opened, options.data_dir)

    def normal() -> "Prior":
        from dfm.models.latent_vectors import latent_size
        from dfm.priors.gaussian import Normal

        return Normal(latent_size(data.run.model))

    return _prepared(metrics, opened, [Sampler(None, "normal", normal)], opened, data, protocol, options, seeds=[seed])


def _prepared(
    metrics: Metrics,
    reference: Source | Statistics | None,
    samplers: list[Sampler],
    probe: Source,
    data: "RunData | None",
    protocol: Protocol,
    options: Options,
    seeds: Sequence[int],
    **more: Any,
) -> Evaluation:
    """The plan, with everything that the three kinds share. `probe`: any of the sources, for its count and shape."""
    requests = parse_metrics(metrics)
    sampled = samplers[0].sources is not None
    resources = Resources(
        sampled,
        data is not None,
        reference,
        probe.count,
        probe.shape,
        options.weights,
        latents=data is None or data.training_has_latents,
        why_no_likelihood=None if data is None else why_no_likelihood(data.run),
        why_no_reconstructions=_why_no_reconstructions(requests, data, reference),
    )
    plan = make_plan(requests, resources)
    check_protocol(requests, reference, protocol, options)
    warnings = size_warnings(probe, reference) + training_warnings(data, reference)
    return Evaluation(
        plan=plan,
        samplers=samplers,
        reference=reference,
        seeds=seeds,
        batch_size=options.batch_size,
        cache=cache_folder(options),
        data=data,
        facts=common_facts(options, protocol, data),
        warnings=warnings,
        quiet=options.quiet,
        note=options.note,
        **more,
    )


def _why_no_reconstructions(
    requests: list[Request], data: "RunData | None", reference: Source | Statistics | None
) -> str | None:
    """What would stop them, where some are asked for: said before other metrics have worked for hours."""
    wanted = any(request.entry.of == RECONSTRUCTIONS for request in requests)
    if not wanted or data is None or reference is None or isinstance(reference, Statistics):
        return None
    try:
        Reconstructions(data, reference, invert_steps=0)
    except UserError as error:
        return str(error)
    return None


def _run_sampler(
    data: "RunData", name: str, count: int, temperature: float, protocol: Protocol, options: Options
) -> Sampler:
    """Samples by one prior, which is fitted when they are wanted where it is not yet."""
    check_prior(data, name)

    @functools.cache
    def prior() -> "Prior":
        return stored_or_fitted(data, name, options.note, options.quiet)

    conditional = data.run.model.classes or classes_of(name)
    label = options.label if conditional and options.label != -1 else None

    def sources(seed: int) -> Source:
        return changed_samples(SampleSource(data, prior, seed, count, temperature, label), protocol)

    return Sampler(sources, prior_label(name), prior, temperature)
