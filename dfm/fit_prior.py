"""Fits a density to the latents of a trained run and stores it as <workdir>/priors/<prior>.npz."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from dfm import priors
from dfm.command_line import Parser, check_seed, checkpoint, run_command, say
from dfm.errors import UserError
from dfm.priors import DEFAULT_PRIOR, PRIORS

EXAMPLES = """The latents are those of the training pictures: the table, or what the encoder says; of a conditional
model the prior is fitted class by class. One JSON line on standard output gives the mean log-likelihood in nats a
picture (of two_stage a lower bound): of the training latents, and of the test split's where there is an encoder.
dfm.sample uses the stored prior as long as the checkpoint is the same, and otherwise fits it again with the same
options.

options by --option:
  gmm        components (10), seed
  two_stage  width (512, three layers), steps (4000), batch_size (256), learning_rate (0.001), seed
  flow       couplings (8), width (256), steps (4000), batch_size (256), learning_rate (0.001), seed

examples:
  python -m dfm.fit_prior --workdir=runs/digits --prior=gmm
  python -m dfm.fit_prior --workdir=runs/mnist --prior=gmm --components=20 --which=best
  python -m dfm.fit_prior --workdir=runs/ae --prior=flow --option=steps=10000 --seed=1
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line that says what is wrong."""
    return run_command("dfm.fit_prior", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    args = _parser().parse_args(arguments)
    if args.seed is not None:
        check_seed(args.seed)

    from dfm import results
    from dfm.sampling import RunData, fit_prior, store_prior
    from dfm.training.runs import load_run

    run = load_run(args.workdir, args.which)
    start = time.perf_counter()
    data = RunData(run, args.data_dir, args.batch_size)
    given = {"components": args.components, "seed": args.seed}
    options = {name: value for name, value in given.items() if value is not None} | _options(args.prior, args.option)
    prior, facts = fit_prior(data, args.prior, args.quiet, **options)
    path = store_prior(run, prior, facts)
    if facts["count"] <= facts["dimension"] and not args.quiet:
        say(
            f"note: only {facts['count']} latents for {facts['dimension']} dimensions: samples stay in their span, "
            "and the likelihood says little"
        )
    report = {"what": "prior", "prior": args.prior, "file": str(path), **facts}
    print(results.dump(report | {"seconds": round(time.perf_counter() - start, 3)}))


def _options(prior: str, words: Sequence[str]) -> dict[str, Any]:
    """The values of --option, of the types that the family's defaults have; `fit_prior` refuses unknown names."""
    found: dict[str, Any] = {}
    known = priors.find(prior).options if words else {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--option={word}: not of the form NAME=VALUE")
        kind = type(known.get(name, text))
        try:
            found[name] = kind(text)
        except ValueError:
            raise UserError(f"--option={word}: {text!r} is no {kind.__name__}") from None
    return found


def _parser() -> Parser:
    parser = Parser(
        prog="dfm.fit_prior", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workdir", required=True, help="folder of the run")
    add("--prior", default=DEFAULT_PRIOR, choices=PRIORS, help=f"default {DEFAULT_PRIOR}")
    add("--components", type=int, metavar="N", help="of a mixture; default 10")
    add("--seed", type=int, metavar="N", help="of a fit that is random (gmm, two_stage, flow); default 0")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="of the prior, see below")
    add("--which", type=checkpoint, default="latest", metavar="latest|best|STEP", help="checkpoint; default latest")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--batch_size", type=int, metavar="N", help="pictures that the encoder sees at once")
    add("--quiet", action="store_true", help="no progress bar and no notes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
