"""What a quality is worth: bytes and PSNR at q = 10, 20, ..., 90, and whether both grow.

    python scripts/quality_scale.py                               # scikit-learn's two photographs at 128 pixels
    python scripts/quality_scale.py --pictures FOLDER --longest_side 256 --effort 5

Bytes grow by construction (a fixed ladder of nets, each filled to its own size). PSNR grows as far as fits of
neighbouring nets come out alike: this measures how far. One JSON line a picture in results/quality_scale.jsonl.
"""

import argparse
import sys
import time
from pathlib import Path

from dfm import codec, results
from dfm.experiments import PHOTOGRAPHS, pictures_of, run_script, sample_photograph
from dfm.metrics.picture_quality import psnr
from dfm.picture_files import downscale, load_picture

QUALITIES = tuple(range(10, 91, 10))
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "results" / "quality_scale.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", metavar="FOLDER", help="default: scikit-learn's two photographs")
    parser.add_argument("--longest_side", type=int, default=128)
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=str(DEFAULT_OUTPUT))
    args = parser.parse_args()
    paths = pictures_of(args.pictures) if args.pictures else None
    names = list(PHOTOGRAPHS) if paths is None else list(paths)
    for name in names:
        picture = sample_photograph(name) if paths is None else load_picture(paths[name])
        _measure(Path(name).stem, downscale(picture, args.longest_side), args)


def _measure(name: str, picture, args: argparse.Namespace) -> None:
    sizes, decibels = [], []
    begun = time.perf_counter()
    for quality in QUALITIES:
        data = codec.encode(picture, profile="weights", quality=quality, effort=args.effort, seed=args.seed)
        sizes.append(len(data))
        decibels.append(psnr(codec.decode(data), picture))
        print(f"{name} q{quality}: {sizes[-1]:,} bytes, {decibels[-1]:.2f} dB", flush=True)
    losses = [max(decibels[: i + 1]) - after for i, after in enumerate(decibels[1:])]
    print(f"{name}: bytes grow: {sizes == sorted(sizes)}; largest fall of PSNR: {max(0.0, *losses):.2f} dB")
    results.record(
        args.output,
        "quality_scale",
        f"{name} at {args.longest_side} pixels",
        sys.argv,
        {"picture": name, "longest_side": args.longest_side, "effort": args.effort, "qualities": QUALITIES},
        args.seed,
        time.perf_counter() - begun,
        {"bytes": sizes, "psnr": decibels, "largest_fall_db": max(0.0, *losses)},
    )


if __name__ == "__main__":
    run_script(main)
