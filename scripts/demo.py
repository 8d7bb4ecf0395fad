"""Compresses and decodes a real photograph, beside JPEG, WebP and AVIF of as many bytes. Minutes on two cores.

    bash scripts/demo.sh      # installs, then runs this
    python scripts/demo.py [--picture PATH] [--bits_per_pixel 0.6] [--effort 5] [--profile auto]

The photograph is one that scikit-learn ships, with its longer side at 256 pixels. Left in results/demo/: original.png,
photo.dfm (the compressed file), decoded.png, the others' files, comparison.png (all beside each other) and compare.html
(a slider between any two). From a shell: `dfm encode original.png -o photo.dfm --target-bytes N --effort 5`,
`dfm decode photo.dfm -o decoded.png`, `dfm compare original.png photo.dfm photo-jpeg.jpg -o compare.html`.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dfm import codec
from dfm.codec.bench import baselines
from dfm.codec.command.compare import compare
from dfm.experiments import FitProgress, run_script, sample_photograph
from dfm.files import write_atomically
from dfm.metrics.picture_quality import psnr, ssim
from dfm.picture_files import downscale, load_picture, save_picture

# codec of dfm.codec.bench: its name in the table, and the end of its file's name
OTHERS = {
    "jpeg": ("JPEG (Pillow's default)", "jpg"),
    "jpeg-opt": ("JPEG (optimised, 4:4:4)", "jpg"),
    "webp": ("WebP", "webp"),
    "avif": ("AVIF", "avif"),
}
Row = tuple[str, bytes, np.ndarray]  # label, file, decoded picture


def encode_others(original: np.ndarray, most_bytes: int) -> dict[str, Row]:
    """By the name of its file, each at most as large as asked, or as small as it can be."""
    made = {}
    for name, (label, suffix) in OTHERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said in words below
            data = baselines.encode_to_size(name, original, most_bytes)
        if len(data) > most_bytes:
            print(f"{label} cannot be smaller than {len(data):,} bytes here: {len(data) - most_bytes:,} more than ours")
        made[f"photo-{name}.{suffix}"] = label, data, baselines.CODECS[name].decode(data, original.shape[-1])
    return made


def table(rows: list[Row], original: np.ndarray) -> list[str]:
    pixels = original.shape[0] * original.shape[1]
    lines = [f"{'':26} {'bytes':>7} {'bits/pixel':>10} {'PSNR dB':>8} {'SSIM':>7}"]
    for label, data, decoded in rows:
        quality = f"{psnr(decoded, original):8.2f} {ssim(decoded, original):7.4f}"
        lines.append(f"{label:26} {len(data):7,} {8 * len(data) / pixels:10.3f} {quality}")
    return lines


def draw(rows: list[Row], original: np.ndarray) -> Figure:
    """The original and the decoded pictures side by side."""
    height, width, _ = original.shape
    figure = Figure(figsize=(4 * (len(rows) + 1), 4 * height / width + 0.8), layout="constrained")
    panels = [("original", original, f"{original.size:,} bytes raw")]
    for label, data, decoded in rows:
        panels.append((label, decoded, f"{len(data):,} bytes, {psnr(decoded, original):.2f} dB"))
    for axes, (label, picture, caption) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(np.repeat(picture, 3, -1) if picture.shape[-1] == 1 else picture, interpolation="nearest")
        axes.set(xticks=[], yticks=[], title=label)
        axes.set_xlabel(caption)
    return figure


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="PATH", help="another picture than scikit-learn's flower.jpg")
    parser.add_argument("--longest_side", type=int, default=256, help="it is shrunk to this (%(default)s)")
    parser.add_argument("--bits_per_pixel", type=float, default=0.6, help="rate of the file (%(default)s)")
    parser.add_argument("--effort", type=int, default=5, help="1 to 9; 5 is 3,000 steps (%(default)s)")
    parser.add_argument("--profile", choices=("auto", "latents", "weights"), default="auto", help="(%(default)s)")
    parser.add_argument("--output", default="results/demo", help="folder for what is made (%(default)s)")
    return parser.parse_args()


def load_original(path: str | None, longest_side: int) -> np.ndarray:
    if path is None:
        return downscale(sample_photograph("flower.jpg"), longest_side)
    return downscale(load_picture(path), longest_side)


def main() -> None:
    arguments = parse_arguments()
    start = time.perf_counter()
    original = load_original(arguments.picture, arguments.longest_side)
    folder = Path(arguments.output)
    os.makedirs(folder, exist_ok=True)
    save_picture(folder / "original.png", original)
    height, width, channels = original.shape
    target_bytes = int(arguments.bits_per_pixel * height * width / 8)
    print(f"{width} x {height} pixels, {channels} channels: {original.size:,} bytes raw, to at most {target_bytes:,}")

    with FitProgress(1) as bar:
        options = {"profile": arguments.profile, "effort": arguments.effort}
        data = codec.encode(original, target_bytes=target_bytes, **options, progress=bar.of_fit("photo.dfm", 1))
    write_atomically(folder / "photo.dfm", data)
    save_picture(folder / "decoded.png", codec.decode(data))
    others = encode_others(original, len(data))
    for name, (_, other, _) in others.items():
        write_atomically(folder / name, other)
    label = f"dfm, profile {codec.describe(data)['profile']}"
    rows = [(label, data, load_picture(folder / "decoded.png")), *others.values()]
    print("\n".join(table(rows, original)))
    ours = psnr(rows[0][2], original)
    print(", ".join(f"{ours - psnr(row[2], original):+.2f} dB against {row[0]}" for row in rows[1:]))
    draw(rows, original).savefig(folder / "comparison.png", dpi=100)
    compare(f"{folder}/original.png", [f"{folder}/{name}" for name in ("photo.dfm", *others)], f"{folder}/compare.html")
    print(f"{time.perf_counter() - start:.0f} s in all; look at {folder}/comparison.png and {folder}/compare.html")


if __name__ == "__main__":
    run_script(main)
