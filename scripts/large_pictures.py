"""Memory of large pictures in an AutoencoderKL of the published widths, and the same picture whole and by strips.

  python scripts/large_pictures.py                       # memory of 1024^2 and 2048^2 by XLA's analysis; minutes
  python scripts/large_pictures.py --sizes= --run=1024   # decodes 1024^2 twice; minutes, 6 GiB

Memory is what XLA's analysis of the compiled program says: arguments, results and temporaries; nothing is run. What a
library's kernel takes while it runs is not in it (on CPUs: convolutions), hence the resident memory of --run.
--run decodes random latents once in one program and once strip by strip (dfm.models.tiled_autoencoder), times both and
compares them: to be equal to 1e-5.
"""

import argparse
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.models.autoencoder_kl import AutoencoderKL, parameter_shapes
from dfm.models.published import published_variants
from dfm.models.tiled_autoencoder import STRIP_BYTES, tiled_decode
from dfm.peers.autoencoder_kl import random_inputs, random_params
from dfm.results import record

MEBIBYTE = 2**20


def memory(model: AutoencoderKL, method: str, size: int) -> dict[str, Any]:
    """MiB of one picture in float32, by XLA's analysis, and how long the compilation took."""
    x = jax.ShapeDtypeStruct(random_inputs(model, method, size, 1).shape, jnp.float32)
    name, start = "moments" if method == "encode" else "decode", time.perf_counter()
    lowered = jax.jit(lambda p, x: model.apply({"params": p}, x, method=name)).lower(parameter_shapes(model), x)
    found: Any = lowered.compile().memory_analysis()
    return {
        "method": method,
        "size": size,
        "temporary_mebibytes": found.temp_size_in_bytes / MEBIBYTE,
        "argument_mebibytes": found.argument_size_in_bytes / MEBIBYTE,
        "result_mebibytes": found.output_size_in_bytes / MEBIBYTE,
        "compile_seconds": time.perf_counter() - start,
    }


def whole_and_strips(model: AutoencoderKL, size: int) -> dict[str, Any]:
    """Seconds of decoding in one program (after its compilation) and by strips, and the distance between both."""
    params = random_params(model)
    z = random_inputs(model, "decode", size, 1)
    decode = jax.jit(lambda p, z: model.apply({"params": p}, z, method="decode"))
    compiled: Any = decode.lower(params, z).compile()
    start = time.perf_counter()
    whole = np.asarray(jax.block_until_ready(compiled(params, jnp.asarray(z))))
    between, resident = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    strips = tiled_decode(model, params, z)
    end = time.perf_counter()
    apart = np.linalg.norm(strips.astype(np.float64) - whole) / np.linalg.norm(whole.astype(np.float64))
    return {
        "size": size,
        "whole_seconds": between - start,
        "strip_seconds": end - between,
        "strip_bytes": STRIP_BYTES,
        "whole_peak_resident_mebibytes": resident,
        "relative_distance": float(apart),
        "largest_difference": float(np.abs(strips - whole).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="sd", help=f"of {', '.join(published_variants())}; default sd")
    parser.add_argument("--sizes", default="1024,2048", help="to analyse; default 1024,2048; empty: none")
    parser.add_argument("--methods", default="decode", help="of encode,decode; default decode")
    parser.add_argument("--run", type=int, metavar="SIZE", help="decode a picture of this side, whole and by strips")
    parser.add_argument("--output", default="results/large_pictures.jsonl")
    args = parser.parse_args()
    start = time.perf_counter()
    if args.variant not in published_variants():
        raise UserError(f"--variant must be one of {', '.join(published_variants())}, not {args.variant!r}")
    model = published_variants()[args.variant]
    words = [word for word in args.sizes.split(",") if word]
    if not all(word.isdecimal() and int(word) > 0 and int(word) % model.stride == 0 for word in words):
        raise UserError(f"--sizes must be multiples of {model.stride}, such as 1024,2048")
    if any(method not in ("encode", "decode") for method in args.methods.split(",")):
        raise UserError("--methods must be of encode, decode")
    metrics: dict[str, Any] = {"memory": []}
    for size in map(int, words):
        for method in args.methods.split(","):
            row = memory(model, method, size)
            metrics["memory"].append(row)
            print(
                f"{method} {size}^2: {row['temporary_mebibytes']:,.0f} MiB of "
                f"temporaries, compiled in {row['compile_seconds']:.0f} s",
                flush=True,
            )
    if args.run:
        metrics["run"] = row = whole_and_strips(model, args.run)
        print(
            f"decode {args.run}^2: whole {row['whole_seconds']:.1f} s, strips {row['strip_seconds']:.1f} s, "
            f"peak of the process {row['whole_peak_resident_mebibytes']:,.0f} MiB, "
            f"relative distance {row['relative_distance']:.1e}"
        )
    config = {name: value for name, value in vars(args).items() if name != "output"}
    record(
        args.output,
        "large_pictures",
        args.variant,
        ["python", *sys.argv],
        config,
        0,
        time.perf_counter() - start,
        metrics,
    )


if __name__ == "__main__":
    run_script(main)
