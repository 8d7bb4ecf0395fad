"""Times the Fourier layer against the literal form of Eq. 4.5, under jax.jit and in PyTorch, in one run.

    python scripts/bench_fourier_layer.py --widths 4,6,8 --points 16384 --repeats 9 \\
        --output results/bench_fourier_layer.jsonl

What is timed:
  ours     dfm.models.fourier under jax.jit, on the path that XLA compiles (`fourier_sum`). On an accelerator a
           kernel would replace that one function; its callers, and this script, stay as they are.
  literal  dfm/models/literal_fourier.py under jax.jit: 2^m phases a point by a matrix product, then sines and cosines.
  torch    the same literal form in PyTorch eager with as many threads; only on a CPU, and where torch is installed.
Layers of m = n = width, then the net of --net_width and --net_depth on RGB points: the forward pass, and the forward
and backward pass of the mean squared error, with its gradients for the points (layers only) and all coefficients.

How: all forms get the same float32 inputs and must agree before anything is timed. The forms take turns, --repeats
rounds; each turn begins with an untimed call, so that a peer's still spinning threads and a cold cache are not billed
to the form that follows. The median over the rounds counts. Measure on an idle machine: beside one busy process
PyTorch's spinning threads wait for each other and take about four times as long (a third of that under
OMP_WAIT_POLICY=passive), so its ratio would flatter us. The load average at the start is recorded, and a high one
gives a warning.

Aims at width 8 on two CPU cores: forward 3x and forward + backward 2.5x the speed of literal; forward + backward 2x
the speed of torch.
"""

import argparse
import functools
import importlib.util
import os
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from dfm.command_line import usable_cores
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.models.fourier import coefficient_count, fourier_layer, fourier_net, layer_sizes
from dfm.models.literal_fourier import frequency_vectors, literal_layer, literal_net
from dfm.results import record

CHANNELS = 3
SECONDS_A_TURN = 0.05  # fast forms are called several times a turn: one call is shorter than a scheduler's slice
BUSY = 0.5  # load average: about half a core taken by others
TOLERANCE = 1e-4  # relative to the largest entry; the literal form's own phases cost a part of it


def layer_problem(width: int, points: int, seed: int) -> tuple:
    """(layers, x, target) of one layer of `width` inputs and outputs."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (points, width)).astype(np.float32)
    return random_layers([(width, width)], rng), x, rng.normal(size=(points, width)).astype(np.float32)


def net_problem(width: int, depth: int, points: int, seed: int) -> tuple:
    """(layers, x, target) of the net 2 -> width (depth times) -> RGB on points of the unit square."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (points, 2)).astype(np.float32)
    layers = random_layers(layer_sizes((width,) * depth, CHANNELS), rng)
    return layers, x, rng.uniform(-1, 1, (points, CHANNELS)).astype(np.float32)


def random_layers(sizes, rng) -> list[dict]:
    """cos and sin coefficients of each layer, deviation 0.1 / sqrt(2^m): a start from which nets are trained."""
    return [
        {name: rng.normal(0, 0.1 * 2 ** (-m / 2), (2**m, n)).astype(np.float32) for name in ("cos", "sin")}
        for m, n in sizes
    ]


def jax_form(network, layers, x, target, with_x: bool) -> dict:
    """{"forward", "forward_backward"}: functions without arguments that return when their outputs are there."""

    def loss(arguments):
        y = network(arguments["layers"], arguments.get("x", x))
        return jnp.mean((y - target) ** 2)

    layers, x, target = jax.device_put((layers, x, target))
    arguments = {"layers": layers, "x": x} if with_x else {"layers": layers}
    forward, value_and_gradients = jax.jit(network), jax.jit(jax.value_and_grad(loss))
    return {
        "forward": lambda: jax.block_until_ready(forward(layers, x)),
        "forward_backward": lambda: jax.block_until_ready(value_and_gradients(arguments)),
    }


def torch_form(is_net: bool, layers, x, target, with_x: bool) -> dict:
    """The literal form in PyTorch eager on the CPU, as `jax_form`."""
    import torch

    def network(layers, x):
        for layer in layers:
            frequencies = frequency_matrices[x.shape[-1]]
            phases = 2 * torch.pi * x @ frequencies
            y = torch.cos(phases) @ layer["cos"] + torch.sin(phases) @ layer["sin"]
            x = y + x if y.shape == x.shape else y
        return torch.tanh(x) if is_net else x

    def forward():
        with torch.no_grad():
            return network(layers, x)

    def forward_backward():
        loss = torch.mean((network(layers, x) - target) ** 2)
        gradients = iter(torch.autograd.grad(loss, leaves))
        by_layer = [{name: next(gradients) for name in layer} for layer in layers]
        return loss.detach(), {"layers": by_layer, **({"x": next(gradients)} if with_x else {})}

    layers = [{name: torch.tensor(array, requires_grad=True) for name, array in layer.items()} for layer in layers]
    x, target = torch.tensor(x, requires_grad=with_x), torch.tensor(target)
    leaves = [array for layer in layers for array in layer.values()] + ([x] if with_x else [])
    widths = {layer["cos"].shape[0].bit_length() - 1 for layer in layers}
    frequency_matrices = {m: torch.tensor(frequency_vectors(m), dtype=torch.float32).T.contiguous() for m in widths}
    return {"forward": forward, "forward_backward": forward_backward}


