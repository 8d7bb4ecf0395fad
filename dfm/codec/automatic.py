"""The profile "auto": for each picture the profile that is better at its size and rate."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dfm.codec import search
from dfm.codec.latents import payload, shapes
from dfm.codec.latents.profile import latents_profile
from dfm.codec.profiles import Picture, ProgressReport, Shape, make_profile
from dfm.codec.search import Encoded

NAME = "auto"
# scripts/study_auto.py: latents win from there on, at every rate but the lowest; smaller was not measured
FEWEST_PIXELS_OF_LATENTS = 8**2
USUAL_SHAPE = (512, 768, 3)  # options are checked for where there are no pictures yet


def choose(shape: Shape, options: Mapping[str, Any]) -> str:
    """Name of the profile for a picture of this shape. Options that only the weights profile has imply it."""
    if set(options) - set(inspect.signature(latents_profile).parameters):
        return "weights"
    small = shape[0] * shape[1] < FEWEST_PIXELS_OF_LATENTS
    return "weights" if small or shapes.layout_of(shape).steps > payload.MOST_STEPS else "latents"


def encode_each(
    images: Sequence[Picture], options: Mapping[str, Any], targets: Mapping[str, Any], progress: ProgressReport | None
) -> Iterator[tuple[int, Encoded]]:
    """`dfm.codec.search.encode_each`, once for the pictures of each profile."""
    pictures = [search.checked(image) for image in images]
    chosen = [choose(picture.shape, options) for picture in pictures]
    parts = []
    names = list(dict.fromkeys(chosen or [choose(USUAL_SHAPE, options)]))
    for place, name in enumerate(names):
        numbers = [number for number, profile in enumerate(chosen) if profile == name]
        files = search.encode_each(
            [pictures[number] for number in numbers],
            make_profile(name, options),
            **targets,
            progress=progress and _part(progress, place, len(names)),
        )
        parts.append((numbers, files))  # impossible options are refused before any fit of any part
    return ((numbers[place], encoded) for numbers, files in parts for place, encoded in files)


def _part(progress: ProgressReport, place: int, parts: int) -> ProgressReport:
    """One part's report as that of all: every part counts the same."""
    return lambda done, total, decibels: progress(place * total + done, parts * total, decibels)
