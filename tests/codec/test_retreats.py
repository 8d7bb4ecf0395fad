"""Which fits go back, and the finest rounding that keeps a limit."""

import numpy as np
import pytest

from dfm.codec.retreats import MAX_RETREATS, Retreats, finest_fitting


def test_finest_fitting():
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = np.cumsum(generator.integers(0, 3, 256)) + 20
        for limit in (0, 19, 20, 25, int(sizes[100]), int(sizes[-1]) - 1, int(sizes[-1]), 10_000):
            fitting_ones = np.flatnonzero(sizes <= limit)
            expected = int(fitting_ones[-1]) if len(fitting_ones) else None
            assert finest_fitting(lambda fineness, sizes=sizes: int(sizes[fineness]), limit, 255) == expected


def statuses(losses, flat=1.0, finite=True, total=1000):
    """The statuses of one fit, whose start has a loss of 1, after every fiftieth step."""
    retreats = Retreats(np.array([flat]), np.array([1.0]), 0, total)
    found = []
    for number, loss in enumerate(losses, start=1):
        status = retreats.update(50 * number, np.array([loss]), np.array([finite and np.isfinite(loss)]))
        found.append(tuple(bool(part[0]) for part in status))
    return found


BETTER, WORSE, DIVERGED, STUCK = (True, False, False), (False, False, False), (False, True, False), (False, True, True)


def test_a_fit_that_improves_goes_on():
    assert statuses([0.5, 0.4, 0.45, 0.3]) == [BETTER, BETTER, WORSE, BETTER]


@pytest.mark.parametrize("loss", [np.nan, np.inf, 2.6])
def test_a_fit_that_diverges_goes_back_to_its_best(loss):
    """Not finite, or over five times its best loss."""
    assert statuses([0.5, loss, 0.5, 0.4]) == [BETTER, DIVERGED, WORSE, BETTER]


def test_a_finite_loss_of_a_net_that_is_not_goes_back():
    assert statuses([0.5], finite=False) == [DIVERGED]


def test_retreats_end():
    assert statuses([np.nan] * (MAX_RETREATS + 2)) == [DIVERGED] * MAX_RETREATS + [WORSE] * 2


def test_a_fit_no_better_than_one_colour_goes_back_to_its_start():
    """After 100 steps, and again 100 steps later, three times at most; a flat picture is no matter of fitting."""
    assert statuses([1.0] * 12) == [WORSE, WORSE, STUCK] * 3 + [WORSE] * 3
    assert statuses([1e-5] * 3, flat=0.0) == [BETTER, WORSE, WORSE]


def test_patience_is_a_tenth_of_the_steps():
    assert statuses([1.0] * 7, total=3000).index(STUCK) == 6  # after 350 steps, the first above 300
