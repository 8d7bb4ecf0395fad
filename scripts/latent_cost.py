"""What a generator costs on pixels and on latents: the 1/64 of f = 8, by XLA's cost analysis. Nothing is computed.

  python scripts/latent_cost.py                          # table, results/latent_cost.jsonl and .png; seconds
  python scripts/latent_cost.py --variant=kl-f4 --sizes=256,512 --output=rows.jsonl

A latent of downsampling factor f has 1 / f^2 of a picture's positions, so every layer whose work is proportional to
the positions costs 1 / f^2, and attention, whose work grows with their square, 1 / f^4. Compared is one evaluation of
the same network at both resolutions: a 3x3 convolution in, resnet blocks, attention where asked for, a 3x3 convolution
out; its input has the picture's 3 channels or the latents'. Against it stands what the autoencoder itself costs, once a
picture: after so many evaluations latents have paid for their decoder.
"""

import argparse
import io
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.files import write_atomically
from dfm.models import attention
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.models.blocks import Attention, ResnetBlock, Style
from dfm.models.layers import Conv
from dfm.models.published import published_variants
from dfm.results import record

GROUPS = 32


class Network(nn.Module):
    """A plain network from `channels` to `channels` at one resolution."""

    channels: int
    width: int
    blocks: int
    attends: bool

    @nn.compact
    def __call__(self, x):
        x = Conv(self.channels, self.width)(x)
        for _ in range(self.blocks):
            x = ResnetBlock(self.width, self.width, Style(GROUPS))(x)
        if self.attends:
            x = Attention(self.width, Style(GROUPS))(x)
        return Conv(self.width, self.channels)(x)


def network_operations(network: Network, height: int, width: int) -> float:
    shape = (1, height, width, network.channels)
    params = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    lowered = jax.jit(network.apply).lower(params, jax.ShapeDtypeStruct(shape, jnp.float32))
    analysis: Any = lowered.cost_analysis()
    return analysis["flops"]


def autoencoder_operations(model: AutoencoderKL, size: int) -> dict[str, float]:
    """Of encode and decode of one picture."""
    images = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    side = size // model.stride
    latents = jax.ShapeDtypeStruct((1, side, side, model.latent_channels), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)

    def cost(x: Any, method: str) -> float:
        analysis: Any = jax.jit(lambda p, x: model.apply(p, x, method=method)).lower(params, x).cost_analysis()
        return analysis["flops"]

    return {"encode": cost(images, "moments"), "decode": cost(latents, "decode")}


def compare(model: AutoencoderKL, size: int, width: int, blocks: int) -> dict[str, Any]:
    """One row: the network's operations on pixels and on latents, without and with attention, and their ratios."""
    side = size // model.stride
    row: dict[str, Any] = {"size": size, "latent_side": side, "positions_ratio": size**2 / side**2}
    for name, attends in (("convolutional", False), ("attention", True)):
        make = lambda channels, attends=attends: Network(channels, width, blocks, attends)  # noqa: E731
        pixels = network_operations(make(model.in_channels), size, size)
        latents = network_operations(make(model.latent_channels), side, side)
        row[name] = {"pixels": pixels, "latents": latents, "ratio": pixels / latents}
    row |= autoencoder_operations(model, size)
    saved = row["convolutional"]["pixels"] - row["convolutional"]["latents"]
    row["evaluations_that_pay_for_decode"] = row["decode"] / saved
    return row


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "picture",
        "latents",
        "on pixels",
        "on latents",
        "ratio",
        "with attention: ratio",
        "decode",
        "decode is paid after",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        plain = row["convolutional"]
        cells = (
            f"{row['size']}^2",
            f"{row['latent_side']}^2",
            f"{plain['pixels'] / 1e9:,.1f} G",
            f"{plain['latents'] / 1e9:,.2f} G",
            f"{plain['ratio']:.1f}",
            f"{row['attention']['ratio']:,.0f}",
            f"{row['decode'] / 1e9:,.0f} G",
            f"{row['evaluations_that_pay_for_decode']:.1f} evaluations",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    sizes = [row["size"] for row in rows]
    for name, style in (("convolutional", "-"), ("attention", "--")):
        for where, colour in (("pixels", "tab:red"), ("latents", "tab:blue")):
            label = f"on {where}" + (", with attention" if name == "attention" else "")
            axes.plot(sizes, [row[name][where] for row in rows], style, color=colour, marker="o", label=label)
    axes.plot(sizes, [row["decode"] for row in rows], ":", color="grey", marker="o", label="decode, once a picture")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(xlabel="side of the picture in pixels", ylabel="operations of one evaluation")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_atomically(path, stream.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="sd", help=f"of {', '.join(published_variants())}; default sd (f = 8)")
    parser.add_argument("--sizes", default="256,512,1024", help="sides of pictures; default 256,512,1024")
    parser.add_argument("--width", type=int, default=128, help="channels of the network; default 128")
    parser.add_argument("--blocks", type=int, default=2, help="its resnet blocks; default 2")
    parser.add_argument("--output", default="results/latent_cost.jsonl", help="the plot is beside it, as .png")
    args = parser.parse_args()
    start = time.perf_counter()
    if args.variant not in published_variants():
        raise UserError(f"--variant must be one of {', '.join(published_variants())}, not {args.variant!r}")
    if not all(word.isdecimal() and int(word) > 0 for word in args.sizes.split(",")):
        raise UserError(f"--sizes must be numbers such as 256,512, not {args.sizes!r}")
    if args.width < 1 or args.width % GROUPS or args.blocks < 0:
        raise UserError(f"--width must be a multiple of {GROUPS}, and --blocks at least 0")
    model = published_variants()[args.variant]
    sizes = [int(word) for word in args.sizes.split(",")]
    wrong = [size for size in sizes if size % model.stride]
    if wrong:
        raise UserError(f"--sizes: {wrong[0]} is not a multiple of {model.stride}")
    attention.SCORES_AT_ONCE = sys.maxsize  # the analysis counts the body of a loop once, so there must be none
    rows = [compare(model, size, args.width, args.blocks) for size in sizes]
    print(table(rows))
    plot(rows, Path(args.output).with_suffix(".png"))
    config = {"variant": args.variant, "stride": model.stride, "width": args.width, "blocks": args.blocks}
    record(
        args.output,
        "latent_cost",
        f"f{model.stride}",
        ["python", *sys.argv],
        config,
        None,
        time.perf_counter() - start,
        {"rows": rows},
    )


if __name__ == "__main__":
    run_script(main)
