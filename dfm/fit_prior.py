"""Fits a density to the latents of a trained run and stores it as <workdir>/priors/<prior>.npz."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from dfm import priors
from dfm.command_line import Meaning, Parser, check_seed, checkpoint, run_command, say
from dfm.errors import UserError
from dfm.priors import DEFAULT_PRIOR, PRIORS

EXAMPLES = """The latents are those of the training pictures: the table, or what the encoder says. One JSON line on
standard output gives the mean log-likelihood in nats a picture: of the training latents, and of the test split's where
there is an encoder. dfm.sample uses the stored prior as long as the checkpoint is the same, and otherwise fits it again
with the same options.

examples:
  python -m dfm.fit_prior --workdir=runs/digits --prior=gmm
  python -m dfm.fit_prior --workdir=runs/mnist --prior=gmm --components=20 --which=best
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
    of_mixtures: Meaning = ("--prior=gmm", lambda args: args.prior == "gmm")
    parser = Parser(
        prog="dfm.fit_prior",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meanings={"components": of_mixtures, "seed": of_mixtures},
    )
    add = parser.add_argument
    add("--workdir", required=True, help="folder of the run")
    add("--prior", default=DEFAULT_PRIOR, choices=PRIORS, help=f"default {DEFAULT_PRIOR}")
    add("--components", type=int, metavar="N", help="of the mixture; default 10")
    add("--seed", type=int, metavar="N", help="of the mixture's start; default 0")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="of the prior, as its class has them")
    add("--which", type=checkpoint, default="latest", metavar="latest|best|STEP", help="checkpoint; default latest")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--batch_size", type=int, metavar="N", help="pictures that the encoder sees at once")
    add("--quiet", action="store_true", help="no progress bar and no notes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
