"""FID and its companions for a trained run, or for any two sets of pictures: one JSON line a metric."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfm.command_line import Meaning, Meanings, Parser, checkpoint, join_processes, run_command, say
from dfm.errors import UserError
from dfm.metrics.weight_files import INCEPTION_SOURCE, WeightFiles
from dfm.priors import DEFAULT_PRIOR, LEARNED, PRIORS
from dfm.priors import check as check_prior_name

if TYPE_CHECKING:
    from dfm.evaluation import Options
    from dfm.evaluation.evaluation import Evaluation

EXAMPLES = """metrics on samples (against --reference, but for is):
  fid, fid_infinity, kid, is, precision_recall, density_coverage, mmd, mind    features of FID's Inception
  fd-digits, kd-digits, precision_recall-digits, ...; -mnist; -lpips           features of other networks
  recognised-digits, recognised-mnist    share that the classifier is as sure of as of nine of ten references
metrics on a model:
  decoder_rank, cost; both: decoder                    rank of its Jacobian; operations of a picture, size of latents
  elbo, iwae; both: likelihood                         nats a picture of --reference, bits/dim over 256 levels; of a VAE
  code_usage                                           share of a VQ-VAE's codes in use, and their perplexity
  psnr, ssim, ms_ssim, lpips, rfid, rfd-digits, ...   reconstructions of --reference; the first five: reconstruction
  memorisation, latents, smoothness; all: diagnostics  nearest training pictures; latents against the prior; the
                                                       stretch of the decoder (local Lipschitz constant)

examples:
  python -m dfm.evaluate --workdir=runs/cifar10 --metrics=fid,kid,precision_recall --num_samples=50000 \\
      --reference=cifar10:train --prior=gmm
  python -m dfm.evaluate --samples=FOLDER_OR_NPZ --reference=FOLDER_OR_NPZ_OR_STATS --metrics=fid
  python -m dfm.evaluate --workdir=runs/vae --metrics=reconstruction --reference=cifar10:test
  python -m dfm.evaluate --vae=FOLDER --metrics=reconstruction --reference=folder:PICTURES --size=256
  python -m dfm.evaluate --workdir=runs/digits --metrics=fd-digits,rfd-digits,diagnostics --reference=digits:test \\
      --prior=normal,gaussian,gmm --pretty
  python -m dfm.evaluate --workdir=runs/cifar10 --protocol=dai-wipf-2019 --reference=cifar10:test
  python -m dfm.evaluate --make_stats=cifar10:train --output=cifar10-train.npz
