"""Times a gradient step of the latents profile against its plain form and PyTorch, whole encodes, and decodes.

    python scripts/bench_latent_codec.py --sizes 256x256,768x512 --picture kodim15.png \\
        --output results/bench_latent_codec.jsonl
    python scripts/bench_latent_codec.py --sizes 4000x3000 --parts files --steps 20 --picture kodim15.png   # memory

What is timed, on the centre of the picture and networks and latents away from their start:
  ours    dfm/codec/latents/pieces.py: value and gradient together, in pieces that stay in the cache, on all cores.
  plain   dfm/codec/latents/model.py, differentiated as it stands.
  torch   dfm/peers/latent_codec.py, PyTorch eager with as many threads; where torch is installed.
Each gives the loss and its gradients for all latents and networks, moves both a little along them, and does it again;
the two of JAX inside one program, as a fit does. They must agree before anything is timed, and take turns, --repeats
rounds of --calls steps, each turn beginning with an untimed one; the median counts. Then `fit`: a step of a fit as it
is, with rounding, noise and Adam. Then one encode at --effort, cold and (another seed, the same size) with what it
compiled, its peak memory, and the decode in a fresh process: interpreter, imports, tables, file, pixels. Measure on an
idle machine: the load average at the start is recorded.

Aims on two idle cores: 15 ms a step at 256x256 and 90 ms at 768x512, 3x plain, 1.5x torch; decode 0.25 s and 0.8 s.
"""

import argparse
import functools
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

from dfm.codec.latents import cores, fitting, model, pieces, shapes
from dfm.command_line import usable_cores, use_all_cores
from dfm.picture_files import load_picture, save_picture
from dfm.results import record

