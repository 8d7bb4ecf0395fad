"""What scripts/ share: rows that are not measured twice, fits of float nets, figures, words for the user.

A script parses its arguments, calls functions of the library and appends JSON lines with `dfm.results.record`; what two
of them need stands here or in the library, and no script imports tests or is imported by them.
"""

import argparse
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from PIL import Image

from dfm.codec import container
from dfm.codec.profiles import ProgressReport
from dfm.codec.weights import fitting, painting, payload
from dfm.codec.weights.fitting import Schedule
from dfm.codec.weights.recipes import DEFAULT, THESIS, Recipe
from dfm.command_line import run_command
from dfm.data import Dataset
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.models.fourier import coefficient_count, fourier_net
from dfm.picture_files import PICTURE_SUFFIXES, central_crop
from dfm.progress import Progress
from dfm.results import finite, read_lines
from dfm.sampling.run_data import RunData
from dfm.training.class_defaults import filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = np.ndarray  # uint8 [height, width, channel]
Net = list[dict[str, np.ndarray]]  # one picture's coefficients, [2^m, n] a layer and name

RECIPES = {
    "thesis": THESIS,
    "default": dataclasses.replace(DEFAULT, quantized_fraction=0.0),  # float weights, as the thesis'
}
TILE_POINTS = 2**14
STEPS_A_CALL = 50  # of a training on an accelerator
PHOTOGRAPHS = ("china.jpg", "flower.jpg")


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script's main as a command: what the user can mend is one line and exit code 2."""
    sys.exit(run_command(Path(sys.argv[0]).name, lambda _: main(), None))


def integers(text: str) -> list[int]:
    """Positive integers separated by commas, for argparse."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 4,6,8") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: all must be positive")
    return numbers


def in_words(setting: dict) -> str:
    return ", ".join(f"{name} {','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in setting.items())


def completed(given: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and from the setting what is None there.

    Raises:
        UserError: an integer of the setting's names is not positive.
    """
    found = {**given, **{name: value for name, value in setting.items() if given[name] is None}}
    for name in setting:
        if isinstance(found[name], int) and found[name] < 1:
            raise UserError(f"{name} must be positive, not {found[name]}")
    return found


def parse(parser: argparse.ArgumentParser, full: Mapping[str, Any], quick: Mapping[str, Any]) -> argparse.Namespace:
    """The options of a script, `completed` by the full setting or, under its --quick, by the quick one."""
    arguments = parser.parse_args()
    return argparse.Namespace(**completed(vars(arguments), quick if arguments.quick else full))


def find_row(rows: Sequence[dict], config: dict) -> dict | None:
    """The newest of the rows that were measured with exactly this config.

    Keys that the config of a training did not name yet had their defaults.
    """
    wanted = finite(config)
    return next((row for row in reversed(rows) if _is_same(row.get("config"), wanted)), None)


def _is_same(found: Any, wanted: dict) -> bool:
    if found == wanted:
        return True
    if not isinstance(found, dict) or not all(isinstance(each.get("training"), dict) for each in (found, wanted)):
        return False
    before, now = filled(found["training"], wanted["training"])
    return {**found, "training": before} == {**wanted, "training": now}


def save_figure(path: str, figure: "Figure") -> None:
    """The figure as a PNG, which appears when complete; its folder is made when missing."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    write_atomically(path, stream.getvalue())


def sample_photograph(name: str) -> Picture:
    """One of the two photographs that scikit-learn ships, `PHOTOGRAPHS`, 427 x 640."""
    from sklearn.datasets import load_sample_image

    return np.array(load_sample_image(name))


def pictures_of(folder: str | Path) -> dict[str, Path]:
    """Name -> file of the pictures in a folder, by name.

    Raises:
        UserError: no such folder.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")
    return {path.stem: path for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}


def square(picture: Picture, side: int) -> Picture:
    """The central square of a picture, at `side` pixels (Lanczos)."""
    cropped = central_crop(picture, min(picture.shape[:2]))
    image = Image.fromarray(cropped[..., 0] if cropped.shape[-1] == 1 else cropped)
    return np.array(image.resize((side, side), Image.Resampling.LANCZOS)).reshape(side, side, -1)


