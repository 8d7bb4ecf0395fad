"""Metrics of a training: means over an interval, one JSON line each, and the watch for what is not finite."""

import math
import time
from pathlib import Path
from typing import Any

import jax

from dfm import results
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.metrics.picture_quality import FLOAT_PEAK, decibels
from dfm.training.run_folder import METRICS

HELD = 64  # steps whose metrics may stay on the device
IN_FLIGHT = 8  # steps that may run ahead of the host: enough to keep a device busy, few enough for memory


class NotFinite(UserError):
    """A metric or a parameter is NaN or infinite."""


class MetricLog:
    """Collects the metrics of steps, without waiting for the device, and writes their means.

    Two windows are open at any time: the one since the last line, and the one since the last regular checkpoint, whose
    mean decides which checkpoint is the best. `progress` and `resume` carry both over an interruption, so that the file
    of an interrupted run equals that of an uninterrupted one, apart from times.
    """

    def __init__(self, workdir: str | Path, pictures_per_step: int, write: bool = True, tensorboard: bool = False):
        self._path = Path(workdir) / METRICS
        self._write = write
        self._pictures_per_step = pictures_per_step
        self._pending: list[tuple[int, int, dict[str, jax.Array]]] = []  # last step, number of steps, metrics
        self._window: dict[str, tuple[int, float]] = {}  # number of steps and sum
        self._held_out: dict[str, float] = {}
        self._score = {"steps": 0, "sum": 0.0}
        self._clock, self._clock_steps, self._started = time.perf_counter(), 0, False
        self._tensorboard: Any = None
        self._tensorboard_folder = Path(workdir) / "tensorboard" if write and tensorboard else None

    def resume(self, step: int, progress: dict) -> None:
        """Begins after `step`: lines beyond it are dropped, open windows taken up again."""
        self._window = {name: (int(count), float(total)) for name, (count, total) in progress.get("sums", {}).items()}
        for name, values in progress.get("window", {}).items():  # as runs kept it before sums
            self._window[name] = (len(values), math.fsum(values))
        self._held_out = dict(progress.get("held_out", {}))
        self._score = dict(progress.get("score", self._score))
        if self._tensorboard_folder is not None:
            self._tensorboard = _tensorboard_writer(self._tensorboard_folder, step)
        if self._write and self._path.exists():
            kept = [line for line in results.read_lines(self._path) if line.get("step", 0) <= step]
            write_atomically(self._path, "".join(results.dump(line) + "\n" for line in kept).encode())

    def progress(self) -> dict:
        """The open windows, as JSON; call `flush` before."""
        return {"sums": self._window, "score": self._score, "held_out": self._held_out}

    def add(self, step: int, metrics: dict[str, jax.Array], count: int = 1) -> None:
        """Takes the metrics of the step that was just started; waits only where the device is far behind.

        Args:
            count: of steps up to this one that were started together; metrics are [count] then, where it is above 1.
        """
        if self._started:
            self._clock_steps += count
        else:
            # not counted: the time of the first step is that of its compilation
            self._clock, self._started = time.perf_counter(), True
        self._pending.append((step, count, metrics))
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][2])
        if len(self._pending) > HELD:  # an array of one number takes a kilobyte and more
            self._fetch(len(self._pending) - IN_FLIGHT)

    def add_held_out(self, step: int, metrics: dict[str, float]) -> None:
        """Means over pictures that are not trained on, for the next line.

        Raises:
            NotFinite: with the name of the metric.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NotFinite(f"step {step}: {name} is {value}, so training stopped")
        self._held_out = {"eval_step": step, **metrics}

    def flush(self) -> None:
        """Fetches everything from the device.

        Raises:
            NotFinite: with the first step and the name of the metric.
        """
        self._fetch(len(self._pending))

    def _fetch(self, count: int) -> None:
        """Takes up the metrics of the first `count` calls that wait."""
        pending, self._pending = self._pending[:count], self._pending[count:]
        fetched = jax.device_get([metrics for _, _, metrics in pending])
        for (last, steps, _), metrics in zip(pending, fetched, strict=True):
            for number in range(steps):
                own = {name: values if steps == 1 else values[number] for name, values in metrics.items()}
                self._take_up(last - steps + 1 + number, own)

    def _take_up(self, step: int, metrics: dict[str, Any]) -> None:
        """The metrics of one step."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NotFinite(f"step {step}: {name} is {float(value)}, so training stopped")
            steps, total = self._window.get(name, (0, 0.0))
            self._window[name] = steps + 1, total + float(value)
        self._score["steps"] += 1
        self._score["sum"] += float(metrics.get("mse", metrics["loss"]))

    def score(self) -> float:
        """Mean of mse, or of the loss where there is none, since the last regular checkpoint; call `flush` before."""
        return self._score["sum"] / max(1, self._score["steps"])

    def reset_score(self) -> None:
        self._score = {"steps": 0, "sum": 0.0}

    def write_line(self, step: int, learning_rates: dict[str, float]) -> dict[str, float]:
        """Closes the interval: its means, rates and speed as one line, which is also returned."""
        self.flush()
        line: dict[str, float] = {"step": step}
        line |= {name: total / steps for name, (steps, total) in self._window.items()}
        if "mse" in line:
            line["psnr"] = decibels(max(line["mse"], 1e-20), FLOAT_PEAK)
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        steps_per_second = max(1, self._clock_steps) / seconds
        line |= learning_rates | self._held_out
        line |= {
            "steps_per_second": steps_per_second,
            "pictures_per_second": steps_per_second * self._pictures_per_step,
            "time": round(time.time(), 3),
        }
        self._window, self._held_out, self._clock, self._clock_steps = {}, {}, time.perf_counter(), 0
        if self._write:
            results.append_line(self._path, line)
        if self._tensorboard is not None:
            for name, value in line.items():
                if name not in ("step", "time"):
                    self._tensorboard.add_scalar(name, value, step)
            self._tensorboard.flush()
        return line

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def _tensorboard_writer(folder: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError("a log for TensorBoard needs tensorboardX: pip install tensorboardX") from None
    return SummaryWriter(str(folder), purge_step=step + 1)