RATE_WEIGHT = 1e-3
TOLERANCE = 1e-4  # relative to the largest entry of each gradient
MEASURED = """
import sys
from dfm.codec.weights import recipes
from dfm.compress import main
if sys.argv[1] != "None":
    recipes.EFFORT_STEPS |= dict.fromkeys(recipes.EFFORT_STEPS, int(sys.argv[1]))
code = main(sys.argv[2:])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""
RATE = 1e-6  # of the descent: nothing leaves the neighbourhood of its start


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


def fast_loss(networks, latents, target, layout, part):
    return pieces.loss(networks, fitting.split_once(latents, layout), target, RATE_WEIGHT, part)[0]


def plain_form(networks, latents, target, layout):
    return jax.value_and_grad(lambda n, v: plain_loss(n, v, target, layout), (0, 1))


def fast_form(networks, latents, target, layout):
    def of_part(part, networks, latents):
        found = jax.value_and_grad(lambda n, v: fast_loss(n, v, target, layout, part), (0, 1))(networks, latents)
        return cores.total(found, part)

    return cores.in_parts(of_part, cores.parts_of(layout.height, layout.width))


def steps_of_jax(gradients, networks, latents, calls: int):
    """A function of nothing that takes `calls` steps of gradient descent in one program."""

    def step(_, carry):
        _, slopes = gradients(*carry)
        return jax.tree.map(lambda parameter, slope: parameter - RATE * slope, carry, slopes)

    run = jax.jit(lambda *start: jax.lax.fori_loop(0, calls, step, start))
    return lambda: jax.block_until_ready(run(networks, latents))


def torch_form(task: tuple, threads: int):
    import torch

    from dfm.peers import latent_codec

    networks, latents, target, layout = task
    torch.set_num_threads(threads)
    tensors = {name: torch.tensor(np.asarray(value), requires_grad=True) for name, value in networks.items()}
    vector = torch.tensor(np.asarray(latents), requires_grad=True)
    wanted = torch.tensor(np.asarray(target))

    def gradients():
        loss = latent_codec.loss(tensors, fitting.split(vector, layout), wanted, RATE_WEIGHT)
        slopes = torch.autograd.grad(loss, [*tensors.values(), vector])
        return loss.detach(), (dict(zip(tensors, slopes[:-1], strict=True)), slopes[-1])

    def steps(calls: int):
        for _ in range(calls):
            _, (for_networks, for_latents) = gradients()
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor -= RATE * for_networks[name]
                vector.sub_(RATE * for_latents)

    return gradients, steps


def fit_step_seconds(picture: np.ndarray, layout: shapes.Layout, steps: int) -> float:
    """Of a step of a fit, after one chunk that compiles."""
    fit = fitting.start(picture, layout.grids, 0, 0)
    fit = fitting.train(picture, fit, layout.grids, RATE_WEIGHT, fitting.CHUNK_STEPS, 0)
    jax.block_until_ready(fit.latents)
    start = time.perf_counter()
    fit = fitting.train(picture, fit, layout.grids, RATE_WEIGHT, steps, 0)
    jax.block_until_ready(fit.latents)
    return (time.perf_counter() - start) / steps


def largest_disagreement(results: dict) -> float:
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(results["plain"])]
    errors = [0.0]
    for found in results.values():
        for value, reference in zip(jax.tree.leaves(found), expected, strict=True):
            errors.append(float(np.abs(np.asarray(value) - reference).max() / (np.abs(reference).max() + 1e-12)))
    return max(errors)


def median_seconds(turns: dict, repeats: int, calls: int) -> dict[str, float]:
    """Form -> median seconds a step over rounds in which all forms take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            turn()
            start = time.perf_counter()
            turn()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def time_files(picture: np.ndarray, effort: int, steps: int | None, repeats: int) -> dict:
    """Seconds of encodes, cold and warm, and of a decode, each in a process of its own; bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "picture.png"), Path(folder, "picture.dfm")
        save_picture(source, picture)
        # the first process compiles, into an empty cache, what the second one finds there
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}
        options = ["--profile", "latents", "--effort", str(effort), "--quiet"]
        encode_seconds, peaks = [], []
        for seed in ("0", "1"):
            start = time.perf_counter()
            peaks.append(
                run_dfm(["encode", str(source), "-o", str(path), "--seed", seed, *options], environment, steps)
            )
            encode_seconds.append(time.perf_counter() - start)
        decode_seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            decode_peak = run_dfm(["decode", str(path), "-o", f"{folder}/picture.ppm", "--quiet"], environment)
            decode_seconds.append(time.perf_counter() - start)
        size = path.stat().st_size
    return {
        "bytes": size,
        "encode_seconds_cold": encode_seconds[0],
        "encode_seconds": encode_seconds[1],
        "peak_mebibytes_cold": peaks[0],
        "peak_mebibytes": peaks[1],
        "decode_seconds": statistics.median(decode_seconds),
        "decode_peak_mebibytes": decode_peak,
    }


def run_dfm(words: list[str], environment: dict[str, str], steps: int | None = None) -> float:
    """Peak of its resident memory in MiB; Linux counts what a child's own parent held into getrusage's."""
    command = [sys.executable, "-c", MEASURED, str(steps), *words]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256x256,768x512", help="width x height, comma-separated")
    parser.add_argument("--picture", required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="steps a turn")
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of the encodes, in place of the effort's: for memory alone")
    parser.add_argument("--parts", default="steps,files", help="of this bench")
    parser.add_argument("--file-repeats", type=int, default=3, help="decodes")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--output", default="results/bench_latent_codec.jsonl")
    args = parser.parse_args()
    use_all_cores()
    whole = load_picture(args.picture)
    for size in args.sizes.split(","):
        picture = of_size(whole, *map(int, size.split("x")))
        start, metrics = time.perf_counter(), {"load_average": os.getloadavg()[0]}
        if "steps" in args.parts:
            metrics |= time_steps(picture, args)
        if "files" in args.parts:
            metrics |= time_files(picture, args.effort, args.steps, args.file_repeats)
        print(size, {name: round(value, 6) for name, value in metrics.items()}, flush=True)
        names = ("effort", "steps", "repeats", "threads", "parts")
        config = {"size": size, **{name: getattr(args, name) for name in names}}
        seconds_in_all = time.perf_counter() - start
        record(args.output, "bench_latent_codec", "as-is", sys.argv, config, 0, seconds_in_all, metrics)


def of_size(whole: np.ndarray, width: int, height: int) -> np.ndarray:
    """The centre; a picture that is smaller is reflected at its edges."""
    missing = [max(0, want - have) for want, have in zip((height, width), whole.shape, strict=False)]
    whole = np.pad(whole, [(m - m // 2, m // 2) for m in missing] + [(0, 0)], mode="symmetric")
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    return np.ascontiguousarray(whole[top : top + height, left : left + width])


def time_steps(picture: np.ndarray, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds a step of every form, and how far they are apart."""
    task = problem(picture, 0)
    networks, latents, _, layout = task
    forms = {"plain": plain_form(*task), "ours": fast_form(*task)}
    results = {name: jax.jit(form)(networks, latents) for name, form in forms.items()}
    turns = {name: steps_of_jax(form, networks, latents, args.calls) for name, form in forms.items()}
    if importlib.util.find_spec("torch") is not None:
        gradients, steps = torch_form(task, args.threads)
        results["torch"] = gradients()
        turns["torch"] = functools.partial(steps, args.calls)
    disagreement = largest_disagreement(results)
    if disagreement > TOLERANCE:
        raise SystemExit(f"the forms disagree by {disagreement:.1e}")
    seconds = median_seconds(turns, args.repeats, args.calls)
    seconds["fit"] = fit_step_seconds(picture, layout, 2 * fitting.CHUNK_STEPS)
    return {**{f"{name}_milliseconds": 1e3 * value for name, value in seconds.items()}, "disagreement": disagreement}


if __name__ == "__main__":
    main()
