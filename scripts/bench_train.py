"""Steps per second of our training step against the same model written plainly in PyTorch, in one run.

    python scripts/bench_train.py                          # both configurations of the thesis; needs torch
    python scripts/bench_train.py --config cifar10 --batch_size 64 --steps 3 --repeats 3
    python scripts/bench_train.py --alone --steps 100      # ours alone, on whatever device there is

What is timed: whole steps of the presets configs/dfm_mnist.py:thesis (table of 70,000 latents, 64 pictures a step) and
configs/dfm_cifar10.py:thesis (encoder, 512 pictures a step), from a batch of uint8 pictures in the host's memory to
updated parameters. In one thing they are not literal: weights start with a standard deviation of 1e-2, because from the
thesis' start the first gradient of CIFAR-10 is infinite in float32 and that of MNIST chaotic: nothing to compare.
  ours     dfm.training.step.make_step under jax.jit with a donated state, as dfm/train.py runs it; on one device, and
           on as many CPU devices as there are cores (JAX_NUM_CPU_DEVICES=2 python -m dfm.train does that): XLA splits
           single operations over threads, which gains little where they are small; devices split the pictures.
  torch    PyTorch eager, with as many threads: nn.Linear and ReLU, Eq. 4.5 to the letter (phases by a matrix product, a
           cosine and a sine of each, a batched matrix product with each picture's coefficients), torch.optim.Adam; the
           table is nn.Embedding(sparse=True) with SparseAdam, which updates the rows of the batch alone, as ours does.
The pictures are random: no time depends on them.

How: both get the same weights and pictures and must agree, before anything is timed, in the loss and in the gradient
of every array. Then they take turns, --repeats rounds of --steps steps after one untimed step; the median over the
rounds counts. Measure on an idle machine: beside one busy process PyTorch's spinning threads wait for each other, and
its ratio would flatter us (as much as fourfold). The load average at the start is recorded. To reach, on two CPU
cores: 3 times the speed of PyTorch.
"""

import argparse
import functools
import importlib.util
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from dfm import models, objectives
from dfm.command_line import usable_cores
from dfm.config import config_module, resolve
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.models.dfm import pixel_centres
from dfm.objectives.protocol import LATENTS
from dfm.results import record
from dfm.training import optimizers
from dfm.training.sharding import data_mesh, on_each_device, place_batch
from dfm.training.state import initial_state
from dfm.training.step import make_step, with_floats

CONFIGS = {"mnist": ("dfm_mnist.py", 70_000), "cifar10": ("dfm_cifar10.py", 50_000)}
BUSY = 0.5  # load average: about half a core taken by others
TOLERANCE = 1e-4  # relative; the literal form's own phases cost a part of it
CHECKED_PICTURES = 16
START_DEVIATION = 1e-2

Batch = dict[str, np.ndarray]


def load_config(name: str, batch_size: int | None) -> Any:
    """The resolved thesis preset of `mnist` or `cifar10` as above, with another batch size where one is asked for."""
    path = Path(__file__).parents[1] / "configs" / CONFIGS[name][0]
    config = config_module(path).get_config("thesis")
    config.batch_size = batch_size or config.batch_size
    config.model.kernel_variance = START_DEVIATION**2
    return resolve(config)


def make_batches(config: Any, examples: int, count: int, seed: int) -> list[Batch]:
    """Batches of random pictures, each with the numbers of its examples, as dfm.data.Batches makes them."""
    rng, model = np.random.default_rng(seed), config.model
    shape = (config.batch_size, model.height, model.width, model.channels)
    return [
        {
            "image": rng.integers(0, 256, shape).astype(np.uint8),
            "label": np.zeros(config.batch_size, np.int32),
            "index": rng.choice(examples, config.batch_size, replace=False).astype(np.int32),
        }
        for _ in range(count)
    ]


