"""Command line of the codec: encode, decode, info, compare, bench. `dfm COMMAND --help` shows examples."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dfm import __version__
from dfm.command_line import Meanings, Parser, run_command, use_all_cores
from dfm.errors import UserError
from dfm.files import is_standard_output

EXAMPLES = {
    "encode": """
  dfm encode photo.png -o photo.dfm --quality 60
  dfm encode photo.png -o photo.dfm --target-bytes 40000 --effort 5
  dfm encode photo.png -o photo.dfm --profile weights --quality 30
  dfm encode photo.png -o photo.dfm --preset thesis
  dfm encode holiday/ -o compressed/            every picture of a folder; again: what is still to do
  dfm encode logo.png photo.jpg -o compressed/ --background white
  dfm encode holiday/ -o compressed/ --shard 2/8""",
    "decode": """
  dfm decode photo.dfm -o photo.png --verify
  dfm decode photo.dfm -o - > photo.png
  dfm decode photo.dfm -o small.png --preview 4
  dfm decode compressed/ -o pictures/""",
    "info": """
  dfm info photo.dfm --json""",
    "compare": """
  dfm compare photo.png photo.dfm photo.jpg photo.avif -o compare.html""",
    "bench": """
  dfm bench holiday/ --codecs dfm-latents,dfm-weights,jpeg,webp,avif --output results.json --plot curves.png""",
}
NOTES = {
    "encode": """Colours with a profile become sRGB. A picture whose three channels are equal is coded as grey, and
comes back with one channel.

Of a folder, every picture of it and of its sub-folders is encoded that can be, and written as soon as it is
finished; the other files are listed at the end. The same command again skips what is there already, made of the same
picture with the same settings (.dfm-encoded.jsonl in the output folder says so).

Exit codes: 0; 1: of several files some were not encoded; 2: nothing was; 130: interrupted, what was finished is kept.

""",
    "decode": """Of a folder, every .dfm file of it and of its sub-folders becomes a PNG file.

Exit codes: 0; 1: of several files some were not decoded, or --verify found other pixels than the encoder's; 2: nothing
was decoded.

""",
}
# keywords of dfm.codec.encode_each
SETTINGS = (
    *("profile", "quality", "target_bytes", "target_psnr"),
    *("preset", "effort", "seed", "precision", "basis", "widths"),
)
ENCODE_MEANINGS = {
    "shard": ("folders", lambda args: any(map(os.path.isdir, args.input))),
    "no_overwrite": ("an output that is a file", lambda args: not is_standard_output(args.output)),
}
DECODE_MEANINGS = {
    "no_overwrite": ENCODE_MEANINGS["no_overwrite"],
    "verify": ("a whole picture, not a --preview", lambda args: args.preview is None),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 (not all), or 2 after one line that says what is wrong."""
    return run_command("dfm", _run, arguments)