def make_forms(problem, is_net: bool, threads: int, with_torch: bool) -> dict:
    """Form -> pass -> function. Gradients for the points only where they have a use: inside a net, for its layers."""
    layers, x, target = problem

    def ours(layers, x):
        return fourier_net(layers, x) if is_net else fourier_layer(x, layers[0])

    def literal(layers, x):
        return literal_net(layers, x) if is_net else literal_layer(x, layers[0])

    forms = {
        "ours": jax_form(ours, layers, x, target, with_x=not is_net),
        "literal": jax_form(literal, layers, x, target, with_x=not is_net),
    }
    if with_torch:
        import torch

        torch.set_num_threads(threads)
        forms["torch"] = torch_form(is_net, layers, x, target, with_x=not is_net)
    return forms


def largest_disagreement(functions: dict) -> float:
    """Largest difference of any output of any form from the literal form's, relative to that output's largest entry."""

    def outputs(function):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(function())]

    reference = outputs(functions["literal"])
    errors = []
    for function in functions.values():
        for value, expected in zip(outputs(function), reference, strict=True):
            errors.append(float(np.abs(value - expected).max() / np.abs(expected).max()))
    return max(errors)


def median_seconds(functions: dict, repeats: int) -> dict[str, float]:
    """Form -> median seconds a call over `repeats` rounds in which all forms take turns."""

    def turn(function, calls):
        function()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls

    calls = {name: max(1, round(SECONDS_A_TURN / turn(function, 1))) for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(turn(function, calls[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(what: str, forms: dict, repeats: int) -> list[dict]:
    """One row a pass: {what, pass, milliseconds, speedup_over, disagreement}; printed as they come.

    Raises:
        UserError: the forms disagree.
    """
    rows = []
    for name in ("forward", "forward_backward"):
        functions = {form: passes[name] for form, passes in forms.items()}
        disagreement = largest_disagreement(functions)
        if not disagreement <= TOLERANCE:
            raise UserError(f"{what}, {name}: the forms differ by {disagreement:.1e}, more than {TOLERANCE:.0e}")
        seconds = median_seconds(functions, repeats)
        row = {
            "what": what,
            "pass": name,
            "milliseconds": {form: 1e3 * value for form, value in seconds.items()},
            "speedup_over": {form: value / seconds["ours"] for form, value in seconds.items() if form != "ours"},
            "disagreement": disagreement,
        }
        print_row(row)
        rows.append(row)
    return rows


def print_row(row: dict) -> None:
    times = [
        f"{row['milliseconds'][form]:9.2f}" if form in row["milliseconds"] else f"{'-':>9}"
        for form in ("ours", "literal", "torch")
    ]
    ratios = [
        f"{row['speedup_over'][form]:10.2f}x" if form in row["speedup_over"] else f"{'-':>11}"
        for form in ("literal", "torch")
    ]
    print(f"{row['what']:22} {row['pass']:17}", *times, *ratios, f"{row['disagreement']:10.1e}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="4,6,8", help="layer widths m = n, separated by commas (%(default)s)")
    parser.add_argument("--net_width", type=int, default=8, help="width of the whole net (%(default)s)")
    parser.add_argument("--net_depth", type=int, default=6, help="its number of hidden vectors (%(default)s)")
    parser.add_argument("--points", type=int, default=2**14, help="points a call (%(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (%(default)s)")
    parser.add_argument(
        "--output",
        default="results/bench_fourier_layer.jsonl",
        help="file to which the result is appended as a JSON line (%(default)s)",
    )
    arguments = parser.parse_args()
    try:
        arguments.widths = [int(width) for width in arguments.widths.split(",")]
    except ValueError:
        parser.error(f"--widths takes integers separated by commas, not {arguments.widths!r}")
    if min(*arguments.widths, arguments.net_width, arguments.net_depth, arguments.points, arguments.repeats) < 1:
        parser.error("widths, net depth, points and repeats must be positive")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    jax.config.update("jax_default_matmul_precision", "highest")  # else a GPU compares TF32 with TF32
    threads = usable_cores()
    with_torch = jax.default_backend() == "cpu" and importlib.util.find_spec("torch") is not None
    start = time.perf_counter()
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: load average {load:.1f}; the ratios, above all those to torch, want an idle machine")
    print(f"{jax.default_backend()}, {threads} threads, {arguments.points} points, medians of {arguments.repeats}")
    print(f"{'':40} {'ours ms':>9} {'literal':>9} {'torch':>9} {'to literal':>11} {'to torch':>11} {'error':>10}")
    make = functools.partial(make_forms, threads=threads, with_torch=with_torch)
    rows = []
    for width in arguments.widths:
        problem = layer_problem(width, arguments.points, arguments.seed)
        rows += measure(f"layer {width} -> {width}", make(problem, False), arguments.repeats)
    widths = (arguments.net_width,) * arguments.net_depth
    problem = net_problem(arguments.net_width, arguments.net_depth, arguments.points, arguments.seed)
    rows += measure(f"net width {widths[0]} depth {len(widths)}", make(problem, True), arguments.repeats)
    config = {name: value for name, value in vars(arguments).items() if name not in ("seed", "output")}
    config |= {
        "threads": threads,
        "backend": jax.default_backend(),
        "dtype": "float32",
        "basis": "cos_sin",
        "net_coefficients": coefficient_count(widths, CHANNELS),
    }
    record(
        arguments.output,
        name="bench_fourier_layer",
        protocol="random float32 inputs, forms take turns",
        command=["python", *sys.argv],
        config=config,
        seed=arguments.seed,
        seconds=time.perf_counter() - start,
        metrics={"load_average_at_start": load, "rows": rows},
    )
    print(f"appended to {arguments.output}")


if __name__ == "__main__":
    run_script(main)
