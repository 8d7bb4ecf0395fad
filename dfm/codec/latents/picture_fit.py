"""A picture to the content of a file: fit, integers, and the weight of the rate that meets a size."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dfm.codec import container
from dfm.codec.latents import fitting, flat, model, payload, prior, refinement, shapes
from dfm.codec.latents.choices import Choice, Settings
from dfm.codec.latents.fitting import AGAIN, DEFAULT, Fit, Progress
from dfm.codec.latents.payload import Content
from dfm.codec.profiles import Picture
from dfm.metrics.picture_quality import mse

AGAIN_SHARE, FEWEST_STEPS = 0.3, 50  # of the steps, when a fit goes on at another weight
CLOSE_ENOUGH = 0.97  # of a target in bytes
MOST_FITS = 7  # for one target in bytes
USUAL_SLOPE = -0.55  # of log bytes over log weight: about the root
MOST_STEP = 8.0  # factor on the weight
MARGIN = 0.99
BATCH_PIXELS = 2**23  # on an accelerator: 21 pictures of 768x512
MOST_WEIGHT_RATIO = 1.25  # between fits of which the second goes on where the first ended


class Try(NamedTuple):
    """A file of `bytes` that was fitted at this weight of the rate."""

    weight: float
    bytes: int


class State(NamedTuple):
    """Where a later fit of the same picture goes on: a fit under this weight, from set `number` of prior.py."""

    fit: Fit
    rate_weight: float
    number: int


def fit_pictures(
    pictures: Sequence[Picture],
    choices: Sequence[Choice],
    settings: Settings,
    states: Sequence[State | None],
    progress: Progress | None,
) -> Iterator[tuple[Content, State]]:
    """For each picture, all of one shape: content of a file, within `target_bytes` where they are given; and a state
    to go on from.

    Fits go on from their states where they are near; all others start together.
    """
    going_on = [
        state is not None and 1 / MOST_WEIGHT_RATIO <= choice.rate_weight / state.rate_weight <= MOST_WEIGHT_RATIO
        for choice, state in zip(choices, states, strict=True)
    ]
    fresh = [i for i, goes_on in enumerate(going_on) if not goes_on]
    begun = dict[int, State]()
    several = any(choice.target_bytes is not None for choice in choices)
    first = _attempt(progress, 0, settings.steps) if several else progress
    if fresh:
        if first is not None:
            first(0, settings.steps, np.nan)  # compiling takes seconds, in which nothing else can be said
        begun_states = begin([pictures[i] for i in fresh], [choices[i] for i in fresh], settings, first)
        begun = dict(zip(fresh, begun_states, strict=True))
    for i, (picture, choice, state) in enumerate(zip(pictures, choices, states, strict=True)):
        if i in begun:
            state = begun[i]
        else:
            assert state is not None
            state = _again(picture, state, choice.rate_weight, settings, first)
        yield _within_target(picture, choice, settings, state, progress)


def pixels_together() -> int:
    """Pixels that are fitted as one batch: on a CPU each picture by itself, which is as fast and ready earlier."""
    return BATCH_PIXELS if model.together() else 1


def begin(
    pictures: Sequence[Picture], choices: Sequence[Choice], settings: Settings, progress: Progress | None
) -> list[State]:
    """Fits from the start."""
    grids = shapes.usual_grids(*pictures[0].shape[:2])
    numbers = [prior.nearest(choice.rate_weight) for choice in choices]
    fits = [fitting.start(picture, grids, settings.seed, n) for picture, n in zip(pictures, numbers, strict=True)]
    weights = [choice.rate_weight for choice in choices]
    fits = fitting.train_together(pictures, fits, grids, weights, settings.steps, settings.seed, DEFAULT, progress)
    return [State(*each) for each in zip(fits, weights, numbers, strict=True)]


def _within_target(
    picture: Picture, choice: Choice, settings: Settings, state: State, progress: Progress | None
) -> tuple[Content, State]:
    """The content of a file, after further fits at other weights where its bytes are asked for."""
    found = content(picture, state, settings)
    target = choice.target_bytes
    if target is None:
        return found, state
    best: tuple[float, Content] | None = None
    tried: list[Try] = []
    for attempt in range(MOST_FITS):
        if attempt:
            # anew: a fit that went on from another rate would be larger, and have another rate's set of networks
            choice = Choice(next_weight(tried, MARGIN * target))
            report = _attempt(progress, attempt, settings.steps)
            (state,) = begin([picture], [choice], settings, report)
            found = content(picture, state, settings)
        size = file_bytes(found, picture)
        tried.append(Try(state.rate_weight, size))
        if size <= target:
            error = mse(payload.paint(found), picture)
            if best is None or error < best[0]:
                best = error, found
            if size >= CLOSE_ENOUGH * target:
                break
    # one colour always keeps the bytes: the plan has seen to that
    return (best[1] if best else flat.flat_content(picture)), state


def _attempt(progress: Progress | None, number: int, steps: int) -> Progress | None:
    """One fit's report as a share of the MOST_FITS that there may be: it ends early where fewer are needed."""
    if progress is None:
        return None
    return lambda done, total, decibels: progress(round((number + done / total) / MOST_FITS * steps), steps, decibels)


def next_weight(tried: Sequence[Try], wanted_bytes: float) -> float:
    """The weight at which the size is expected: between the nearest tries above and below, or further on.

    Steps grow while the tries stay on one side."""
    over = [one for one in tried if one.bytes > wanted_bytes]
    under = [one for one in tried if one.bytes <= wanted_bytes]
    low, high = min(over, key=lambda one: one.bytes, default=None), max(under, key=lambda one: one.bytes, default=None)
    if low and high and low.weight < high.weight:
        way = math.log(low.bytes / wanted_bytes) / math.log(low.bytes / high.bytes)
        return low.weight * (high.weight / low.weight) ** way
    latest = tried[-1]
    repeated = next((i for i, one in enumerate(reversed(tried)) if (one in over) != (latest in over)), len(tried))
    step = repeated * math.log(wanted_bytes / latest.bytes) / USUAL_SLOPE
    return latest.weight * math.exp(min(max(step, -math.log(MOST_STEP)), math.log(MOST_STEP)))


def file_bytes(content: Content, picture: Picture) -> int:
    return container.shared_bytes(picture.shape) + len(payload.pack(content))


def _again(picture: Picture, state: State, rate_weight: float, settings: Settings, progress: Progress | None) -> State:
    """Goes on at another weight, for fewer steps."""
    grids = shapes.usual_grids(*picture.shape[:2])
    steps = max(FEWEST_STEPS, round(AGAIN_SHARE * settings.steps))
    fresh = fitting.from_networks(state.fit.latents, state.fit.networks, state.fit.base)
    fit = fitting.train(picture, fresh, grids, rate_weight, steps, settings.seed, AGAIN, progress)
    return State(fit, rate_weight, state.number)


def content(picture: Picture, state: State, settings: Settings) -> Content:
    """Integers of a fit."""
    layout = shapes.layout_of(picture.shape)
    latents = refinement.latents_vector(state.fit)
    costs = refinement.Costs(picture, layout, latents, state.rate_weight)
    networks = refinement.quantize(costs, state.fit, state.number, settings.shrinking)
    return Content(layout, networks, dict(enumerate(fitting.split(latents.astype(np.int64), layout))))
