"""The latents profile: grids of integers, a context model and a synthesis, fitted to one picture."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from dfm.codec import container
from dfm.codec.latents import flat, payload, shapes
from dfm.codec.latents.choices import Choice, Settings
from dfm.codec.latents.payload import Content
from dfm.codec.profiles import Fitted, Picture, Plan, ProgressReport, Shape, mean_colour, part_of
from dfm.codec.weights import recipes
from dfm.errors import UserError
from dfm.metrics.picture_quality import mse

DEFAULT_QUALITY = 75.0
RATE_WEIGHTS = (2e-2, 1e-4)  # at quality 0 and 100: weights of a bit per pixel against the squared error of [0, 1]
LADDER_WEIGHTS = (0.3, 1e-6)
LADDER_STEPS_AN_OCTAVE = 4
USUAL_RATE, USUAL_WEIGHT = 0.5, 1e-3  # bits per pixel of a photograph's latents, at this weight
NETWORK_BYTES, NETWORK_PIXELS, NETWORK_EXPONENT = 450.0, 2**16, 0.6  # of the networks; fewer in small pictures
MOST_BYTES = 2**40  # no limit


def latents_profile(*, effort: int | None = None, seed: int = 0) -> "LatentsProfile":
    """The profile with the options of its encoder.

    Args:
        effort: 1 ... 9 = 300 ... 30,000 steps (default 3 = 1,000).
        seed: of the networks' start and of the noise.

    Raises:
        UserError: an impossible value.
    """
    effort = recipes.DEFAULT_EFFORT if effort is None else effort
    return LatentsProfile(recipes.effort_steps(effort), seed, shrinking=int(effort >= SHRINKING_EFFORT))


SHRINKING_EFFORT = 5  # from here on integers of the networks are moved one by one


@dataclass(frozen=True)
class LatentsProfile:
    """`dfm.codec.profiles.Profile`; the fields are the encoder's options, see `latents_profile`.

    `shrinking`: passes of `refinement.shrink`. `latest` keeps the last fit, from which the next one of the same picture
    goes on: searches try several weights of the rate.
    """

    total_steps: int = recipes.EFFORT_STEPS[recipes.DEFAULT_EFFORT]
    seed: int = 0
    shrinking: int = 0
    latest: dict[bytes, Any] = field(default_factory=dict, compare=False, repr=False)
    name: ClassVar[str] = "latents"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed} is outside 0 ... 2^32 - 1")

    def plan(self, shape: Shape, quality: float | None, target_bytes: int | None) -> Plan:
        """Quality fixes the weight of the rate, from 2e-2 to 1e-4; bytes are found while fitting."""
        check_steps(shape)
        if target_bytes is None:
            quality = DEFAULT_QUALITY if quality is None else quality
            if not 0 <= quality <= 100:
                raise UserError(f"quality {quality:g} is outside 0 ... 100")
            first, last = RATE_WEIGHTS
            return self._plan(shape, first * (last / first) ** (quality / 100))
        if target_bytes <= container.shared_bytes(shape) + payload.START_BYTES:
            height, width, _ = shape
            enough = flat.flat_bytes(shape)
            raise UserError(f"{target_bytes} bytes are too few for {width} x {height} pixels: {enough} are enough")
        weight = usual_weight(shape, target_bytes)
        return Plan(Choice(weight, target_bytes), float(target_bytes), target_bytes)

    def ladder(self, shape: Shape) -> list[Plan]:
        """Weights of the rate, four an octave."""
        check_steps(shape)
        first, last = LADDER_WEIGHTS
        count = round(LADDER_STEPS_AN_OCTAVE * math.log2(first / last))
        return [self._plan(shape, first * 2.0 ** (-step / LADDER_STEPS_AN_OCTAVE)) for step in range(count + 1)]

    def _plan(self, shape: Shape, rate_weight: float) -> Plan:
        return Plan(Choice(rate_weight), usual_bytes(shape, rate_weight), MOST_BYTES)

    def fit(
        self, pictures: Sequence[Picture], plans: Sequence[Plan], progress: ProgressReport | None
    ) -> Iterator[Fitted]:
        """Pictures of one shape are one batch on an accelerator; elsewhere they share their compiled programs."""
        from dfm.codec.latents.picture_fit import fit_pictures, pixels_together

        for picture, plan in zip(pictures, plans, strict=True):
            _check_target(picture, plan.choice.target_bytes)

        flat_ones = [number for number, picture in enumerate(pictures) if (picture == picture[0, 0]).all()]
        for number in flat_ones:
            yield self._better(number, pictures[number], None)
        others = {n: pictures[n].shape for n in range(len(pictures)) if n not in flat_ones}
        groups = _groups(others, pixels_together())
        for done, group in enumerate(groups):
            report = progress and part_of(progress, done * self.total_steps, len(groups) * self.total_steps)
            chosen = [pictures[number] for number in group]
            digests = [hashlib.sha256(picture.tobytes()).digest() for picture in chosen]
            # a search fits one picture again and again; pictures of a batch start afresh
            states = [self.latest.get(digest) if len(pictures) == 1 else None for digest in digests]
            self.latest.clear()
            settings = Settings(self.total_steps, self.seed, self.shrinking)
            fits = fit_pictures(chosen, [plans[number].choice for number in group], settings, states, report)
            for number, digest, picture, (content, state) in zip(group, digests, chosen, fits, strict=True):
                self.latest[digest] = state
                yield self._better(number, picture, content)

    def _better(self, number: int, picture: Picture, content: Content | None) -> Fitted:
        """The fit, or one colour where that is no worse or nothing was fitted."""
        flat_picture = np.broadcast_to(mean_colour(picture), picture.shape)
        if content is not None:
            painted = self.paint(content, picture.shape)
            if mse(painted, picture) < mse(flat_picture, picture):
                return Fitted(number, content, painted)
        return Fitted(number, flat.flat_content(picture), flat_picture)

    def pack(self, content: Content) -> bytes:
        """dfm/codec/latents/payload.py."""
        return payload.pack(content)

    def unpack(self, packed: bytes, shape: Shape) -> Content:
        """dfm/codec/latents/payload.py."""
        return payload.unpack(packed, shape)

    def work(self, content: Content, shape: Shape) -> float:
        """Multiplications of the synthesis and the context model."""
        return shapes.multiplications_per_pixel(content.layout) * shape[0] * shape[1]

    def paint(self, content: Content, shape: Shape) -> Picture:
        """dfm/codec/latents/painting.py."""
        return payload.paint(content)

    def describe(self, content: Content) -> dict[str, Any]:
        """Grids, and the bytes of the parts."""
        return payload.describe(content)


def check_steps(shape: Shape) -> None:
    """UserError for pictures that are too long and thin: latents are decoded wave after wave."""
    if shapes.layout_of(shape).steps > payload.MOST_STEPS:
        height, width, _ = shape
        raise UserError(f"{width} x {height} pixels are too many steps for the profile latents; use --profile=weights")


def usual_network_bytes(shape: Shape) -> float:
    """Of the networks of a picture of this shape: with fewer pixels to share them, a fit prunes them."""
    return NETWORK_BYTES * min(1.0, (shape[0] * shape[1] / NETWORK_PIXELS) ** NETWORK_EXPONENT)


def usual_bytes(shape: Shape, rate_weight: float) -> float:
    """Bytes of a file of a photograph: the rate falls with the root of its weight."""
    pixels = shape[0] * shape[1]
    rate = USUAL_RATE * math.sqrt(USUAL_WEIGHT / rate_weight)
    return container.shared_bytes(shape) + usual_network_bytes(shape) + rate * pixels / 8


def usual_weight(shape: Shape, target_bytes: float) -> float:
    """The weight at which a photograph's file has about so many bytes."""
    pixels = shape[0] * shape[1]
    rate = 8 * max(target_bytes - usual_network_bytes(shape), target_bytes / 3) / pixels
    return min(max(USUAL_WEIGHT * (USUAL_RATE / rate) ** 2, LADDER_WEIGHTS[1]), LADDER_WEIGHTS[0])


def _groups(shapes_of: dict[int, Shape], most_pixels: int) -> list[list[int]]:
    """Numbers of pictures of one shape, and of so many pixels together; each alone where they are larger."""
    groups: list[list[int]] = []
    for shape in dict.fromkeys(shapes_of.values()):
        same = [number for number, other in shapes_of.items() if other == shape]
        most = max(1, most_pixels // (shape[0] * shape[1]))
        groups += [same[i : i + most] for i in range(0, len(same), most)]
    return groups


def _check_target(picture: Picture, target_bytes: int | None) -> None:
    """Refuses fewer bytes than this picture's mean colour takes, which differs a little from colour to colour."""
    if target_bytes is None or target_bytes >= flat.flat_bytes(picture.shape):
        return
    least = container.shared_bytes(picture.shape) + len(payload.pack(flat.flat_content(picture)))
    if target_bytes < least:
        height, width, _ = picture.shape
        raise UserError(f"{target_bytes} bytes are too few for {width} x {height} pixels: {least} at least")
