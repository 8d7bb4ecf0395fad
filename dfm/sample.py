"""Pictures from a trained run: samples, reconstructions, interpolations, traversals, inversions, morphs; single
pictures through an autoencoder.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm.command_line import Meaning, Meanings, Parser, check_seed, checkpoint, run_command, say
from dfm.errors import UserError
from dfm.priors import DEFAULT_PRIOR, LEARNED, PRIORS
from dfm.priors import check as check_prior_name
from dfm.registry import nearest

if TYPE_CHECKING:
    from dfm.training.runs import Run

EXAMPLES = """what there is (each a PNG grid or a GIF in the folder, with a JSON file beside it and a line on stdout):
  samples          pictures of latents drawn from a prior
  reconstructions  originals, each with its reconstruction to the right, and PSNR: pictures of the training where
                   latents are a table, of the test split where there is an encoder
  interpolation    from test picture --from to --to, or, without these, a row for each pair of neighbouring classes
                   (a class is shown by the training picture whose latent points most towards its class)
  traversal        a row for each principal direction of the latents (or for each dimension), the others held
  invert           latents of test pictures, optimised with the decoder frozen; stored in invert.npz
  morph            looping GIF through samples, or through the test pictures of --pictures
  attribute        a row for each sample, or test picture of --pictures: z + alpha v, v = mean latent of the training
                   pictures with --attribute minus mean of those without; v is stored in attribute.npz

examples:
  python -m dfm.sample --workdir=runs/digits --what=samples,reconstructions,interpolation --output=pictures
  python -m dfm.sample --workdir=runs/mnist --output=pictures --prior=gmm --seed=3 --count=100 --size=256
  python -m dfm.sample --workdir=runs/vq --prior=codes:runs/codes --class=3 --output=pictures
  python -m dfm.sample --workdir=runs/mnist --what=interpolation --from=12 --to=40 --output=pictures
  python -m dfm.sample --workdir=runs/mnist --what=invert --pictures=0,7,12 --steps=1000 --output=pictures
  python -m dfm.sample --workdir=runs/mnist --what=morph --count=8 --which=best --output=pictures
  python -m dfm.sample --workdir=runs/mnist --what=attribute --attribute=label:7 --prior=gmm --output=pictures
  python -m dfm.sample --vae=FOLDER --encode=photo.png --output=photo.npz
  python -m dfm.sample --vae=FOLDER --decode=photo.npz --output=again.png
  python -m dfm.sample --vae=FOLDER --encode=PHOTOS --output=LATENTS --pad_to=64     a folder of pictures, and back
  python -m dfm.sample --vae=FOLDER --decode=LATENTS --output=AGAIN
