"""Attribute vectors: the direction in which latents get something that some pictures have and others lack."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dfm.errors import UserError

CLOSENESS = 0.9999  # cosine of the direction before a batch and after it


@dataclass(frozen=True)
class AttributeVector:
    """mean(latents with the attribute) - mean(latents without).

    Attributes:
        with_it, without_it: latents that were read.
        closeness: cosine between the vector before the last batch and after it; None of a single batch.
        settled: whether it had stopped turning; otherwise all there was has been read.
    """

    vector: Float[np.ndarray, " d"]
    with_it: int
    without_it: int
    closeness: float | None
    settled: bool


def attribute_vector(
    batches: Iterable[tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, " n"]]], closeness: float = CLOSENESS
) -> AttributeVector:
    """Reads batches of latents until the running direction stops turning (notes on VAEs, section 5).

    After each batch the difference of the running means is compared with what it was before: where the cosine reaches
    `closeness`, the rest is not read. A batch without one of the two kinds moves one mean alone and decides nothing.

    Args:
        batches: latents, and which of them have the attribute.

    Raises:
        UserError: none has it, or all have.
    """
    sums: dict[bool, np.ndarray] = {}
    counts = {True: 0, False: 0}
    before: np.ndarray | None = None
    turned: float | None = None
    for latents, has in batches:
        for kind in (True, False):
            chosen = np.asarray(latents, np.float64)[has == kind]
            counts[kind] += len(chosen)
            sums[kind] = sums.get(kind, np.zeros(latents.shape[1])) + chosen.sum(0)
        if not (counts[True] and counts[False]):
            continue
        now = sums[True] / counts[True] - sums[False] / counts[False]
        if before is not None:
            turned = _cosine(before, now)
            if turned >= closeness and has.any() and not has.all():
                return AttributeVector(now, counts[True], counts[False], turned, True)
        before = now
    check_divides(counts[True], counts[False])
    assert before is not None  # as there are both kinds
    return AttributeVector(before, counts[True], counts[False], turned, False)


def check_divides(with_it: int, without_it: int) -> None:
    """UserError where none of the pictures has the attribute, or all have."""
    if not (with_it and without_it):
        lacking = "all of the pictures have" if with_it else "none of the pictures has"
        raise UserError(f"{lacking} the attribute: there is no direction towards it")


def _cosine(a: Float[np.ndarray, " d"], b: Float[np.ndarray, " d"]) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0


def with_attribute(
    latents: Float[np.ndarray, "n d"], vector: Float[np.ndarray, " d"], alphas: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "n*columns d"]:
    """z + alpha v: a row of latents for each z."""
    moved = latents[:, None, :] + np.asarray(alphas)[None, :, None] * vector
    return moved.reshape(-1, latents.shape[1]).astype(np.float32)
