"""Command line of the codec: encode, decode, info and bench. `dfm --help` and `dfm COMMAND --help` show examples."""

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm import __version__
from dfm.command_line import Parser, run_command
from dfm.errors import UserError
from dfm.files import check_writable, write_atomically

if TYPE_CHECKING:
    from dfm.codec.search import Encoded

EXAMPLES = """examples:
  dfm encode photo.png -o photo.dfm --quality 60
  dfm encode photo.png -o photo.dfm --target-bytes 40000 --effort 5
  dfm encode photo.png -o photo.dfm --preset thesis
  dfm encode holiday/ -o compressed/            every picture of a folder, fitted side by side
  dfm decode photo.dfm -o photo.png --verify
  dfm info photo.dfm --json
  dfm bench holiday/ --codecs dfm,jpeg,webp,avif --output results.json --plot curves.png
"""
EPILOGS = {
    "encode": "\n".join(EXAMPLES.splitlines()[:5]),
    "decode": "\n".join(["examples:", EXAMPLES.splitlines()[5], "  dfm decode photo.dfm -o - > photo.png"]),
    "info": "\n".join(["examples:", EXAMPLES.splitlines()[6]]),
    "bench": "\n".join(["examples:", EXAMPLES.splitlines()[7]]),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 after one line that says what is wrong."""
    return run_command("dfm", _run, arguments)


def _run(arguments: Sequence[str] | None) -> int:
    args = _parser().parse_args(arguments)
    return args.run(args)


def _parser() -> Parser:
    parser = Parser(
        prog="dfm",
        description="Compress single pictures with Deep Fourier Machines.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"dfm {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Any, text: str) -> Parser:
        raw = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(name, help=text, description=text, epilog=EPILOGS[name], formatter_class=raw)
        sub.set_defaults(run=run)
        return sub

    encode = command("encode", run_encode, "Fit a net to a picture, or to each of a folder, and write its file.")
    encode.add_argument("input", help="picture, folder of pictures, or - for standard input")
    encode.add_argument("-o", "--output", required=True, help=".dfm file, folder where the input is one, or -")
    target = encode.add_mutually_exclusive_group()
    target.add_argument("-q", "--quality", type=float, metavar="0..100", help="rate by quality; default 75")
    target.add_argument("--target-bytes", type=int, metavar="N", help="the file is never larger")
    target.add_argument("--target-psnr", type=float, metavar="DB", help="the picture is never worse; fits several nets")
    encode.add_argument(
        "--preset",
        choices=("default", "thesis"),
        default="default",
        help="thesis: the experiment of Asadi 2022, literally (88 kB of float32 weights)",
    )
    encode.add_argument(
        "-e",
        "--effort",
        type=int,
        metavar="1..9",
        help="1, 3, 5, 7, 9: 300, 1,000, 3,000, 10,000, 30,000 steps; default 3, thesis 7",
    )
    encode.add_argument("--precision", choices=("quantized", "float16", "float32"), help="how weights are stored")
    encode.add_argument("--basis", choices=("cos_sin", "cas"), default="cos_sin", help="functions of a layer")
    encode.add_argument("--widths", type=_widths, metavar="W,W,...", help="hidden widths in place of the ladder's")
    encode.add_argument("--seed", type=int, default=0, metavar="N", help="of the start and the pixels drawn; default 0")
    _common(encode)

    decode = command("decode", run_decode, "Paint the picture of a .dfm file.")
    decode.add_argument("input", help=".dfm file, or - for standard input")
    decode.add_argument("-o", "--output", required=True, help="picture, format by suffix; - for PNG on standard output")
    decode.add_argument("--verify", action="store_true", help="say whether the pixels are exactly the encoder's")
    _common(decode)

    info = command("info", run_info, "Print what a .dfm file holds, without painting it.")
    info.add_argument("input", help=".dfm file, or - for standard input")
    info.add_argument("--json", action="store_true", help="one JSON object")

    from dfm.codec.bench import command as bench

    bench.add_arguments(command("bench", bench.run_from_args, "Rate-distortion curves of several codecs on a folder."))
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no report")
    parser.add_argument("--no-overwrite", action="store_true", help="refuse to replace an existing output")


def run_encode(args: argparse.Namespace) -> int:
    from dfm import picture_files

    if args.input != "-" and Path(args.input).is_dir():
        sources = sorted(p for p in Path(args.input).iterdir() if p.suffix.lower() in picture_files.PICTURE_SUFFIXES)
        if not sources:
            raise UserError(f"{args.input}: no pictures in this folder")
        if not Path(args.output).is_dir():
            raise UserError(f"{args.output}: the output of a folder must be an existing folder (mkdir it first)")
        inputs = [str(source) for source in sources]
        outputs = [str(Path(args.output) / f"{source.stem}.dfm") for source in sources]
        if len(set(outputs)) < len(outputs):
            raise UserError(f"{args.input}: two pictures differ only in their suffix, so their files would collide")
    else:
        inputs, outputs = [args.input], [args.output]
    for output in outputs:
        _check_output(output, args)
    images = [picture_files.load_picture(path) for path in inputs]

    from dfm import codec
    from dfm.progress import Progress

    start = time.perf_counter()
    with Progress(unit="step", quiet=args.quiet) as bar:

        def report(done: int, total: int, decibels: float) -> None:
            if math.isnan(decibels):
                bar.reach(done, total, label="compiling")
            else:
                bar.reach(done, total, f"PSNR {decibels:.2f} dB", label="fitting")

        encoded = codec.encode_each(
            images,
            quality=args.quality,
            target_bytes=args.target_bytes,
            target_psnr=args.target_psnr,
            preset=args.preset,
            effort=args.effort,
            seed=args.seed,
            precision=args.precision,
            basis=args.basis,
            widths=args.widths,
            progress=report,
        )
        files = [file for _, file in sorted(encoded, key=lambda pair: pair[0])]
    seconds = (time.perf_counter() - start) / len(files)  # pictures of a folder are fitted together
    reports = []
    for image, file, source, output in zip(images, files, inputs, outputs, strict=True):
        write_atomically(output, file.data)
        if args.json or not args.quiet:
            measured = _measure(file, image) | {"encode_seconds": seconds}
            reports.append({"input": source, "output": output, **measured})
    _print_reports(reports, args, folder=len(inputs) > 1 or inputs != [args.input])
    return 0


def _measure(file: "Encoded", image: Any) -> dict[str, Any]:
    """What the finished file is worth: size and quality of its decode against the original."""
    from dfm import codec
    from dfm.metrics.picture_quality import psnr, ssim

    return codec.describe(file.data) | {"psnr": psnr(file.picture, image), "ssim": ssim(file.picture, image)}


def _print_reports(reports: list[dict[str, Any]], args: argparse.Namespace, folder: bool) -> None:
    from dfm.results import dump

    stream = sys.stderr if args.output == "-" else sys.stdout  # the file itself may be on standard output
    if args.json:
        print(dump(reports if folder else reports[0]), file=stream)
    elif not args.quiet:
        for report in reports:
            print(
                f"{report['output']}: {report['bytes']:,} bytes, {report['bits_per_pixel']:.3f} bits per pixel, "
                f"PSNR {report['psnr']:.2f} dB, SSIM {report['ssim']:.4f}, {report['encode_seconds']:.1f} s, "
                f"{report['parameters']:,} parameters in widths {report['widths']}",
                file=stream,
            )


def run_decode(args: argparse.Namespace) -> int:
    from dfm import codec, picture_files
    from dfm.results import dump

    picture_files.picture_format(args.output)
    _check_output(args.output, args)
    data = _read_file(args.input)
    start = time.perf_counter()
    with _named(args.input):
        decoded = codec.decode(data)
    seconds = time.perf_counter() - start
    picture_files.save_picture(args.output, decoded)
    report = codec.describe(data) | {"output": args.output, "decode_seconds": seconds}
    if args.verify:
        report["identical_to_reference"] = codec.is_reference_decode(data, decoded)
    stream = sys.stderr if args.output == "-" else sys.stdout
    if args.json:
        print(dump(report), file=stream)
    elif not args.quiet:
        print(f"{args.output}: {report['width']} x {report['height']}, {seconds:.1f} s", file=stream)
        if args.verify:
            same = report["identical_to_reference"]
            print("identical to the encoder's decode" if same else "not identical to the encoder's decode", file=stream)
    return 0


def run_info(args: argparse.Namespace) -> int:
    from dfm import codec

    data = _read_file(args.input)
    with _named(args.input):
        facts = codec.describe(data)
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:16} {value:,.4g}" if isinstance(value, float) else f"{name:16} {value}")
    return 0


def _read_file(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors about a file's content begin with its path."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_output(path: str, args: argparse.Namespace) -> None:

    check_writable(path)
    if args.no_overwrite and path != "-" and Path(path).exists():
        raise UserError(f"{path}: exists already")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 6,6,5") from None


if __name__ == "__main__":
    sys.exit(main())
