"""Ways through the latent space: straight and spherical lines, loops for morphs, traversals of one direction."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from dfm.metrics.principal_components import principal_components
from dfm.registry import check

Latent = Float[np.ndarray, " d"]


def linear(a: Latent, b: Latent, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """(1 - t) a + t b."""
    t = np.asarray(times, np.float64)[:, None]
    return (1 - t) * a + t * b


def spherical(a: Latent, b: Latent, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """Around the origin: the direction turns evenly along the great circle, the length changes linearly.

    [sin((1 - t) w) a/|a| + sin(t w) b/|b|] / sin(w) times (1 - t) |a| + t |b|, with w the angle between a and b; for
    latents of equal length this is the slerp of Shoemake 1985. Samples of N(0, I) lie near a sphere, and a straight
    line between two of them cuts through its empty inside. Where there is no one great circle (parallel or opposite
    latents, or a latent at the origin) the line is straight.
    """
    t = np.asarray(times, np.float64)[:, None]
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    if min(length_a, length_b) == 0:
        return linear(a, b, times)
    cosine = np.clip(np.dot(a / length_a, b / length_b), -1, 1)
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        return linear(a, b, times)
    direction = (np.sin((1 - t) * angle) * (a / length_a) + np.sin(t * angle) * (b / length_b)) / np.sin(angle)
    return ((1 - t) * length_a + t * length_b) * direction


PATHS: dict[str, Callable[[Latent, Latent, Float[np.ndarray, " n"]], Float[np.ndarray, "n d"]]] = {
    "linear": linear,
    "spherical": spherical,
}


def between(a: Latent, b: Latent, count: int, path: str) -> Float[np.ndarray, "count d"]:
    """`count` latents from a to b, both included."""
    return PATHS[path](a, b, np.linspace(0, 1, count))


def loop(stations: Float[np.ndarray, "k d"], frames: int, path: str) -> Float[np.ndarray, "k*frames d"]:
    """From each station to the next, `frames` latents a way, and from the last back to the first, without end."""
    times = np.arange(frames) / frames
    following = np.roll(stations, -1, axis=0)
    return np.concatenate([PATHS[path](a, b, times) for a, b in zip(stations, following, strict=True)])


def class_representatives(
    latents: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " classes"], Int[np.ndarray, " classes"]]:
    """Labels in order, and for each the picture that is most of its class.

    Its latent, seen from the mean of all, points most nearly where the mean of its class lies (largest cosine). A class
    mean itself may paint no picture of the class: the mean of two handwritings of 1 is neither. The latent nearest to
    it is no better: in many dimensions it is the one nearest to the middle of everything, a 2 that looks like a 1.
    With one class there is no direction, and the nearest is taken.
    """
    known = np.unique(labels)
    centred = latents - latents.mean(0)
    chosen = []
    for label in known:
        rows = np.flatnonzero(labels == label)
        direction = centred[rows].mean(0)
        if len(known) == 1:
            score = -np.linalg.norm(centred[rows], axis=1)
        else:
            score = centred[rows] @ direction / np.maximum(np.linalg.norm(centred[rows], axis=1), 1e-12)
        chosen.append(rows[np.argmax(score)])
    return known, np.array(chosen)


def directions(
    latents: Float[np.ndarray, "n d"], kind: str
) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, " d"]]:
    """Unit vectors as rows with the latents' standard deviation along each, the largest first.

    Args:
        kind: "principal": principal directions of the latents; "coordinates": the latent's own dimensions.
    """
    check("directions", kind, ("principal", "coordinates"))
    if kind == "principal":
        found = principal_components(latents)
        return found.directions, np.sqrt(found.variances)
    deviations = latents.std(0, dtype=np.float64, ddof=1)
    order = np.argsort(-deviations, kind="stable")
    return np.eye(len(deviations))[order], deviations[order]


def traversals(
    base: Latent, vectors: Float[np.ndarray, "k d"], scales: Float[np.ndarray, " k"], columns: int, span: float
) -> Float[np.ndarray, "k*columns d"]:
    """For each vector `columns` latents from -span to +span standard deviations around the base."""
    steps = np.linspace(-span, span, columns)
    offsets = steps[None, :, None] * (scales[:, None] * vectors)[:, None, :]
    return (base + offsets).reshape(-1, len(base))
