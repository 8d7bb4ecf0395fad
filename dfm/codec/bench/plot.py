"""Rate-distortion curves as a picture."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from dfm.errors import UserError
from dfm.files import write_atomically

PUBLISHED = (
    "compressai/jpeg",
    "compressai/webp",
    "compressai/av1",
    "compressai/vtm",
    "c3/COIN",
    "nif25/nif24_psnr",
    "c3/C3",
    "cool-chic/v5.0",
)  # what is drawn of a longer file: anchors, and the best of each class


def plot(summary: dict, path, published: dict | None = None) -> None:
    """Bits per pixel against PSNR, a line a codec; the picture appears at `path` (.png, .svg, .pdf) when complete.

    `published`: {name: {bpp, psnr or psnr-rgb}}, drawn dashed; of full-size Kodak, hence refused for other protocols.
    """
    from matplotlib.figure import Figure  # seconds to import

    if published and summary["protocol"] != "kodak":
        raise UserError(f"published curves are of full-size Kodak pictures, not of protocol {summary['protocol']}")
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    curves = {name: curve["results"] for name, curve in summary["codecs"].items() if curve["results"]["bpp"]}
    for name, curve in curves.items():
        axes.plot(
            curve["bpp"],
            numbers(curve["psnr-rgb"]),
            marker="o",
            markersize=3,
            label=_label(name, summary["codecs"][name]["options"]),
        )
    drawn = [(curve["bpp"], numbers(curve["psnr-rgb"])) for curve in curves.values()]
    published = published or {}
    for name in [name for name in PUBLISHED if name in published] or published:
        curve = published[name]
        drawn.append((curve["bpp"], curve.get("psnr-rgb") or curve["psnr"]))
        axes.plot(*drawn[-1], linestyle="--", linewidth=1, label=f"{name} (published, full-size Kodak)")
    if drawn:
        _set_limits(axes, drawn, [max(curve["bpp"]) for curve in curves.values()])
    axes.set(
        xlabel="rate: bits per pixel of the whole file",
        ylabel="mean PSNR (dB)",
        title=f"{summary['protocol']}, {len(summary['pictures'])} pictures",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format=Path(path).suffix[1:].lower(), dpi=120)
    write_atomically(path, stream.getvalue())


def _label(name: str, options: dict) -> str:
    """A fitted net's curve means nothing without how long it was fitted."""
    if "steps" in options:
        return f"{name}, {options['steps']:,} steps"
    return f"{name}, effort {options['effort']}" if "effort" in options else name


def _set_limits(axes, drawn, largest_rates) -> None:
    """Both axes end a little above the curve that ends first: JPEG at 6 bits per pixel would squeeze all the rest."""
    smallest_rates = [min(rates) for rates, _ in drawn]
    limit = max(1.0, 1.25 * min(largest_rates, default=1.0), 1.5 * max(smallest_rates))  # some of every curve
    visible = [
        value
        for rates, values in drawn
        for rate, value in zip(rates, values, strict=True)
        if rate <= limit and math.isfinite(value)
    ]
    axes.set_xlim(0, limit)
    if visible:
        axes.set_ylim(min(visible) - 0.5, max(visible) + 0.5)


def numbers(values: Sequence[float | None]) -> list[float]:
    """Nulls of JSON as NaN."""
    return [math.nan if value is None else value for value in values]
