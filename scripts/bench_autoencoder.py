"""Seconds of encode and decode against PyTorch's diffusers, in one run on the same cores.

  python scripts/bench_autoencoder.py                                   # 256^2 and 512^2, SD-size, float32, one picture
  python scripts/bench_autoencoder.py --sizes=256 --repeats=3 --clock=processor      # where others are at work too
  python scripts/bench_autoencoder.py --sizes=1024 --dtype=bfloat16 --methods=decode --peak_tflops=989     # on an H200

What is timed: pictures to moments and latents to pictures, from and to arrays of the device.
  ours             AutoencoderKL under jax.jit; with --unfolded also without folding upsampling into convolutions
  torch            diffusers' AutoencoderKL, eager, as `from_pretrained` gives it
  torch channels last   the same after .to(memory_format=torch.channels_last)
All get the same random weights and inputs and must agree to --tolerance before anything is timed. Then they take turns,
--repeats rounds after one untimed call; the median over the rounds counts. Without diffusers (the extra `peers`), ours
is timed alone. To reach: a ratio of at most 1.0 to the faster of the two on a CPU; on an H200, 97.6 ms for decoding
1024^2 in bfloat16 (diffusers as it is) and 29 ms (kernels tuned by hand).
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.command_line import usable_cores
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes
from dfm.models.published import published_variants
from dfm.peers.autoencoder_kl import random_inputs, shared_weights, with_block_types
from dfm.results import record

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
BUSY = 0.5  # load average: about half a core taken by others
METHODS = ("encode", "decode")
TINY = AutoencoderKL(**with_block_types({"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}))
VARIANTS = {**published_variants(), "tiny": TINY}  # tiny: to see in seconds that this script works
Form = Callable[
    [str, np.ndarray], Callable[[], Any]
]  # (method, NHWC input) -> a call that ends when its result is there


def our_form(model: AutoencoderKL, params: Any) -> Form:
    def form(method: str, x: np.ndarray) -> Callable[[], Any]:
        name = "moments" if method == "encode" else "decode"
        compiled = jax.jit(lambda params, x: model.apply({"params": params}, x, method=name))
        values = jnp.asarray(x)
        return lambda: jax.block_until_ready(compiled(params, values))

    return form


def torch_form(model: AutoencoderKL, tensors: dict[str, np.ndarray], channels_last: bool) -> Form:
    import diffusers
    import torch

    torch.set_num_threads(usable_cores())
    keys = (
        "block_out_channels",
        "layers_per_block",
        "latent_channels",
        "norm_num_groups",
        "use_quant_conv",
        "use_post_quant_conv",
    )
    config = {key: getattr(model, key) for key in keys}
    peer: Any = diffusers.AutoencoderKL(**with_block_types(config))
    peer = peer.eval()
    peer.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    if channels_last:
        peer = peer.to(memory_format=torch.channels_last)

    def form(method: str, x: np.ndarray) -> Callable[[], Any]:
        values = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())

        def call() -> Any:
            with torch.no_grad():
                found = peer.encode(values).latent_dist.parameters if method == "encode" else peer.decode(values).sample
            return found.numpy().transpose(0, 2, 3, 1)

        return call

    return form


def operations(model: AutoencoderKL, method: str, x: np.ndarray) -> float:
    """2 x multiply-adds of the textbook form (whole attention, upsampling not folded), by XLA's cost analysis."""
    from dfm.models import attention

    plain, kept = model.clone(fold_upsampling=False), attention.SCORES_AT_ONCE
    name = "moments" if method == "encode" else "decode"
    attention.SCORES_AT_ONCE = sys.maxsize  # the analysis counts the body of a loop once
    try:
        params = parameter_shapes(plain)
        lowered = jax.jit(lambda p, x: plain.apply({"params": p}, x, method=name)).lower(params, x)
        analysis: Any = lowered.cost_analysis()
        return analysis["flops"]
    finally:
        attention.SCORES_AT_ONCE = kept


def check_agreement(calls: dict[str, Callable[[], Any]], tolerance: float, what: str) -> None:
    reference = np.asarray(calls["ours"](), np.float64)
    for name, call in calls.items():
        apart = np.linalg.norm(np.asarray(call(), np.float64) - reference) / np.linalg.norm(reference)
        if not apart < tolerance:
            raise UserError(f"{what}: {name} and ours differ by {apart:.1e}; nothing is timed")


