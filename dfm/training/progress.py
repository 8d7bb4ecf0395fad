"""How far a training is, for whoever watches: a bar on a terminal, a line an interval in a log file."""

import sys
import time
from typing import Any

import jax


class Progress:
    """Loss or PSNR, rate and time left, on standard error; silent on all processes but the first."""

    def __init__(self, first_step: int, total_steps: int):
        self._total = total_steps
        self._quiet = jax.process_index() != 0
        self._shown_first: tuple[int, float] | None = None  # step and time: compilation lies before
        self._bar: Any = None
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(initial=first_step, total=total_steps, unit="step", file=sys.stderr, dynamic_ncols=True)

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def show(self, line: dict[str, float]) -> None:
        """Shows a line of metrics.jsonl."""
        words = f"loss {line['loss']:.4g}" + (f", PSNR {line['psnr']:.2f} dB" if "psnr" in line else "")
        if self._bar is not None:
            self._bar.set_postfix_str(words)
        elif not self._quiet:
            step, now = int(line["step"]), time.perf_counter()
            rate = line["steps_per_second"]
            if self._shown_first is None:
                self._shown_first = step, now
            elif step > self._shown_first[0]:
                rate = (step - self._shown_first[0]) / (now - self._shown_first[1])  # with checkpoints and pictures
            left = (self._total - step) / rate
            print(
                f"step {line['step']}/{self._total}: {words}, {line['steps_per_second']:.2f} steps/s, "
                f"{_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
