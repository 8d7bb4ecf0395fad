"""Times a gradient step of the latents profile against its plain form and PyTorch, whole encodes, and decodes.

    python scripts/bench_latent_codec.py --sizes 256x256,768x512 --picture kodim15.png \\
        --output results/bench_latent_codec.jsonl

What is timed, on the centre of the picture and networks and latents away from their start:
  ours    dfm/codec/latents/pieces.py under jax.jit: value and gradient together, in pieces that stay in the cache.
  plain   dfm/codec/latents/model.py under jax.jit, differentiated as it stands.
  torch   dfm/peers/latent_codec.py, PyTorch eager with as many threads; where torch is installed.
Each gives the loss and its gradients for all latents and networks; they must agree before anything is timed. They take
turns, --repeats rounds, each turn beginning with an untimed call; the median counts. Then one encode at --effort, cold
and (another seed, the same size) with what it compiled, and the decode in a fresh process: interpreter, imports,
tables, file, pixels. Measure on an idle machine: the load average at the start is recorded.

Aims on two idle cores: 15 ms a step at 256x256 and 90 ms at 768x512, 3x plain, 1.5x torch; decode 0.25 s and 0.8 s.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dfm import codec
from dfm.codec.latents import fitting, model, pieces, shapes
from dfm.picture_files import load_picture
from dfm.results import record

RATE_WEIGHT = 1e-3
TOLERANCE = 1e-4  # relative to the largest entry of each gradient
DECODE = "import sys; from dfm.compress import main; sys.exit(main(sys.argv[1:]))"


def problem(picture: np.ndarray, seed: int) -> tuple:
    """(networks, latents, target, layout)."""
    layout = shapes.layout_of(picture.shape)
    mean = picture.reshape(-1, layout.channels).mean(0) / 255
    networks = fitting.initial_networks(layout, mean, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    networks = {name: value + 0.02 * rng.normal(size=value.shape) for name, value in networks.items()}
    networks = {name: jnp.asarray(value, jnp.float32) for name, value in networks.items()}
    latents = jnp.asarray(2 * rng.normal(size=layout.latents), jnp.float32)
    return networks, latents, jnp.asarray(np.moveaxis(picture, -1, 0) / 255, jnp.float32), layout


def plain_loss(networks, latents, target, layout):
    grids = fitting.split(latents, layout)
    painted = model.paint(networks, grids)
    clamped = painted + jax.lax.stop_gradient(jnp.clip(painted, 0, 1) - painted)
    bits_per_pixel = model.rate(networks, grids) / (layout.height * layout.width)
    return ((clamped - target) ** 2).mean() + RATE_WEIGHT * bits_per_pixel


def fast_loss(networks, latents, target, layout):
    return pieces.loss(networks, fitting.split(latents, layout), target, RATE_WEIGHT)[0]


def jax_form(loss, networks, latents, target, layout):
    step = jax.jit(jax.value_and_grad(lambda networks, latents: loss(networks, latents, target, layout), (0, 1)))
    return lambda: jax.block_until_ready(step(networks, latents))


def torch_form(task: tuple, threads: int):
    import torch

    from dfm.peers import latent_codec

    networks, latents, target, layout = task
    torch.set_num_threads(threads)
    tensors = {name: torch.tensor(np.asarray(value), requires_grad=True) for name, value in networks.items()}
    vector = torch.tensor(np.asarray(latents), requires_grad=True)
    wanted = torch.tensor(np.asarray(target))

    def step():
        loss = latent_codec.loss(tensors, fitting.split(vector, layout), wanted, RATE_WEIGHT)
        gradients = torch.autograd.grad(loss, [*tensors.values(), vector])
        return loss.detach(), (dict(zip(tensors, gradients[:-1], strict=True)), gradients[-1])

    return step


def largest_disagreement(forms: dict) -> float:
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(forms["plain"]())]
    errors = [0.0]
    for form in forms.values():
        for value, reference in zip(jax.tree.leaves(form()), expected, strict=True):
            errors.append(float(np.abs(np.asarray(value) - reference).max() / (np.abs(reference).max() + 1e-12)))
    return max(errors)


def median_seconds(forms: dict, repeats: int, calls: int) -> dict[str, float]:
    """Form -> median seconds a call over rounds in which all forms take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            form()
            start = time.perf_counter()
            for _ in range(calls):
                form()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def time_files(picture: np.ndarray, effort: int, repeats: int) -> dict:
    """Seconds of an encode, cold and warm, and of a decode in a process of its own; bytes."""
    encode_seconds = []
    for seed in (0, 1):
        start = time.perf_counter()
        data = codec.encode(picture, profile="latents", effort=effort, seed=seed)
        encode_seconds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.dfm")
        path.write_bytes(data)
        decode_seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            command = [sys.executable, "-c", DECODE, "decode", str(path), "-o", f"{folder}/picture.ppm", "--quiet"]
            subprocess.run(command, check=True)
            decode_seconds.append(time.perf_counter() - start)
    return {
        "bytes": len(data),
        "encode_seconds_cold": encode_seconds[0],
        "encode_seconds": encode_seconds[1],
        "decode_seconds": statistics.median(decode_seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256x256,768x512", help="width x height, comma-separated")
    parser.add_argument("--picture", required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="a turn")
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--no-files", action="store_true", help="steps only")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", default="results/bench_latent_codec.jsonl")
    args = parser.parse_args()
    whole = load_picture(args.picture)
    for size in args.sizes.split(","):
        width, height = map(int, size.split("x"))
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        picture = np.ascontiguousarray(whole[top : top + height, left : left + width])
        start, load = time.perf_counter(), os.getloadavg()[0]
        task = problem(picture, 0)
        forms = {"plain": jax_form(plain_loss, *task), "ours": jax_form(fast_loss, *task)}
        if importlib.util.find_spec("torch") is not None:
            forms["torch"] = torch_form(task, args.threads)
        disagreement = largest_disagreement(forms)
        if disagreement > TOLERANCE:
            raise SystemExit(f"{size}: the forms disagree by {disagreement:.1e}")
        seconds = median_seconds(forms, args.repeats, args.calls)
        metrics = {f"{name}_milliseconds": 1e3 * value for name, value in seconds.items()}
        metrics |= {"disagreement": disagreement, "load_average": load}
        if not args.no_files:
            metrics |= time_files(picture, args.effort, 3)
        print(size, {name: round(value, 6) for name, value in metrics.items()}, flush=True)
        config = {"size": size, "effort": args.effort, "repeats": args.repeats, "threads": args.threads}
        seconds_in_all = time.perf_counter() - start
        record(args.output, "bench_latent_codec", "as-is", sys.argv, config, 0, seconds_in_all, metrics)


if __name__ == "__main__":
    main()