"""
WHATS = ("samples", "reconstructions", "interpolation", "traversal", "invert", "morph", "attribute")
PATHS = ("linear", "spherical")
BY_INVERSION = ("invert", "interpolation", "traversal", "morph", "attribute")
# option -> the figures that look at it, each as the argument of this name
FIGURES_OF = {
    "prior": ("samples", "morph", "attribute"),
    "seed": ("samples", "morph", "attribute"),
    "temperature": ("samples", "morph", "attribute"),
    "count": ("samples", "reconstructions", "invert", "morph", "attribute"),
    "pictures": ("reconstructions", "invert", "morph", "attribute"),
    "label": ("samples", "interpolation", "traversal", "morph", "attribute"),
    "start_picture": ("interpolation", "traversal"),
    "end_picture": ("interpolation",),
    "paths": ("interpolation", "morph"),
    "columns": ("interpolation", "traversal", "attribute"),
    "attribute": ("attribute",),
    "alpha": ("attribute",),
    "rows": ("traversal",),
    "directions": ("traversal",),
    "span": ("traversal",),
    "frames": ("morph",),
    "seconds": ("morph",),
}
SEARCH = ("steps", "starts", "optimizer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line that says what is wrong."""
    return run_command("dfm.sample", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    args = _parser().parse_args(arguments)
    _check(args)
    if args.vae:
        _convert_picture(args)
        return

    from dfm.sampling import default_prior
    from dfm.sampling.checks import check_class, check_figure
    from dfm.sampling.figures import FIGURES, Notes, Search
    from dfm.sampling.outputs import Outputs
    from dfm.sampling.painter import Painter
    from dfm.sampling.run_data import RunData
    from dfm.training.runs import load_run

    run = load_run(args.workdir, args.which)
    height, width = picture_size(args.size, run)
    data, painter = RunData(run, args.data_dir), Painter(run, height, width, args.batch_size)
    args.prior = args.prior or default_prior(data)
    check_class(data, args.label, args.prior)
    chosen: dict[str, dict[str, Any]] = {
        what: {name: getattr(args, name) for name, figures in FIGURES_OF.items() if what in figures}
        for what in args.what
    }
    for what, options in chosen.items():  # all of them before the first is begun
        check_figure(what, data, painter, args.scale, options)
    command = ["python", "-m", "dfm.sample", *(sys.argv[1:] if arguments is None else arguments)]
    outputs = Outputs(args.output, command, {"step": int(run.step)}, args.scale)
    notes = Notes((lambda line: None) if args.quiet else say, args.quiet)
    search = Search(**{name: getattr(args, name) for name in SEARCH})
    for what, options in chosen.items():
        if what in BY_INVERSION:
            options["search"] = search
        FIGURES[what](data, painter, outputs, **options, notes=notes)


def _convert_picture(args: argparse.Namespace) -> None:
    """--encode and --decode: one file in and one out, or a folder of each."""
    from dfm.files import check_writable, refuse_inside, refuse_same_file
    from dfm.picture_files import picture_format
    from dfm.sampling.autoencoder_files import FileCoder, convert_all, pairs_of_folder
    from dfm.training.pretrained import load_autoencoder

    source, output = Path(args.encode or args.decode), Path(args.output)
    refuse_same_file(output, [source])
    if source.is_dir():
        pairs = pairs_of_folder(source, output, ".npz" if args.encode else ".png")
        coder = FileCoder(*load_autoencoder(args.vae, args.which), args.pad_to)
        convert_all(coder.encode_file if args.encode else coder.decode_file, pairs, print)
        return
    if args.encode and not args.output.endswith(".npz"):
        raise UserError(f"{args.output}: latents are written as .npz")
    if args.decode:
        picture_format(args.output)
    check_writable(args.output)
    refuse_inside(args.output, [args.vae])
    coder = FileCoder(*load_autoencoder(args.vae, args.which), args.pad_to)
    print(coder.encode_file(source, output) if args.encode else coder.decode_file(source, output))


def _meanings() -> Meanings:
    """When an option has a meaning: with --workdir, for one of the figures that look at it; with --vae, see below."""

    def of_figures(figures: Sequence[str]) -> Meaning:
        return f"--workdir and --what={','.join(figures)}", lambda args: args.workdir and set(figures) & set(args.what)

    of_a_run: Meaning = ("--workdir", lambda args: args.workdir)
    meanings = {name: of_figures(figures) for name, figures in FIGURES_OF.items()}
    meanings |= {name: of_figures(BY_INVERSION) for name in SEARCH}
    meanings |= {name: of_a_run for name in ("what", "data_dir", "batch_size", "size", "scale")}
    meanings |= {name: ("--vae", lambda args: args.vae) for name in ("encode", "decode")}
    meanings["which"] = ("a run, and --vae names none", lambda args: args.workdir or not _is_other(args.vae))
    return meanings | {"pad_to": ("--encode", lambda args: args.encode)}


def _is_other(vae: str) -> bool:
    from dfm.training.run_folder import holds_other  # JAX, which a command line is parsed before

    return holds_other(vae)


def _parser() -> Parser:
    parser = Parser(
        prog="dfm.sample",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meanings=_meanings(),
    )
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", help="folder of the run")
    where.add_argument("--vae", metavar="FOLDER|FILE", help="autoencoder for --encode or --decode, see below")
    add(
        "--output",
        required=True,
        metavar="FOLDER",
        help="where pictures go, made when missing; with --vae, a file or folder",
    )
    add("--what", type=_whats, default=("samples",), metavar="WHAT,...", help=f"of {', '.join(WHATS)}; default samples")
    add("--which", type=checkpoint, default="latest", metavar="latest|best|STEP", help="checkpoint; default latest")
    add("--data_dir", help="prepared data; default $DFM_DATA_DIR, or ~/.cache/dfm/data")
    add("--batch_size", type=int, metavar="N", help="pictures at once; changes no picture")
    add("--quiet", action="store_true", help="no progress bars and no notes")

    group = parser.add_argument_group("samples, morph, attribute")
    group.add_argument(
        "--prior",
        metavar="PRIOR",
        help=f"{', '.join(PRIORS)}, fitted when needed; {', '.join(LEARNED)}, learned; default {DEFAULT_PRIOR}, "
        "of a GAN normal",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="sample i depends on seed and i alone")
    count = "samples (64), pictures reconstructed (32) or inverted (16), stations of a morph (6), moved (8)"
    group.add_argument("--count", type=int, metavar="N", help=count)
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="factor of the latents' deviations")
    group.add_argument("--class", dest="label", type=int, metavar="LABEL", help="of a conditional model")

    group = parser.add_argument_group("pictures by number, from 0")
    group.add_argument(
        "--pictures", type=_numbers, metavar="I,J,...", help="for reconstructions, invert, morph, attribute"
    )
    group.add_argument(
        "--from",
        dest="start_picture",
        type=int,
        metavar="I",
        help="test picture: start of an interpolation, centre of traversals",
    )
    group.add_argument("--to", dest="end_picture", type=int, metavar="J", help="test picture: end of an interpolation")

    group = parser.add_argument_group("interpolation, traversal, morph")
    group.add_argument(
        "--paths",
        type=_paths,
        default=PATHS,
        metavar="PATH,...",
        help="of linear, spherical (around the origin); default both, a file each",
    )
    group.add_argument("--columns", type=int, default=11, metavar="N", help="pictures a row; default 11")
    group.add_argument("--rows", type=int, default=10, metavar="N", help="directions of a traversal; default 10")
    group.add_argument(
        "--directions",
        default="principal",
        choices=("principal", "coordinates"),
        help="of a traversal, largest spread first; default principal",
    )
    group.add_argument("--span", type=float, default=3.0, metavar="S", help="standard deviations, -S to S; default 3")
    group.add_argument("--frames", type=int, default=24, metavar="N", help="of a morph between stations; default 24")
    group.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of a morph between stations; default 1")

    group = parser.add_argument_group("attribute")
    group.add_argument("--attribute", type=_attribute, metavar="label:N", help="what is added, such as label:7")
    group.add_argument("--alpha", type=float, default=1.0, metavar="A", help="of v in the last column; default 1")

    group = parser.add_argument_group("invert (and test pictures of a run without encoder)")
    group.add_argument("--steps", type=int, default=300, metavar="N", help="of the optimiser; default 300")
    group.add_argument("--starts", type=int, default=4, metavar="N", help="tried for each picture; default 4")
    group.add_argument("--optimizer", default="adam", choices=("adam", "lbfgs"), help="default adam")

    group = parser.add_argument_group("autoencoder: a run, a folder of diffusers or a .safetensors file (--vae)")
    group.add_argument("--encode", metavar="PICTURE|FOLDER", help="of any size; its latents become the .npz --output")
    group.add_argument("--decode", metavar="NPZ|FOLDER", help="latents, height and width; the picture becomes --output")
    group.add_argument(
        "--pad_to", type=int, metavar="N", help="pad to multiples of N pixels: fewer compilations; default the stride"
    )

    group = parser.add_argument_group("size")
    group.add_argument("--size", metavar="N|HxW", help="paint at this longest side, or height x width, in pixels")
    group.add_argument("--scale", type=int, metavar="N", help="every pixel as N x N; default: tiny ones to about 64")
    return parser


