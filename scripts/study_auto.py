"""Which profile is better at which size and rate: what the threshold of `--profile auto` is taken from.

    python scripts/study_auto.py PHOTOGRAPHS --output results/study_auto.jsonl

The central squares of the pictures, which are halved first because they are JPEG already, are shrunk to each of
--sizes. The profile latents fits each at --qualities; the profile weights fits it to as many bytes. A line of results
a size and quality: mean bytes and PSNR of both, mean of the differences and of how many pictures latents win. A line
that is there already with the same config is not measured again. The pictures are none of Kodak's, by which the codec
is judged.

Cost: 6 sizes, 3 qualities, 8 pictures at effort 3 are about 40 minutes of two cores.
"""

import argparse
import sys
import time

import numpy as np

from dfm import codec
from dfm.errors import UserError
from dfm.experiments import find_row, integers, pictures_of, run_script, square
from dfm.metrics.picture_quality import psnr
from dfm.picture_files import downscale, load_picture
from dfm.results import read_lines, record

PROTOCOL = "central squares of halved pictures, shrunk to a side"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of pictures")
    parser.add_argument("--sizes", type=integers, default=[8, 12, 16, 24, 32, 48], help="sides in pixels")
    parser.add_argument("--qualities", type=integers, default=[30, 50, 70], help="of the profile latents")
    parser.add_argument("--pictures", type=int, default=8, help="evenly spread over the folder (%(default)s)")
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="results/study_auto.jsonl")
    return parser.parse_args()


def originals(folder: str, count: int) -> dict[str, np.ndarray]:
    """Halved pictures in colour, by name."""
    found = list(pictures_of(folder).items())
    if not 1 <= count <= len(found):
        raise UserError(f"--pictures must be 1 to {len(found)}, not {count}")
    chosen = [found[len(found) * i // count] for i in range(count)]
    loaded = {name: load_picture(path, "white") for name, path in chosen}
    halved = {name: downscale(picture, max(picture.shape[:2]) // 2) for name, picture in loaded.items()}
    return {name: picture for name, picture in halved.items() if picture.shape[-1] == 3}


def compare(picture: np.ndarray, quality: int, effort: int, seed: int) -> dict[str, float]:
    """Bytes and PSNR of both profiles; NaN where weights cannot be as small."""
    options = {"effort": effort, "seed": seed}
    latents = codec.encode(picture, profile="latents", quality=quality, **options)
    found = {"latents_bytes": len(latents), "latents_psnr": psnr(codec.decode(latents), picture)}
    try:
        weights = codec.encode(picture, profile="weights", target_bytes=len(latents), **options)
    except UserError:  # too few bytes for any net
        return found | {"weights_bytes": np.nan, "weights_psnr": np.nan}
    return found | {"weights_bytes": len(weights), "weights_psnr": psnr(codec.decode(weights), picture)}


def summary(rows: list[dict[str, float]], side: int) -> dict[str, float | None]:
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    gains = [row["latents_psnr"] - row["weights_psnr"] for row in rows]
    wins = sum(not gain <= 0 for gain in gains)  # where weights cannot be as small, latents win
    rate = 8 * means["latents_bytes"] / side**2
    both = [gain for gain in gains if not np.isnan(gain)]
    return means | {
        "bits_per_pixel": rate,
        "gain_db": float(np.mean(both)) if both else None,
        "pictures_of_both": len(both),
        "latents_win": wins,
    }


def main() -> None:
    args = parse_arguments()
    pictures = originals(args.folder, args.pictures)
    rows = read_lines(args.output)
    for side in args.sizes:
        for quality in args.qualities:
            config = {"side": side, "quality": quality, "effort": args.effort, "pictures": list(pictures)}
            row = find_row(rows, config)
            if row is None:
                begun = time.perf_counter()
                found = [
                    compare(square(picture, side), quality, args.effort, args.seed) for picture in pictures.values()
                ]
                seconds = time.perf_counter() - begun
                metrics = summary(found, side)
                row = record(
                    args.output, "study_auto", PROTOCOL, ["python", *sys.argv], config, args.seed, seconds, metrics
                )
            print("{side}x{side} quality {quality}: ".format(**config) + words(row["metrics"]), flush=True)


def words(metrics: dict) -> str:
    gain = "nothing to compare" if metrics["gain_db"] is None else f"{metrics['gain_db']:+.2f} dB to weights"
    return (
        f"{metrics['bits_per_pixel']:.2f} bits per pixel, latents {metrics['latents_psnr']:.2f} dB, {gain} "
        f"(of {metrics['pictures_of_both']} pictures), latents win {metrics['latents_win']}"
    )


if __name__ == "__main__":
    run_script(main)
