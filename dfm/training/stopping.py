"""Stopping between two steps when a signal asks for it: Slurm's SIGTERM ahead of the time limit, Ctrl-C."""

import signal
import threading
from typing import Any

import jax
import numpy as np

from dfm.command_line import say

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY_STEPS = 10  # several processes ask each other, which waits for the slowest of them


class StopRequest:
    """Within the `with`, SIGTERM and SIGINT are noted; a second one interrupts at once, without a save.

    Of two, one within the other (a sweep, and a training of it), both note the signal.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def requested(self, step: int) -> bool:
        """Whether to stop after this step. Several processes stop after the same one, or their sums would hang."""
        if jax.process_count() == 1:
            return self.signal is not None
        if step % AGREE_EVERY_STEPS:
            return False
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(self.signal is not None)).any())

    @property
    def exit_code(self) -> int:
        """0 after SIGTERM: the run was asked to make room, and can go on. 130 after Ctrl-C, as shells expect."""
        return 130 if self.signal == signal.SIGINT else 0

    def _note(self, number: int, frame: object) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        outer = getattr(self._previous.get(number), "__self__", None)
        if isinstance(outer, StopRequest):
            outer._note(number, frame)
        else:
            say(f"dfm.train: {signal.Signals(number).name}: saving after this step")