class Ours:
    """Our step as dfm/train.py runs it.

    Attributes:
        params, latents: the weights it begins with, as NumPy arrays; latents is None where there is an encoder.
    """

    def __init__(self, config: Any, examples: int, devices: int = 1):
        self.config, self.mesh = config, data_mesh(jax.devices()[:devices])
        self.objective = objectives.build(config.objective, models.build(config.model))
        table = not config.model.encoder_widths
        groups = ("decoder", LATENTS) if table else ("decoder", "encoder")
        optimizer = optimizers.build(config.optimizer.to_dict(), config.total_steps, groups)
        sharding = on_each_device(self.mesh)
        begin = functools.partial(initial_state, self.objective, optimizer, examples, config.seed, config.ema_decay > 0)
        self._state = jax.jit(begin, out_shardings=sharding)()
        self.params = jax.tree.map(np.array, self._state.params)
        self.latents = np.array(self._state.latents.values) if table else None
        step = make_step(self.objective, optimizer, config.ema_decay, config.compute_dtype)
        self._step = jax.jit(step, donate_argnums=0, out_shardings=sharding)

    def step(self, batch: Batch) -> None:
        self._state, _ = self._step(self._state, place_batch(batch, self.mesh))
        jax.block_until_ready(self._state)

    def loss_and_gradients(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"loss", "<group>/<layer>/<array>", "latents" (of the batch)} at the weights it begins with."""
        rows = None if self.latents is None else self.latents[batch["index"]]
        compute = jax.jit(
            lambda params, rows, batch: self.objective.gradients(
                params, None, with_floats(batch), jax.random.key(0), self.objective.phase(0), rows=rows
            )
        )
        metrics, gradients, _ = compute(self.params, rows, batch)
        return {"loss": metrics["loss"]} | traverse_util.flatten_dict(gradients, sep="/")


class Torch:
    """The same model, loss and optimizer in PyTorch eager, from these weights."""

    def __init__(self, config: Any, params: Any, latents: np.ndarray | None, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.model, self.penalty = config.model, config.objective.latent_penalty
        self.mlps = {name: _torch_mlp(layers) for name, layers in params.items()}
        rates = {name: group["learning_rate"] for name, group in config.optimizer.groups.items()}
        groups = [
            {"params": mlp.parameters(), "lr": rates.get(name, config.optimizer.learning_rate)}
            for name, mlp in self.mlps.items()
        ]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(groups)]
        self.table = None
        if latents is not None:
            self.table = torch.nn.Embedding.from_pretrained(torch.tensor(latents), freeze=False, sparse=True)
            self.optimizers.append(torch.optim.SparseAdam(self.table.parameters(), lr=rates[LATENTS]))
        self.points = torch.tensor(np.asarray(pixel_centres(self.model.height, self.model.width)))

    def step(self, batch: Batch) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.loss(batch).backward()
        for optimizer in self.optimizers:
            optimizer.step()

    def loss(self, batch: Batch):
        """Eq. 4.8, with means over pixels, channels and pictures."""
        import torch

        images = torch.from_numpy(batch["image"]).float() / 127.5 - 1
        if self.table is not None:
            z = self.table(torch.from_numpy(batch["index"]))
        else:
            z = self.mlps["encoder"](images.flatten(1))
        painted = _torch_net(self.mlps["decoder"](z), self.points, self.model)
        squares = (painted - images.reshape(*painted.shape)) ** 2
        return squares.mean() + self.penalty * (z**2).sum(-1).mean()

    def loss_and_gradients(self, batch: Batch) -> dict[str, np.ndarray]:
        """By the names and in the layout of `Ours.loss_and_gradients`."""
        loss = self.loss(batch)
        loss.backward()
        found = {"loss": loss.detach().numpy()}
        for group, mlp in self.mlps.items():
            for number, linear in enumerate(mlp[::2]):
                found[f"{group}/layers_{number}/kernel"] = linear.weight.grad.T.numpy()
                found[f"{group}/layers_{number}/bias"] = linear.bias.grad.numpy()
        if self.table is not None:
            found["latents"] = self.table.weight.grad.to_dense()[batch["index"]].numpy()
        return found


def _torch_mlp(layers: dict[str, dict[str, np.ndarray]]):
    """nn.Linear layers of these weights, with ReLU between them."""
    import torch

    modules: list[torch.nn.Module] = []
    for index in range(len(layers)):
        weights = layers[f"layers_{index}"]
        linear = torch.nn.Linear(*weights["kernel"].shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weights["kernel"].T))
            linear.bias.copy_(torch.tensor(weights["bias"]))
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def _torch_net(vectors, points, model):
    """Eq. 4.5 and 4.6 to the letter, in the basis cas: [batch, points, channels] from [batch, coefficients]."""
    import torch

    sizes = [2, *(model.net_width,) * model.net_depth, model.channels]
    x, first = points, 0
    for m, n in zip(sizes[:-1], sizes[1:], strict=True):
        k = torch.tensor([[row >> j & 1 for row in range(2**m)] for j in range(m)], dtype=torch.float32)
        coefficients = vectors[:, first : first + 2**m * n].reshape(-1, 2**m, n)
        phases = 2 * math.pi * x @ k
        y = (torch.cos(phases) + torch.sin(phases)) @ coefficients
        x = x + y if m == n else y
        first += 2**m * n
    return torch.tanh(x)


def disagreement(config: Any, ours: Ours, batch: Batch, threads: int) -> float:
    """Largest relative difference, in the L2 norm, of the loss and of any array of gradients of the first pictures."""
    few = {name: values[:CHECKED_PICTURES] for name, values in batch.items()}
    expected = Torch(config, ours.params, ours.latents, threads).loss_and_gradients(few)
    found = ours.loss_and_gradients(few)
    # np.max, unlike max, lets no NaN pass
    return float(np.max([np.linalg.norm(found[name] - v) / np.linalg.norm(v) for name, v in expected.items()]))


def turn(step: Callable[[Batch], None], batches: list[Batch], steps: int) -> float:
    """Seconds a step, after an untimed one: a peer's spinning threads and a cold cache are billed to nobody."""
    step(batches[0])
    start = time.perf_counter()
    for number in range(steps):
        step(batches[number % len(batches)])
    return (time.perf_counter() - start) / steps