def fit_nets(
    recipe: Recipe,
    widths: Sequence[int],
    pictures: Sequence[Picture],
    total_steps: int,
    seed: int,
    progress: ProgressReport | None = None,
) -> tuple[list[Net], list[int]]:
    """Float nets, one a picture, fitted side by side; and how often each one's learning rate was halved."""
    pixels = fitting.stack_pictures(pictures)
    key = jax.random.key(seed)
    state = fitting.start(recipe, widths, pixels, "cos_sin", key)
    state = fitting.train(recipe, state, pixels, key, Schedule(0, total_steps, total_steps), progress=progress)
    layers = jax.device_get(state.layers)
    nets = [[{name: c[i] for name, c in layer.items()} for layer in layers] for i in range(len(pictures))]
    return nets, [round(-math.log2(rate)) for rate in np.asarray(state.rate)]


def final_loss(net: Net, picture: Picture, input_scale: float) -> float:
    """Eq. 4.7 literally: mean over all pixels of the squared norm of a pixel's error, values in [-1, 1].

    A third of it is the mean over pixels and channels of an RGB picture.
    """
    height, width, channels = picture.shape
    targets = picture.reshape(-1, channels) / 127.5 - 1
    total = 0.0
    for first in range(0, height * width, TILE_POINTS):
        index = jnp.arange(first, min(first + TILE_POINTS, height * width))
        values = _values(net, painting.coordinates(index, height, width) * input_scale)
        total += float(np.sum((np.asarray(values, np.float64) - targets[np.asarray(index)]) ** 2))
    return total / (height * width)


_values = jax.jit(fourier_net)


def float32_file(net: Net, picture: Picture, widths: Sequence[int], input_scale: float) -> tuple[bytes, Picture]:
    """A .dfm file of one net with float32 weights, and the picture that it decodes to."""
    height, width, channels = picture.shape
    painted = painting.paint(net, height, width, input_scale)
    architecture = payload.Architecture(tuple(widths), channels, "cos_sin", "float32", input_scale)
    header = container.Header(width, height, channels, "weights", container.checksum(painted))
    return container.write(header, payload.pack(payload.Net(architecture, net))), painted


def percent_of_raw(widths: Sequence[int], picture: Picture) -> float:
    """The thesis' size: 32-bit weights without any header, in percent of one byte a pixel and channel."""
    return 100 * 4 * coefficient_count(widths, picture.shape[-1]) / picture.size


class FitProgress(Progress):
    """Progress over several fits of known relative cost, on standard error, with the time left."""

    def __init__(self, total_cost: float):
        super().__init__(100.0, unit="")
        self._scale = 100.0 / total_cost if total_cost else 0.0  # nothing to fit

    def of_fit(self, name: str, cost: float) -> Callable[[int, int, float], None]:
        """The progress function of one fit, which is `cost` of the total."""
        before = self.done

        def update(done: int, total: int, decibels: float) -> None:
            self.reach(before + self._scale * cost * done / total, note=f"{name}: {decibels:.2f} dB")

        return update


def training_facts(workdir: str | Path) -> dict[str, Any]:
    """Command, commit, hardware and seconds of the training, from its folder."""
    with open(Path(workdir) / "run.json", encoding="utf-8") as file:
        starts = json.load(file)["starts"]
    lines = read_lines(Path(workdir) / "metrics.jsonl")
    seconds, before = 0.0, 0
    for line in lines:  # by the rates, so that the time between an interruption and the next start does not count
        seconds += (line["step"] - before) / line["steps_per_second"]
        before = line["step"]
    first = starts[0]
    return {
        "training_command": first["command"],
        "training_commit": first["commit"],
        "training_starts": len(starts),
        "training_hardware": first["hardware"],
        "training_seconds": round(seconds),
    }


def steps_per_call() -> int:
    """config.steps_per_call of small nets on this machine: Python is slower than their steps on an accelerator."""
    return 1 if jax.default_backend() == "cpu" else STEPS_A_CALL


def measured_rows(dataset: Dataset, count: int) -> Int[np.ndarray, " n"]:
    """Numbers of `count` pictures evenly spread over the data set, or of all."""
    count = min(count, len(dataset))
    return np.arange(count) * len(dataset) // count


def squared_errors(data: RunData, rows: Int[np.ndarray, " n"]) -> np.ndarray:
    """Mean squared errors of these training pictures on 8 bits, from the table or by the encoder: [height, width]."""
    originals = data.pictures(data.train, rows).astype(np.float64)
    return np.square(originals - data.painter.paint(data.latents_of_training(rows))).mean((0, 3))
