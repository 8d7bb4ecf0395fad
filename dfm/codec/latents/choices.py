"""What is to be fitted, and how: plain values, which need no JAX."""

from typing import NamedTuple


class Choice(NamedTuple):
    """Weight of the rate; only the first one where a size is asked for."""

    rate_weight: float
    target_bytes: int | None = None


class Settings(NamedTuple):
    """`shrinking`: passes of `refinement.shrink`."""

    steps: int
    seed: int
    shrinking: int
