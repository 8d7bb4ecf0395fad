"""Profiles: the ways of turning a picture into a payload, and what each must offer.

A profile is an object that holds the options of its encoder. The way of a picture: `plan` says what will be fitted,
before anything costly; `fit` fits it; `pack` gives the payload, which dfm/codec/container.py makes a file. The way
back, which needs no options: `unpack`, then `paint`.

To add one: a class with these methods, a function that makes it of its options (all of which have defaults), that
function's import path in `PROFILES`, and the next number in `PROFILE_NUMBERS`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from dfm import registry
from dfm.errors import UserError
from dfm.shapes import UInt8

PROFILES = {
    "weights": "dfm.codec.weights.profile:weights_profile",
    "latents": "dfm.codec.latents.profile:latents_profile",
}
PROFILE_NUMBERS = {"weights": 0, "latents": 1}  # in files: never changed, never used again

MAX_WORK = 2.0**44  # multiplications of one decode: minutes of two cores

Picture = UInt8[np.ndarray, "height width channel"]
Shape = tuple[int, int, int]  # height, width, channels
# called with steps done, steps in all, and the PSNR in dB of the latest (NaN while compiling)
ProgressReport = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Plan:
    """What to fit to one picture.

    Attributes:
        choice: the profile's own, hashable: a net, the weight of the rate in a loss.
        expected_bytes: about how large the file will be.
        most_bytes: the file is never larger.
        note: what the user should know of it, in words.
    """

    choice: Any
    expected_bytes: float
    most_bytes: int
    note: str | None = None


@dataclass(frozen=True)
class Fitted:
    """What was fitted to picture `number` of a call, and the picture that its file's decode is."""

    number: int
    content: Any
    picture: Picture


class Profile(Protocol):
    """What the encoder and the decoder ask of a profile. `Any` is its own content, what a payload holds."""

    name: ClassVar[str]  # in the two tables above

    def plan(self, shape: Shape, quality: float | None, target_bytes: int | None) -> Plan:
        """The plan of a picture of this shape: at most one of the two is given, and neither means the default quality.

        Raises:
            UserError: impossible, such as too few bytes.
        """

    def ladder(self, shape: Shape) -> Sequence[Plan]:
        """All plans that a search for a PSNR may try, by growing bytes and, by and large, growing quality."""

    def fit(
        self, pictures: Sequence[Picture], plans: Sequence[Plan], progress: ProgressReport | None
    ) -> Iterator[Fitted]:
        """Fits every picture, those that can be side by side, and hands each on as soon as it is finished."""

    def pack(self, content: Any) -> bytes:
        """The payload."""

    def unpack(self, payload: bytes, shape: Shape) -> Any:
        """What was packed; bytes that `pack` does not write raise UserError, before they size anything large."""

    def work(self, content: Any, shape: Shape) -> float:
        """Multiplications that `paint` takes, roughly: at most MAX_WORK for what `plan` and `ladder` offer."""

    def paint(self, content: Any, shape: Shape) -> Picture:
        """The picture: the same for the encoder and for every decode on one machine."""

    def describe(self, content: Any) -> dict[str, Any]:
        """Facts for `dfm info` that JSON can hold; `dfm encode` prints "parameters", the numbers that a file holds."""


def make_profile(name: str, options: Mapping[str, Any]) -> Profile:
    """A profile with the options of its encoder; without any it decodes.

    Raises:
        UserError: no such profile, no such option, or an impossible value.
    """
    path = registry.find("profile", name, PROFILES)
    if name not in PROFILE_NUMBERS:  # told now: the container would ask for it after the fit
        raise UserError(f"the profile {name} has no number in dfm.codec.profiles.PROFILE_NUMBERS: no file can hold it")
    make = registry.load(path)
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise UserError(f"the profile {name} has no option {option!r}{registry.nearest(option, known)}")
    return make(**options)


def mean_colour(picture: Picture) -> UInt8[np.ndarray, "channel"]:
    """Rounded to whole levels: what a profile falls back on."""
    return np.rint(picture.mean((0, 1))).astype(np.uint8)


def part_of(progress: ProgressReport, before: int, total: int) -> ProgressReport:
    """The report of a part whose steps follow `before` others, `total` in all."""
    return lambda done, _, decibels: progress(before + done, total, decibels)
