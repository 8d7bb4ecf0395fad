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

AGAIN_SHARE, FEWEST_STEPS = 0.3, 50  # of the steps, when a fit goes on at another weight
CONTROLLED = (0.2, 0.6)  # share of the steps in which the weight follows the rate
CONTROL_EXPONENT, CONTROL_FACTOR = 0.5, 1.5  # of the ratio of rates, and the most in one chunk
CLOSE_ENOUGH = 0.97  # of a target in bytes
MOST_AGAIN = 6
USUAL_SLOPE = -0.55  # of log bytes over log weight: about the root
MOST_STEP = 8.0  # factor on the weight
MARGIN = 0.99
BATCH_PIXELS = 2**23  # on an accelerator: 21 pictures of 768x512
MOST_WEIGHT_RATIO = 4.0  # between fits of which the second goes on where the first ended


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
    if fresh:
        if progress is not None:
            progress(0, settings.steps, np.nan)  # compiling takes seconds, in which nothing else can be said
        begun_states = begin([pictures[i] for i in fresh], [choices[i] for i in fresh], settings, progress)
        begun = dict(zip(fresh, begun_states, strict=True))
    for i, (picture, choice, state) in enumerate(zip(pictures, choices, states, strict=True)):
        if i in begun:
            state = begun[i]
        else:
            assert state is not None
            state = _again(picture, state, choice.rate_weight, settings, progress)
        yield _within_target(picture, choice, settings, state)


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
    controls = [_control(*each) for each in zip(pictures, choices, strict=True)]
    fits, weights = fitting.train_together(
        pictures, fits, grids, weights, settings.steps, settings.seed, DEFAULT, progress, controls
    )
    return [State(*each) for each in zip(fits, weights, numbers, strict=True)]


def _within_target(picture: Picture, choice: Choice, settings: Settings, state: State) -> tuple[Content, State]:
    """The content of a file, after further fits at other weights where its bytes are asked for."""
    found = content(picture, state, settings)
    target = choice.target_bytes
    if target is None:
        return found, state
    best, tried = None, list[Try]()
    for attempt in range(MOST_AGAIN + 1):
        if attempt:
            state = _again(picture, state, next_weight(tried, MARGIN * target), settings, None)
            found = content(picture, state, settings)
        size = file_bytes(found, picture)
        tried.append(Try(state.rate_weight, size))
        if size <= target and (best is None or size > best[0]):
            best = size, found
            if size >= CLOSE_ENOUGH * target:
                break
    # one colour always keeps the bytes: the plan has seen to that
    return (best[1] if best else flat.flat_content(picture)), state


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


def _control(picture: Picture, choice: Choice) -> fitting.RateControl:
    """Leads the rate to the target's, if there is one, in the middle of the fit."""
    if choice.target_bytes is None:
        return lambda done, rate_weight, rate: rate_weight
    pixels = picture.shape[0] * picture.shape[1]
    target = choice.target_bytes
    wanted = 8 * max(target - choice.network_bytes, 0.4 * target) / pixels

    def control(done: float, rate_weight: float, rate: float) -> float:
        if not CONTROLLED[0] <= done <= CONTROLLED[1]:
            return rate_weight
        factor = (max(rate, 1e-4) / wanted) ** CONTROL_EXPONENT
        return rate_weight * min(max(factor, 1 / CONTROL_FACTOR), CONTROL_FACTOR)

    return control


def _again(picture: Picture, state: State, rate_weight: float, settings: Settings, progress: Progress | None) -> State:
    """Goes on at another weight, for fewer steps."""
    grids = shapes.usual_grids(*picture.shape[:2])
    steps = max(FEWEST_STEPS, round(AGAIN_SHARE * settings.steps))
    fresh = fitting.from_networks(state.fit.latents, state.fit.networks, state.fit.base)
    fit, _ = fitting.train(picture, fresh, grids, rate_weight, steps, settings.seed, AGAIN, progress)
    return State(fit, rate_weight, state.number)


def content(picture: Picture, state: State, settings: Settings) -> Content:
    """Integers of a fit."""
    layout = shapes.layout_of(picture.shape)
    latents = refinement.latents_vector(state.fit)
    costs = refinement.Costs(picture, layout, latents, state.rate_weight)
    networks = refinement.quantize(costs, state.fit, state.number, settings.shrinking)
    return Content(layout, networks, dict(enumerate(fitting.split(latents.astype(np.int64), layout))))