def take_turns(calls: dict[str, Callable[[], Any]], repeats: int, clock: str) -> dict[str, float]:
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = now()
            call()
            seconds[name].append(now() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(forms: dict[str, Form], model: AutoencoderKL, method: str, size: int, args: argparse.Namespace) -> dict:
    """One row; every form has been called once before it is timed, by the check."""
    x = random_inputs(model, method, size, args.batch_size)
    calls = {name: form(method, x) for name, form in forms.items()}
    check_agreement(calls, args.tolerance, f"{method} {size}^2")
    seconds = take_turns(calls, args.repeats, args.clock)
    row: dict[str, Any] = {
        "method": method,
        "size": size,
        "seconds": seconds,
        "operations": operations(model, method, x),
    }
    others = {name: value for name, value in seconds.items() if name != "ours"}
    row["ratio"] = {name: seconds["ours"] / value for name, value in others.items()}
    rate = row["operations"] / seconds["ours"]
    said = ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items())
    ratios = "".join(f", ratio to {name} {value:.2f}" for name, value in row["ratio"].items())
    print(f"{method} {size}^2: {said}{ratios}; ours {rate / 1e9:,.0f} G operations/s", flush=True)
    if args.peak_tflops:
        row["fraction_of_peak"] = rate / (args.peak_tflops * 1e12)
        print(f"  {100 * row['fraction_of_peak']:.1f} % of {args.peak_tflops} T operations/s")
    return row


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--variant", default="sd", help=f"of {', '.join(VARIANTS)}; default sd")
    add("--sizes", default="256,512", help="sides of the pictures; default 256,512")
    add("--methods", default="encode,decode")
    add("--batch_size", type=int, default=1)
    add("--repeats", type=int, default=5)
    add("--clock", choices=sorted(CLOCKS), default="wall", help="processor: time of this process on all cores")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of ours; bfloat16 is timed alone")
    add("--tolerance", type=float, default=1e-5, help="relative L2 distance; default 1e-5")
    add("--peak_tflops", type=float, help="of the device at this precision, for the fraction of peak")
    add("--unfolded", action="store_true", help="time ours without folded upsampling too")
    add("--alone", action="store_true", help="do not time PyTorch")
    add("--output", default="results/bench_autoencoder.jsonl")
    args = parser.parse_args()
    args.sizes = [int(word) if word.isdecimal() else 0 for word in args.sizes.split(",")]
    args.methods = args.methods.split(",")
    if args.variant not in VARIANTS:
        raise UserError(f"--variant must be one of {', '.join(VARIANTS)}, not {args.variant!r}")
    stride = VARIANTS[args.variant].stride
    if any(size < stride or size % stride for size in args.sizes):
        raise UserError(f"--sizes must be multiples of {stride}, such as 256,512")
    if any(method not in METHODS for method in args.methods):
        raise UserError(f"--methods must be of {', '.join(METHODS)}")
    if min(args.batch_size, args.repeats) < 1:
        raise UserError("--batch_size and --repeats must be at least 1")
    return args


def main() -> None:
    args, start, load = parse(), time.perf_counter(), os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: load average {load:.1f}; the ratios are those of a busy machine", file=sys.stderr)
    model = VARIANTS[args.variant].clone(dtype=None if args.dtype == "float32" else args.dtype)
    tensors, params = shared_weights(model)
    if args.dtype != "float32":
        params = jax.tree.map(lambda leaf: leaf.astype(args.dtype), params)
    forms = {"ours": our_form(model, params)}
    if args.unfolded:
        forms["ours unfolded"] = our_form(model.clone(fold_upsampling=False), params)
    if args.dtype == "float32" and not args.alone and importlib.util.find_spec("diffusers"):
        forms |= {"torch": torch_form(model, tensors, False), "torch channels last": torch_form(model, tensors, True)}
    rows = [measure(forms, model, method, size, args) for size in args.sizes for method in args.methods]
    config = {name: value for name, value in vars(args).items() if name != "output"}
    record(
        args.output,
        "bench_autoencoder",
        args.variant,
        ["python", *sys.argv],
        config,
        0,
        time.perf_counter() - start,
        {"rows": rows, "load_average": load},
    )


if __name__ == "__main__":
    run_script(main)
