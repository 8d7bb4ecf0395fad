"""A picture to the content of a file: fit, integers, and the weight of the rate that meets a size."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dfm.codec import container
from dfm.codec.latents import fitting, flat, payload, refinement, shapes
from dfm.codec.latents.choices import Choice, Settings
from dfm.codec.latents.fitting import AGAIN, DEFAULT, Fit, Progress
from dfm.codec.latents.payload import Content
from dfm.codec.profiles import Picture

AGAIN_SHARE, FEWEST_STEPS = 0.3, 50  # of the steps, when a fit goes on at another weight
CONTROLLED = (0.2, 0.6)  # share of the steps in which the weight follows the rate
CONTROL_EXPONENT, CONTROL_FACTOR = 0.5, 1.5  # of the ratio of rates, and the most in one chunk
CLOSE_ENOUGH = 0.97  # of a target in bytes
MOST_AGAIN = 6
USUAL_SLOPE = -0.55  # of log bytes over log weight: about the root
MOST_STEP = 8.0  # factor on the weight
MARGIN = 0.99
MOST_WEIGHT_RATIO = 4.0  # between fits of which the second goes on where the first ended


class Try(NamedTuple):
    """A file of `bytes` that was fitted at this weight of the rate."""

    weight: float
    bytes: int


class State(NamedTuple):
    """Where a later fit of the same picture goes on."""

    fit: Fit
    rate_weight: float


def fit_picture(
    picture: Picture, choice: Choice, settings: Settings, state: State | None, progress: Progress | None
) -> tuple[Content, State]:
    """Content of a file, within `choice.target_bytes` where they are given; and a state to go on from."""
    grids = shapes.usual_grids(*picture.shape[:2])
    steps, seed, shrinking = settings
    target = choice.target_bytes
    if state is None or not 1 / MOST_WEIGHT_RATIO <= choice.rate_weight / state.rate_weight <= MOST_WEIGHT_RATIO:
        if progress is not None:
            progress(0, steps, np.nan)  # compiling takes seconds, in which nothing else can be said
        control = None if target is None else _control(picture, target, choice.network_bytes)
        fit = fitting.start(picture, grids, seed)
        fit, weight = fitting.train(picture, fit, grids, choice.rate_weight, steps, seed, DEFAULT, progress, control)
    else:
        weight = choice.rate_weight
        fit = _again(picture, state.fit, grids, weight, steps, seed, progress)
    content = _content(picture, fit, grids, weight, shrinking)
    if target is None:
        return content, State(fit, weight)
    best, tried = None, list[Try]()
    for attempt in range(MOST_AGAIN + 1):
        if attempt:
            weight = next_weight(tried, MARGIN * target)
            fit = _again(picture, fit, grids, weight, steps, seed, None)
            content = _content(picture, fit, grids, weight, shrinking)
        size = file_bytes(content, picture)
        tried.append(Try(weight, size))
        if size <= target and (best is None or size > best[0]):
            best = size, content
            if size >= CLOSE_ENOUGH * target:
                break
    # one colour always keeps the bytes: the plan has seen to that
    return (best[1] if best else flat.flat_content(picture)), State(fit, weight)


def next_weight(tried: Sequence[Try], wanted_bytes: float) -> float:
    """The weight at which the size is expected: between the latest try above and the latest below, or further on.

    A fit that goes on also gets better and larger, so steps grow while the tries stay on one side."""
    over = [one for one in tried if one.bytes > wanted_bytes]
    under = [one for one in tried if one.bytes <= wanted_bytes]
    if over and under and over[-1].weight < under[-1].weight:
        low, high = over[-1], under[-1]
        way = math.log(low.bytes / wanted_bytes) / math.log(low.bytes / high.bytes)
        return low.weight * (high.weight / low.weight) ** way
    latest = tried[-1]
    repeated = next((i for i, one in enumerate(reversed(tried)) if (one in over) != (latest in over)), len(tried))
    step = repeated * math.log(wanted_bytes / latest.bytes) / USUAL_SLOPE
    return latest.weight * math.exp(min(max(step, -math.log(MOST_STEP)), math.log(MOST_STEP)))


def file_bytes(content: Content, picture: Picture) -> int:
    return container.shared_bytes(picture.shape) + len(payload.pack(content))


def _control(picture: Picture, target_bytes: int, network_bytes: float) -> fitting.RateControl:
    """Leads the rate to the target's in the middle of the fit."""
    pixels = picture.shape[0] * picture.shape[1]
    wanted = 8 * max(target_bytes - network_bytes, 0.4 * target_bytes) / pixels

    def control(done: float, rate_weight: float, rate: float) -> float:
        if not CONTROLLED[0] <= done <= CONTROLLED[1]:
            return rate_weight
        factor = (max(rate, 1e-4) / wanted) ** CONTROL_EXPONENT
        return rate_weight * min(max(factor, 1 / CONTROL_FACTOR), CONTROL_FACTOR)

    return control


def _again(
    picture: Picture, fit: Fit, grids: int, rate_weight: float, steps: int, seed: int, progress: Progress | None
) -> Fit:
    steps = max(FEWEST_STEPS, round(AGAIN_SHARE * steps))
    fresh = fitting.from_networks(fit.latents, fit.networks)
    return fitting.train(picture, fresh, grids, rate_weight, steps, seed, AGAIN, progress)[0]


def _content(picture: Picture, fit: Fit, grids: int, rate_weight: float, shrinking: int) -> Content:
    layout = shapes.layout_of(picture.shape, grids)
    latents = refinement.latents_vector(fit)
    networks = refinement.quantize(refinement.Costs(picture, layout, latents, rate_weight), fit, shrinking)
    return Content(layout, networks, dict(enumerate(fitting.split(latents.astype(np.int64), layout))))
