"""From the command line to an evaluation: opens what it names, decides what can be done, and runs it."""

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm.errors import UserError
from dfm.evaluation import protocols
from dfm.evaluation.jobs import Evaluation, Line, Sampler, run_facts
from dfm.evaluation.plan import RECONSTRUCTION, Means, Plan, Wish, make_plan, parse_metrics
from dfm.evaluation.progress import Progress
from dfm.evaluation.protocols import Protocol
from dfm.evaluation.references import Statistics, open_reference
from dfm.evaluation.sources import (
    DatasetSource,
    SampleSource,
    Source,
    Subset,
    Transformed,
    check_finite_parameters,
    open_source,
)
from dfm.metrics.networks import WeightFiles

if TYPE_CHECKING:
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData

DEFAULT_COUNT = 10_000
RECONSTRUCTED_PIXELS = 2**18  # at once, by an autoencoder: four pictures of 256 x 256
Reference = Source | Statistics | None


def lines(args: argparse.Namespace, note: Callable[[str], None]) -> Iterator[Line]:
    """Every result that was asked for. The plan is made, and refused, before anything is computed."""
    wishes = parse_metrics(args.metrics or ("reconstruction" if args.vae else "fid"))
    protocol = protocols.find(args.protocol) if args.protocol else Protocol()
    data = open_run(args) if args.workdir else None
    reference = chosen_reference(args, protocol, data)
    samplers: list[Sampler] = []
    if args.vae:
        probe: Source = check_autoencoder_job(wishes, reference)
        data = open_autoencoder(args, probe)
    else:
        samplers = run_samplers(args, protocol, data, note) if data else [stored_sampler(args, protocol)]
        probe = samplers[0].sources(args.seed)
    means = Means(data is not None, reference, probe.count, probe.shape, weight_files(args))
    plan = make_plan(wishes, means)
    check_protocol(args, protocol, reference, plan)
    warnings = size_warnings(probe, reference) + training_warnings(data, reference)
    evaluation = Evaluation(
        plan=plan,
        reference=reference,
        files=means.files,
        data=data,
        note=note,
        seeds=range(args.seed, args.seed + args.repeats),
        batch_size=args.batch_size,
        cache=cache_folder(args),
        facts=common_facts(args, protocol, data),
        progress=Progress(args.quiet),
        invert_steps=args.invert_steps,
        pictures=Path(args.workdir) / "evaluation" if args.workdir else None,
        warnings=warnings,
    )
    for sampler in samplers:
        yield from evaluation.sample_lines(sampler)
        yield from evaluation.honesty_lines(sampler)
    yield from evaluation.reconstruction_lines()


def open_run(args: argparse.Namespace) -> "RunData":
    from dfm.sampling import RunData
    from dfm.training.runs import load_run

    run = load_run(args.workdir, int(args.which) if args.which.isdecimal() else args.which)
    check_finite_parameters(run)
    return RunData(run, args.data_dir)


def check_autoencoder_job(wishes: list[Wish], reference: Reference) -> Source:
    """The pictures to reconstruct; UserError where there are none, or where samples are asked for."""
    for wish in wishes:
        if wish.metric not in RECONSTRUCTION:
            raise UserError(f"{wish.name}: an autoencoder alone (--vae) makes reconstructions and no samples")
    if reference is None or isinstance(reference, Statistics):
        raise UserError("--vae needs --reference: pictures to reconstruct, such as cifar10:test or folder:PATH")
    return reference