def _check(args: argparse.Namespace) -> None:
    """What argparse cannot say, before anything is loaded."""
    if args.workdir and "attribute" in args.what and args.attribute is None:
        raise UserError("--what=attribute needs --attribute=label:N")
    if not math.isfinite(args.alpha):
        raise UserError(f"--alpha must be a number, not {args.alpha}")
    if args.vae and bool(args.encode) == bool(args.decode):
        raise UserError("--vae takes one of --encode and --decode")
    positive = ("count", "columns", "rows", "frames", "starts", "scale", "batch_size", "pad_to")
    for name in positive:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    if args.steps < 0:
        raise UserError(f"--steps must be at least 0, not {args.steps}")
    run = args.workdir or args.vae
    if Path(args.output).resolve().is_relative_to((Path(run) / "checkpoints").resolve()):
        raise UserError(f"{args.output}: is among the checkpoints of {run}; name another output")
    check_seed(args.seed)
    if args.prior is not None:
        check_prior_name(args.prior)
    for name, least in (("temperature", 0.0), ("span", 0.0), ("seconds", 0.01)):
        value = getattr(args, name)
        if not least <= value < math.inf:
            raise UserError(f"--{name} must be a number from {least:g} on, not {value}")


def picture_size(text: str | None, run: "Run") -> tuple[int, int]:
    """Height and width in pixels that `--size` asks for; one number is the longest side, proportions kept."""
    height, width = run.model.height, run.model.width
    if text is None:
        return height, width
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() and 1 <= int(word) <= 8192 for word in words):
        raise UserError(f"--size must be pixels such as 256 or 256x192 (height x width), 1 to 8192, not {text!r}")
    if len(words) == 2:
        return int(words[0]), int(words[1])
    longest = int(words[0])
    return max(1, round(longest * height / max(height, width))), max(1, round(longest * width / max(height, width)))


def _whats(text: str) -> tuple[str, ...]:
    return _known(text, WHATS)


def _paths(text: str) -> tuple[str, ...]:
    return _known(text, PATHS)


def _attribute(text: str) -> int:
    kind, _, value = text.partition(":")
    if kind != "label" or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no attribute such as label:7")
    return int(value)


def _known(text: str, known: Sequence[str]) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in known:
            raise argparse.ArgumentTypeError(f"unknown {word!r}{nearest(word, known)}")
    if not words:
        raise argparse.ArgumentTypeError(f"names none of {', '.join(known)}")
    return words


def _numbers(text: str) -> list[Any]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0,7,12")
    return [int(word) for word in words]


if __name__ == "__main__":
    sys.exit(main())