"""
LARGEST_SIZE = 2**14
OF_EVALUATIONS: Meaning = ("evaluations, not for --make_stats", lambda args: not args.make_stats)
OF_PICTURES: Meaning = ("--reference or --make_stats", lambda args: args.reference or args.make_stats)


def _reads(option: str, args: argparse.Namespace) -> bool:
    """Whether some metric that is asked for looks at this option."""
    from dfm.evaluation.registry import parse_metrics  # JAX, which a command line is parsed before

    return any(option in request.reads for request in parse_metrics(_metrics(args)))


def _of_runs(option: str, metrics: str) -> Meaning:
    return f"runs (--workdir), for metrics {metrics}", lambda args: args.workdir and _reads(option, args)


def _of_weights(option: str, metrics: str) -> Meaning:
    return f"metrics {metrics}", lambda args: _reads(option, args)


MEANINGS: Meanings = {
    "which": (
        "runs (--workdir, or --vae where it names one)",
        lambda args: args.workdir or args.vae and not _is_other(args.vae),
    ),
    "prior": _of_runs("prior", "that draw from it"),
    "repeats": _of_runs("repeats", "on samples"),
    "temperature": _of_runs("temperature", "that look at samples"),
    "invert_steps": _of_runs("invert_steps", "on reconstructions"),
    "importance_samples": _of_runs("importance_samples", "with importance weights (iwae)"),
    "num_samples": (
        "samples (--samples; --workdir, for metrics that look at samples)",
        lambda args: args.samples or args.workdir and _reads("num_samples", args),
    ),
    **{name: _of_weights(name, "with FID's Inception") for name in ("inception_weights", "inception_sha256")},
    **{name: _of_weights(name, "with LPIPS") for name in ("lpips_weights", "lpips_sha256")},
    "seed": OF_EVALUATIONS,
    "reference": OF_EVALUATIONS,
    "protocol": OF_EVALUATIONS,
    "pretty": OF_EVALUATIONS,
    "no_cache": OF_EVALUATIONS,
    "num_references": ("--reference", lambda args: args.reference),
    "size": OF_PICTURES,
    "label": OF_PICTURES,
    "keep_features": ("--make_stats", lambda args: args.make_stats),
    "coordinator_address": ("--distributed", lambda args: args.distributed),
    "process_count": ("--distributed", lambda args: args.distributed),
    "process_id": ("--distributed", lambda args: args.distributed),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line that says what is wrong."""
    return run_command("dfm.evaluate", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    args = _parser().parse_args(arguments)
    _check(args)
    if args.distributed:
        join_processes(args.coordinator_address, args.process_count, args.process_id)
    args.command = ["python", "-m", "dfm.evaluate", *(sys.argv[1:] if arguments is None else arguments)]
    if args.make_stats:
        _make_statistics(args)
        return

    import jax

    from dfm.evaluation.report import print_table
    from dfm.results import append_line, dump

    first = jax.process_index() == 0
    lines: list[dict] = []
    warned: set[str] = set()
    for line in _prepared(args, _options(args, first and not args.quiet)).lines():
        lines.append(line)
        for warning in set(line["warnings"]) - warned if first else ():
            say(f"dfm.evaluate: warning: {warning}")
        warned |= set(line["warnings"])
        if first and args.output:
            append_line(args.output, line)
        if first and not args.pretty:
            print(dump(line), flush=True)
    if first and args.pretty:
        print_table(lines, sys.stdout)


def _options(args: argparse.Namespace, speaks: bool = False) -> "Options":
    from dfm.evaluation import Options
    from dfm.results import portable_command

    return Options(
        protocol=args.protocol,
        num_references=args.num_references,
        label=args.label,
        size=args.size,
        data_dir=args.data_dir,
        batch_size=args.batch_size,
        cache=not args.no_cache,
        weights=WeightFiles(args.inception_weights, args.inception_sha256, args.lpips_weights, args.lpips_sha256),
        command=portable_command(args.command),
        note=_note if speaks else lambda text: None,
        quiet=args.quiet,
    )


def _prepared(args: argparse.Namespace, options: "Options") -> "Evaluation":
    """The evaluation that the command asks for."""
    from dfm.evaluation import entry

    metrics = _metrics(args)
    if args.vae:
        return entry.prepare_autoencoder(
            args.vae, metrics, args.reference, which=args.which, seed=args.seed, options=options
        )
    if args.samples:
        return entry.prepare(
            args.samples, args.reference, metrics, count=args.num_samples, seed=args.seed, options=options
        )
    return entry.prepare_run(
        args.workdir,
        metrics,
        args.reference,
        which=args.which,
        priors=args.prior,
        num_samples=args.num_samples,
        seed=args.seed,
        repeats=args.repeats,
        temperature=args.temperature,
        invert_steps=args.invert_steps,
        importance_samples=args.importance_samples,
        options=options,
    )


def _metrics(args: argparse.Namespace) -> str:
    return args.metrics or ("reconstruction" if args.vae else "fid")


def _note(text: str) -> None:
    say(f"dfm.evaluate: {text}")


def _parser() -> Parser:
    parser = Parser(
        prog="dfm.evaluate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meanings=MEANINGS,
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", help="folder of a run, whose samples and reconstructions are measured")
    what.add_argument("--vae", metavar="FOLDER|FILE", help="autoencoder (diffusers' or a run's) that reconstructs")
    what.add_argument("--samples", metavar="FOLDER|NPZ", help="pictures to evaluate; .npz: images, uint8 [N, H, W, C]")
    what.add_argument("--make_stats", metavar="NAME:SPLIT|FOLDER|NPZ", help="store statistics of these in --output")
    add("--reference", metavar="NAME:SPLIT|FOLDER|NPZ|STATS", help="what to compare with, such as cifar10:train")
    add("--metrics", help="comma-separated, see below; default fid")
    add("--protocol", metavar="NAME", help="fid-50k, fid-10k, fid-2k; legacy: dai-wipf-2019, rae-2020")
    add("--num_samples", type=int, metavar="N", help="samples; default 10,000 of a run, all of a folder")
    add("--num_references", type=int, metavar="N", help="pictures of the reference; default all")
    add("--size", type=int, metavar="N", help="reference folder: shorter sides to N pixels, then the centre")
    add("--label", type=int, metavar="L", help="one class of the reference; default: the run's, where it has one")
    add("--output", metavar="FILE", help="JSON lines are appended to it; with --make_stats the .npz to write")
    add("--pretty", action="store_true", help="a table in place of JSON lines on standard output")
    add("--quiet", action="store_true", help="no progress bars and no notes")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--batch_size", type=int, metavar="N", help="pictures at once in the feature network; changes no number")
    add("--no_cache", action="store_true", help="do not keep features of data sets under the data directory")
    add("--keep_features", action="store_true", help="with --make_stats: features too, for kid and its kind")

    group = parser.add_argument_group("of a run")
    group.add_argument(
        "--which", type=checkpoint, default="latest", metavar="latest|best|STEP", help="checkpoint; default latest"
    )
    group.add_argument(
        "--prior",
        metavar="NAME,...",
        help=f"of {', '.join((*PRIORS, *LEARNED))}; default {DEFAULT_PRIOR}, of a GAN normal",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="sample i depends on seed and i alone")
    group.add_argument("--repeats", type=int, default=1, metavar="R", help="seeds N, N+1, ...: mean and spread")
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="factor of the latents' deviations")
    group.add_argument("--invert_steps", type=int, default=300, metavar="N", help="for pictures outside of a table")
    group.add_argument("--importance_samples", type=int, default=50, metavar="K", help="of iwae; default 50")

    group = parser.add_argument_group("weights (never downloaded)", f"FID's: {INCEPTION_SOURCE}.")
    group.add_argument("--inception_weights", metavar="FILE", help="default $DFM_INCEPTION_WEIGHTS")
    group.add_argument("--inception_sha256", metavar="HASH", help="expected hash of weights that are not the published")
    group.add_argument("--lpips_weights", metavar="FILE", help="default $DFM_LPIPS_WEIGHTS")
    group.add_argument("--lpips_sha256", metavar="HASH", help="likewise")

    group = parser.add_argument_group("several processes (each does its share)")
    group.add_argument("--distributed", action="store_true", help="jax.distributed.initialize first")
    group.add_argument("--coordinator_address", metavar="HOST:PORT", help="where the cluster does not say it by itself")
    group.add_argument("--process_count", type=int, metavar="P")
    group.add_argument("--process_id", type=int, metavar="I")
    return parser


def _is_other(vae: str) -> bool:
    from dfm.training.run_folder import holds_other  # JAX, which a command line is parsed before

    return holds_other(vae)


def _check(args: argparse.Namespace) -> None:
    """What argparse cannot say, before anything is loaded."""
    positive = ("num_samples", "num_references", "size", "batch_size", "repeats", "importance_samples")
    for name, least in {**dict.fromkeys(positive, 1), "invert_steps": 0}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be at least {least}, not {value}")
    if args.size is not None and args.size > LARGEST_SIZE:
        raise UserError(f"--size must be at most {LARGEST_SIZE:,}, not {args.size:,}")
    if not 0 <= args.seed < 2**32 - args.repeats:
        raise UserError(f"--seed must be 0 to {2**32 - 1 - args.repeats}, not {args.seed}")
    if not 0 <= args.temperature < math.inf:
        raise UserError(f"--temperature must be a number from 0 on, not {args.temperature}")
    if args.prior is not None:
        args.prior = [word.strip() for word in args.prior.split(",") if word.strip()]
        for word in args.prior:
            check_prior_name(word)
        if not args.prior:
            raise UserError(f"--prior names none of {', '.join(PRIORS)}")
    if args.make_stats and not (args.output or "").endswith(".npz"):
        raise UserError("--make_stats needs --output=FILE.npz")
    if args.output:
        _check_output(args)


def _check_output(args: argparse.Namespace) -> None:
    """UserError where writing would lose or damage anything that is read, or a file of something else."""
    from dfm.files import check_writable, refuse_inside, refuse_same_file
    from dfm.results import check_appendable, first_entry

    given = (args.samples, args.reference, args.make_stats, args.workdir, args.vae)
    weights = (args.inception_weights, args.lpips_weights)
    inputs = [os.path.expanduser(path.removeprefix("folder:")) for path in (*given, *weights) if path]
    check_writable(args.output)
    refuse_same_file(args.output, inputs)
    output = Path(args.output).resolve()
    if args.workdir and not output.suffix == ".jsonl" and output.is_relative_to(Path(args.workdir).resolve()):
        raise UserError(f"{args.output}: is among the run's own files, where results must be named *.jsonl")
    holds_results = not args.make_stats and output.is_file() and "metric" in (first_entry(output) or {})
    if not holds_results:  # which are an input of nothing, and may grow beside the run
        refuse_inside(args.output, inputs)
    if not args.make_stats:
        check_appendable(args.output)


def _make_statistics(args: argparse.Namespace) -> None:
    import jax

    from dfm.evaluation import make_statistics

    metric, dash, name = _metrics(args).partition("-")
    if "," in name or metric != ("fd" if dash else "fid"):
        raise UserError(f"--make_stats makes statistics of one network: --metrics=fid or fd-NAME, not {args.metrics}")
    measured = make_statistics(
        args.make_stats,
        args.output,
        name if dash else "inception",
        keep_features=args.keep_features,
        options=_options(args),
    )
    if not args.quiet and jax.process_index() == 0:
        say(f"{args.output}: {measured.count:,} pictures of {measured.id}, {_metrics(args)}")


if __name__ == "__main__":
    sys.exit(main())