def open_autoencoder(args: argparse.Namespace, pictures: Source) -> "RunData":
    """The autoencoder as a run of no training that paints pictures of this size."""
    from ml_collections import ConfigDict

    from dfm.conversion.config_files import model_attributes
    from dfm.models.latent_vectors import LatentVectors
    from dfm.sampling import RunData
    from dfm.training.pretrained import load_autoencoder
    from dfm.training.runs import Run

    height, width, channels = pictures.shape
    model, params = load_autoencoder(args.vae, int(args.which) if args.which.isdecimal() else args.which)
    if channels != model.in_channels:
        raise UserError(f"{pictures.id}: has {channels} channels, and the model is for {model.in_channels}")
    nothing = {"name": "none", "split": "none", "label": -1}
    config = ConfigDict({"model": {"name": "autoencoder_kl", **model_attributes(model)}, "dataset": nothing})
    painted = LatentVectors(model, height, width, channels)
    run = Run(config, Path(args.vae), 0, painted, None, params, None)
    check_finite_parameters(run)
    return RunData(run, args.data_dir, batch_size=max(1, RECONSTRUCTED_PIXELS // (height * width)))


def chosen_reference(args: argparse.Namespace, protocol: Protocol, data: "RunData | None") -> Reference:
    """The reference, its class where the run has one, its subset and what the protocol does to it."""
    if args.reference is None:
        return None
    label = args.label
    if label is None:
        label = data.run.config["dataset"].get("label", -1) if data else -1
    reference = open_reference(args.reference, args.data_dir, label, args.size)
    count = fixed_count("num_references", args.num_references, protocol.references, args.protocol)
    if isinstance(reference, Statistics):
        if args.num_references or protocol.change_references:
            raise UserError(f"{args.reference}: holds statistics; --num_references and {args.protocol} need pictures")
        return reference
    if count is not None and count != reference.count:
        reference = Subset(reference, count)
    if protocol.change_references:
        reference = Transformed(reference, protocol.change_references, reference.id)
    return reference


def fixed_count(flag: str, wanted: int | None, fixed: int | None, protocol: str | None) -> int | None:
    if wanted is not None and fixed is not None and wanted != fixed:
        raise UserError(f"--protocol={protocol} fixes {fixed:,} pictures; leave --{flag} out")
    return wanted or fixed


def stored_sampler(args: argparse.Namespace, protocol: Protocol) -> Sampler:
    source = open_source(args.samples, args.data_dir)
    count = fixed_count("num_samples", args.num_samples, protocol.samples, args.protocol)
    if count is not None and count != source.count:
        source = Subset(source, count)
    return Sampler(lambda seed: _changed(source, protocol))


def run_samplers(
    args: argparse.Namespace, protocol: Protocol, data: "RunData", note: Callable[[str], None]
) -> list[Sampler]:
    """One for each prior; a prior that is not fitted yet is fitted when its samples are wanted."""
    from dfm.sampling import stored_or_fitted

    count = fixed_count("num_samples", args.num_samples, protocol.samples, args.protocol) or DEFAULT_COUNT

    def sampler(name: str) -> Sampler:
        @functools.cache
        def prior() -> "Prior":
            return stored_or_fitted(data, name, note)

        def sources(seed: int) -> Source:
            return _changed(SampleSource(data.run, prior, seed, count, args.temperature), protocol)

        return Sampler(sources, name, prior, args.temperature)

    return [sampler(name) for name in args.prior]


def _changed(source: Source, protocol: Protocol) -> Source:
    if protocol.change_samples is None:
        return source
    return Transformed(source, protocol.change_samples, source.id)


def check_protocol(args: argparse.Namespace, protocol: Protocol, reference: Reference, plan: Plan) -> None:
    """A legacy protocol is a whole: its split, and nothing but metrics on samples."""
    if protocol.change_samples and (plan.needs_reconstructions or plan.honesty):
        raise UserError(f"--protocol={args.protocol} is for metrics on samples only")
    inner = innermost(reference)
    if protocol.reference_split and isinstance(inner, DatasetSource):
        if inner.dataset.split != protocol.reference_split:
            wanted = f"{inner.dataset.name}:{protocol.reference_split}"
            raise UserError(f"--protocol={args.protocol} is against --reference={wanted}, not {inner.id}")


def innermost(reference: Any) -> Any:
    """The source behind subsets and transformations."""
    while isinstance(reference, Subset | Transformed):
        reference = reference.source
    return reference


def size_warnings(samples: Source, reference: Reference) -> list[str]:
    """Different sizes are legal, since the network resizes both, and seldom meant."""
    if reference is None or isinstance(reference, Statistics) or samples.shape[:2] == reference.shape[:2]:
        return []
    found = [f"{source.id} are {source.shape[0]}x{source.shape[1]}" for source in (samples, reference)]
    return [f"sizes differ: {found[0]}, {found[1]}"]


def training_warnings(data: "RunData | None", reference: Reference) -> list[str]:
    """A test split that was trained on tests nothing."""
    inner = innermost(reference)
    if data is None or not isinstance(inner, DatasetSource) or not data.test_was_trained_on:
        return []
    trained = data.run.config["dataset"]
    if inner.dataset.name != trained["name"] or "test" not in inner.dataset.split:
        return []
    return [f"the run was trained on {trained['name']}:{trained['split']}: this is no test number"]


def weight_files(args: argparse.Namespace) -> WeightFiles:
    return WeightFiles(args.inception_weights, args.inception_sha256, args.lpips_weights, args.lpips_sha256)


def cache_folder(args: argparse.Namespace) -> Path | None:
    from dfm.data.datasets import default_data_dir

    if args.no_cache:
        return None
    return (Path(args.data_dir).expanduser() if args.data_dir else default_data_dir()) / "evaluation"


def common_facts(args: argparse.Namespace, protocol: Protocol, data: "RunData | None") -> Line:
    from dfm.results import portable_command

    facts: Line = {"protocol": args.protocol or "custom", "command": portable_command(args.command)}
    if protocol.note:
        facts["protocol_note"] = protocol.note
    return facts | (run_facts(data.run) if data else {})