def measure(name: str, arguments: argparse.Namespace, threads: int) -> dict[str, Any]:
    """{steps_per_second, speedup, disagreement, ...} of one configuration, by form.

    Raises:
        UserError: the two forms disagree.
    """
    config, examples = load_config(name, arguments.batch_size), CONFIGS[name][1]
    batches = make_batches(config, examples, 4, arguments.seed)
    ours = Ours(config, examples)
    forms, found = {"one_device": ours.step}, {"what": name, "batch_size": config.batch_size}
    if jax.device_count() > 1 and config.batch_size % jax.device_count() == 0:
        forms["all_devices"] = Ours(config, examples, jax.device_count()).step
    if not arguments.alone:
        found["disagreement"] = difference = disagreement(config, ours, batches[0], threads)
        if not difference <= TOLERANCE:
            raise UserError(f"{name}: loss or gradients differ by {difference:.1e}, more than {TOLERANCE:.0e}")
        forms["torch"] = Torch(config, ours.params, ours.latents, threads).step
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(arguments.repeats):
        for form, step in forms.items():
            seconds[form].append(turn(step, batches, arguments.steps))
    medians = {form: statistics.median(values) for form, values in seconds.items()}
    peer = seconds.pop("torch", [])
    found["steps_per_second"] = {form: 1 / value for form, value in medians.items()}
    if peer:
        found["speedup"] = {form: medians["torch"] / medians[form] for form in seconds}
        found["speedup_of_each_round"] = {
            form: [b / a for a, b in zip(values, peer, strict=True)] for form, values in seconds.items()
        }
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", choices=(*CONFIGS, "both"), default="both", help="default %(default)s")
    add("--steps", type=int, default=5, help="timed steps a turn (%(default)s)")
    add("--repeats", type=int, default=5, help="rounds, of which the median counts (%(default)s)")
    add("--batch_size", type=int, help="pictures a step; default: the thesis' 64 and 512")
    add("--alone", action="store_true", help="do not time PyTorch; then any device will do")
    add("--seed", type=int, default=0, help="of the random pictures (%(default)s)")
    add("--output", default="results/bench_train.jsonl", help="file to which the result is appended (%(default)s)")
    arguments = parser.parse_args()
    for name in ("steps", "repeats", "batch_size"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    threads = usable_cores()
    jax.config.update("jax_num_cpu_devices", threads)
    if not arguments.alone and importlib.util.find_spec("torch") is None:
        raise UserError("torch is not installed (pip install dfm[peers]); --alone times ours alone")
    if not arguments.alone and jax.default_backend() != "cpu":
        raise UserError("the peer runs on the CPU: set JAX_PLATFORMS=cpu, or --alone")
    start, load = time.perf_counter(), os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: load average {load:.1f}; the ratio wants an idle machine")
    rows = []
    for name in CONFIGS if arguments.config == "both" else (arguments.config,):
        row = measure(name, arguments, threads)
        rates = ", ".join(f"{form} {rate:.3g}" for form, rate in row["steps_per_second"].items())
        line = f"{name}, {row['batch_size']} pictures: steps/s {rates}"
        if not arguments.alone:
            ratios = ", ".join(f"{form} {ratio:.2f}" for form, ratio in row["speedup"].items())
            line += f"; times the speed of PyTorch: {ratios} (differences {row['disagreement']:.0e})"
        print(line, flush=True)
        rows.append(row)
    config = {name: value for name, value in vars(arguments).items() if name not in ("seed", "output")}
    record(
        arguments.output,
        name="bench_train",
        protocol="thesis presets, random pictures, forms take turns",
        command=["python", *sys.argv],
        config=config | {"threads": threads, "dtype": "float32"},
        seed=arguments.seed,
        seconds=time.perf_counter() - start,
        metrics={"load_average_at_start": load, "rows": rows},
    )
    print(f"appended to {arguments.output}")


if __name__ == "__main__":
    run_script(main)