def _run(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    args = _parser(next((word for word in words if word in COMMANDS), None)).parse_args(words)
    return args.run(args)


def _parser(named: str | None) -> Parser:
    """The commands, and the arguments of the one that is named: those of all would take longer than a decode."""
    parser = Parser(
        prog="dfm",
        description="Compress pictures: one small model fitted to each is its file.",
        epilog=f"examples:{''.join(EXAMPLES.values())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"dfm {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name, (text, add_arguments, run, meanings) in COMMANDS.items():
        epilog = f"{NOTES.get(name, '')}examples:{EXAMPLES[name]}"
        raw = argparse.RawDescriptionHelpFormatter
        meant = meanings if name == named else None
        command = commands.add_parser(
            name, help=text, description=text, epilog=epilog, formatter_class=raw, meanings=meant
        )
        command.set_defaults(run=run)
        if name == named:
            add_arguments(command)
    return parser


def _add_encode(encode: Parser) -> None:
    encode.add_argument("input", nargs="+", help="pictures, folders of pictures, or - for standard input")
    encode.add_argument("-o", "--output", required=True, help=".dfm file, a folder for several files, or -")
    target = encode.add_mutually_exclusive_group()
    target.add_argument("-q", "--quality", type=_quality, metavar="0..100", help="rate by quality; default 75")
    target.add_argument("--target-bytes", type=int, metavar="N", help="the file is never larger; several fits")
    target.add_argument("--target-psnr", type=float, metavar="DB", help="the picture is never worse; several fits")
    encode.add_argument(
        "--profile",
        choices=("auto", "latents", "weights"),
        default="auto",
        help="what the file holds: grids of latents, or the weights of a net; auto, the default: the better one, and "
        "weights where an option of theirs is given",
    )
    encode.add_argument(
        "--preset",
        choices=("default", "thesis"),
        help="of the weights: default, or thesis, the experiment of Asadi 2022, literally (88 kB of float32 weights)",
    )
    encode.add_argument(
        "-e",
        "--effort",
        type=int,
        metavar="1..9",
        help="1, 3, 5, 7, 9: 300, 1,000, 3,000, 10,000, 30,000 steps; default 3, thesis 7",
    )
    encode.add_argument("--precision", choices=("quantized", "float16", "float32"), help="how the weights are stored")
    encode.add_argument(
        "--basis", choices=("cos_sin", "cas"), help="of the weights: functions of a layer; default cos_sin"
    )
    encode.add_argument("--widths", type=_widths, metavar="W,W,...", help="of the weights: hidden widths")
    encode.add_argument("--seed", type=int, default=0, metavar="N", help="of the fit's random numbers; default 0")
    encode.add_argument("--background", metavar="COLOUR", help="behind transparent pixels: white, #rrggbb, ...")
    encode.add_argument("--shard", type=_shard, metavar="I/N", help="only this part of a folder, for several processes")
    _common(encode)


def _add_decode(decode: Parser) -> None:
    decode.add_argument("input", nargs="+", help=".dfm files, folders of them, or - for standard input")
    to = "picture, format by suffix; a folder for several; - for PNG on standard output"
    decode.add_argument("-o", "--output", required=True, help=to)
    verify = "say whether the pixels are exactly the encoder's; exit code 1 where not"
    decode.add_argument("--verify", action="store_true", help=verify)
    small = "the picture at 1/4, 1/8, ... of its resolution, from the beginning of a file of the profile latents"
    decode.add_argument("--preview", type=int, metavar="4", help=small)
    decode.add_argument("--any-work", action="store_true", help="paint a file even if that may take hours")
    _common(decode)


def _add_info(info: Parser) -> None:
    info.add_argument("input", help=".dfm file, or - for standard input")
    info.add_argument("--json", action="store_true", help="one JSON object")


def _add_compare(compare: Parser) -> None:
    compare.add_argument("original", help="picture")
    compare.add_argument("files", nargs="+", metavar="file", help=".dfm files and pictures of the same size")
    compare.add_argument("-o", "--output", required=True, help="HTML file, or - for standard output")
    compare.add_argument("--background", metavar="COLOUR", help="behind transparent pixels: white, #rrggbb, ...")


def _add_bench(bench: Parser) -> None:
    from dfm.codec.bench import command

    command.add_arguments(bench)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress, no notes and no report")
    parser.add_argument("--no-overwrite", action="store_true", help="refuse to replace an existing output")


def run_encode(args: argparse.Namespace) -> int:
    from dfm import codec
    from dfm.codec.command.encode import encode
    from dfm.codec.command.sources import find_jobs
    from dfm.picture_files import PICTURE_SUFFIXES, parse_colour

    # mistakes are told once, not for each picture, and before an output folder is made
    settings = {name: getattr(args, name) for name in SETTINGS}
    codec.encode_each([], **settings)
    if args.background is not None:
        parse_colour(args.background)
    jobs = find_jobs(args.input, args.output, PICTURE_SUFFIXES, ".dfm", "pictures", args.shard)
    use_all_cores()
    return encode(
        jobs, args.output, settings, args.background, args.shard, not args.no_overwrite, args.json, args.quiet
    )


def run_decode(args: argparse.Namespace) -> int:
    from dfm.codec.command.decode import decode
    from dfm.codec.command.sources import find_jobs

    jobs = find_jobs(args.input, args.output, (".dfm",), ".png", ".dfm files")
    options = {"any_work": args.any_work, "preview": args.preview}
    return decode(jobs, args.verify, overwrite=not args.no_overwrite, json=args.json, quiet=args.quiet, **options)


def run_info(args: argparse.Namespace) -> int:
    from dfm import codec
    from dfm.codec.command.decode import read_file

    data = read_file(args.input)
    try:
        facts = codec.describe(data)
    except UserError as error:
        raise UserError(f"{args.input}: {error}") from None
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:26} {_in_words(value)}")
    return 0


def _in_words(value: Any) -> str:
    """A fact of `dfm info`; sizes as 256 x 256, 128 x 128."""
    if isinstance(value, list):
        return ", ".join(" x ".join(map(str, each)) if isinstance(each, list) else _in_words(each) for each in value)
    if isinstance(value, float):
        return f"{value:.1f}" if value >= 1000 else f"{value:.4g}"
    return str(value)


def run_compare(args: argparse.Namespace) -> int:
    from dfm.codec.command.compare import compare

    compare(args.original, args.files, args.output, args.background)
    return 0


def run_bench(args: argparse.Namespace) -> int:
    from dfm.codec.bench import command

    use_all_cores()
    return command.run_from_args(args)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 6,6,5") from None


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}") from None
    if not 0 <= quality <= 100:
        raise argparse.ArgumentTypeError(f"quality {quality:g} is outside 0 ... 100")
    return quality


def _shard(text: str) -> tuple[int, int]:
    words = text.split("/")
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not 1 <= int(words[0]) <= int(words[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part such as 2/8, the second of eight")
    return int(words[0]), int(words[1])


# name: (what it does, its arguments, its function, when options have a meaning)
COMMANDS: dict[str, tuple[str, Callable[[Parser], None], Callable[[argparse.Namespace], int], Meanings | None]] = {
    "encode": (
        "Fit a picture, or each of several or of a folder, and write its file.",
        *(_add_encode, run_encode, ENCODE_MEANINGS),
    ),
    "decode": (
        "Paint the picture of a .dfm file, or of each of several or of a folder.",
        *(_add_decode, run_decode, DECODE_MEANINGS),
    ),
    "info": ("Print what a .dfm file holds, without painting it.", _add_info, run_info, None),
    "compare": (
        "One page that works offline: a slider between any two pictures, their difference, bytes and PSNR.",
        *(_add_compare, run_compare, None),
    ),
    "bench": ("Rate-distortion curves of several codecs on a folder.", _add_bench, run_bench, None),
}


if __name__ == "__main__":
    sys.exit(main())
