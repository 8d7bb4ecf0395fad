"""What is done when a fit goes wrong, and when its file does not fit in the bytes. Numbers only: no net, no JAX."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dfm.shapes import Bool, Float

MAX_RETREATS, MAX_STUCK_RETREATS = 6, 3  # of one picture
PATIENCE_STEPS = 100  # and at least a tenth of all steps
DIVERGED = 5  # times the best loss


class FitStatus(NamedTuple):
    """Of each fit: whether its state is the best so far, whether it goes back, and whether that is to its start."""

    better: Bool[np.ndarray, "fit"]
    bad: Bool[np.ndarray, "fit"]
    stuck: Bool[np.ndarray, "fit"]


class Retreats:
    """Watches the losses of fits that are trained side by side.

    A fit that diverges (not finite, or five times its best loss) is to go back to its best state, one that is stuck
    (after a tenth of the steps no better than one flat colour) to its start.
    """

    def __init__(
        self, flat_loss: Float[np.ndarray, "fit"], best_loss: Float[np.ndarray, "fit"], start: int, total_steps: int
    ):
        """
        Args:
            flat_loss: of one flat colour.
            best_loss: of the state at the start; infinite where it is not known.
            start, total_steps: the step that comes next, and the number of all.
        """
        self.flat_loss, self.best_loss = flat_loss, best_loss
        self.patience = max(PATIENCE_STEPS, 0.1 * total_steps)
        self.count = np.zeros(len(flat_loss), int)
        self.latest = np.full(len(flat_loss), start)

    def update(self, step: int, loss: Float[np.ndarray, "fit"], finite: Bool[np.ndarray, "fit"]) -> FitStatus:
        """The mean loss of the latest steps, up to `step`; `finite`: of the loss and all coefficients."""
        better = finite & (loss < self.best_loss)
        poor = (loss > 0.99 * self.flat_loss + 1e-4) & (loss > 0.97 * self.best_loss)
        stuck = poor & (step - self.latest > self.patience) & (self.count < MAX_STUCK_RETREATS)
        diverged = (~finite | (loss > DIVERGED * self.best_loss)) & (self.count < MAX_RETREATS)
        bad = stuck | diverged
        self.best_loss = np.where(better, loss, self.best_loss)
        self.count += bad
        self.latest = np.where(bad, step, self.latest)
        return FitStatus(better, bad, stuck)


def finest_fitting(size: Callable[[int], int], limit: int, finest: int) -> int | None:
    """The largest fineness whose file has at most `limit` bytes, by bisection; None if the coarsest is larger.

    `size` maps a fineness in 0 ... `finest` to bytes and grows with it, but for the coder's last bytes.
    """
    low, high = -1, finest
    while low < high:
        middle = (low + high + 1) // 2
        if size(middle) <= limit:
            low = middle
        else:
            high = middle - 1
    return None if low < 0 else low
