"""The weights profile: a Deep Fourier Machine fitted to one picture, whose coefficients are the file."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dfm import registry
from dfm.codec import container
from dfm.codec.profiles import MAX_WORK, Fitted, Picture, Plan, ProgressReport, Shape, mean_colour, part_of
from dfm.codec.weights import architectures, payload, recipes
from dfm.codec.weights.constant import constant_net, smallest_of_floats
from dfm.codec.weights.payload import MAX_COEFFICIENTS_PER_BYTE, PRECISIONS, Architecture, Net
from dfm.codec.weights.recipes import Preset, Recipe
from dfm.errors import UserError
from dfm.metrics.picture_quality import mse
from dfm.models.fourier import COEFFICIENT_NAMES

LEAST_MARGIN = 1.3  # on the fewest bytes for so many pixels
END_TOLERANCE = 1.25  # times the largest net's bytes
SMALLEST_WIDTHS = (2,)
SMALLEST_TARGET = 64  # bytes: about 30 of header and side information, and the smallest net
MAX_GROUP_PICTURES, MAX_GROUP_PIXELS = 64, 2**26  # fitted at once: 0.2 GB
HIGHEST_SEARCHED_RATE, SMALLEST_SEARCHED_BYTES = 4.0, 4000  # bits per pixel, and for tiny pictures bytes


def weights_profile(
    *,
    preset: str = "default",
    recipe: Recipe | None = None,
    effort: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    basis: str = "cos_sin",
    widths: Sequence[int] | None = None,
) -> "WeightsProfile":
    """The profile with the options of its encoder.

    Args:
        preset: "default", or "thesis": Asadi 2022's net (width 8, depth 6), start, rate, batch and float32 weights.
        recipe: a recipe of one's own in place of the preset's.
        effort: 1 ... 9 = 300 ... 30,000 steps (default 3 = 1,000; the thesis preset 10,000).
        seed: of the initial coefficients and of the pixels drawn.
        precision: "quantized" (the default), "float16" or "float32" (the thesis preset's).
        basis: "cos_sin" or "cas".
        widths: hidden widths, in place of the ladder's choice; without a rate target, 4.7 bits a coefficient.

    Raises:
        UserError: an impossible value.
    """
    chosen = registry.find("preset", preset, recipes.PRESETS)
    if recipe is not None:
        chosen = replace(chosen, recipe=recipe)
    if effort is None and chosen.total_steps is not None:
        total_steps = chosen.total_steps
    else:
        total_steps = recipes.effort_steps(recipes.DEFAULT_EFFORT if effort is None else effort)
    widths = widths or chosen.fixed_widths
    return WeightsProfile(
        chosen, total_steps, seed, precision or chosen.precision, basis, None if widths is None else tuple(widths)
    )


@dataclass(frozen=True)
class WeightsProfile:
    """`dfm.codec.profiles.Profile`; the fields are the encoder's options, see `weights_profile`."""

    preset: Preset = recipes.PRESETS["default"]
    total_steps: int = recipes.EFFORT_STEPS[recipes.DEFAULT_EFFORT]
    seed: int = 0
    precision: str = "quantized"
    basis: str = "cos_sin"
    widths: tuple[int, ...] | None = None
    name: ClassVar[str] = "weights"

    def __post_init__(self) -> None:
        registry.check("precision", self.precision, PRECISIONS)
        registry.check("basis", self.basis, COEFFICIENT_NAMES)
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed} is outside 0 ... 2^32 - 1")

    def plan(self, shape: Shape, quality: float | None, target_bytes: int | None) -> Plan:
        """The largest net that the bytes allow, or the given one."""
        height, width, channels = shape
        if quality is not None or target_bytes is not None:
            self._refuse_targets()
        if target_bytes is not None:
            least = self._least_bytes(shape)
            if target_bytes < least:
                raise UserError(f"{target_bytes} bytes are too few for {width} x {height} pixels: {least} at least")
            wanted = float(target_bytes)
        else:
            rate = architectures.bits_per_pixel(architectures.DEFAULT_QUALITY if quality is None else quality)
            wanted = rate * height * width / 8
        plan = self._largest(shape, wanted) if self.widths is None else self._given_net(shape)
        if target_bytes is not None:
            plan = replace(plan, most_bytes=target_bytes)
        if self.precision != "quantized":
            size = container.shared_bytes(shape) + _float_payload_bytes(plan.choice)
            if size > plan.most_bytes:
                raise UserError(f"{target_bytes} bytes are too few: the smallest {self.precision} file takes {size}")
        return plan

    def ladder(self, shape: Shape) -> list[Plan]:
        """The nets of the ladder up to a rate beyond any use, each at its nominal size."""
        self._refuse_targets()
        if self.widths is not None:
            raise UserError("a PSNR target chooses the widths itself")
        height, width, _ = shape
        largest = max(HIGHEST_SEARCHED_RATE * height * width / 8, SMALLEST_SEARCHED_BYTES)
        return [plan for plan in self._rungs(shape) if plan.expected_bytes <= largest]

    def _refuse_targets(self) -> None:
        if self.preset.fixed_widths:
            raise UserError("the thesis preset has one fixed net: it takes no quality or target")

    def _largest(self, shape: Shape, wanted_bytes: float) -> Plan:
        """The largest net of the ladder that is expected to take at most `wanted_bytes`, or the smallest of all."""
        rungs = self._rungs(shape)
        plan = [rungs[0], *(rung for rung in rungs if rung.expected_bytes <= wanted_bytes)][-1]
        if plan == rungs[-1] and wanted_bytes > END_TOLERANCE * plan.expected_bytes:
            note = f"the largest net takes about {plan.expected_bytes:,.0f} bytes, less than {wanted_bytes:,.0f}"
            return replace(plan, note=f"{note}: more bytes, or a higher quality, would change nothing")
        return plan

    def _rungs(self, shape: Shape) -> list[Plan]:
        """The nets of the ladder whose pictures a decoder paints without being asked twice, at their nominal sizes.

        By quality, bytes then grow with quality whatever the picture.
        """
        plans = [self._nominal(shape, widths) for widths in architectures.ladder(shape[-1], self.basis)]
        return [plan for plan in plans if _work(plan.choice, shape) <= MAX_WORK] or plans[:1]

    def _given_net(self, shape: Shape) -> Plan:
        assert self.widths is not None
        plan = self._nominal(shape, self.widths)
        if _work(plan.choice, shape) > MAX_WORK:
            raise UserError(f"widths {self.widths} take too much work at {shape[1]} x {shape[0]} pixels to be decoded")
        return plan

    def _nominal(self, shape: Shape, widths: Sequence[int]) -> Plan:
        channels = shape[-1]
        architecture = Architecture(tuple(widths), channels, self.basis, self.precision, self.preset.recipe.input_scale)
        expected = architectures.expected_bytes(widths, channels, self.basis, self.precision)
        return Plan(architecture, expected, round(expected))

    def _least_bytes(self, shape: Shape) -> int:
        # fitted files come near the limit and one colour's are of few sizes: neither is to fall below the container's
        least = max(SMALLEST_TARGET, math.ceil(LEAST_MARGIN * container.least_bytes(shape)))
        if self.widths is not None:
            architecture = self._nominal(shape, self.widths).choice
            least = max(least, -(-architecture.coefficient_count // MAX_COEFFICIENTS_PER_BYTE))
        return least

    def fit(
        self, pictures: Sequence[Picture], plans: Sequence[Plan], progress: ProgressReport | None
    ) -> Iterator[Fitted]:
        """Pictures that get the same net side by side, each from several starts where the net is small."""
        flat = [number for number, picture in enumerate(pictures) if self._is_flat(picture)]
        for number in flat:
            yield self._one_colour(number, pictures[number], plans[number])
        groups = self._groups(pictures, plans, [number for number in range(len(pictures)) if number not in flat])
        total = len(groups) * self.total_steps
        for done, numbers in enumerate(groups):
            report = progress and part_of(progress, done * self.total_steps, total)
            nets = self._fit_from_all_starts(
                [pictures[number] for number in numbers], [plans[number] for number in numbers], report
            )
            for place, number in enumerate(numbers):
                rivals = [net for net in nets[place :: len(numbers)] if net is not None]
                yield self._best(number, pictures[number], plans[number], rivals)

    def _is_flat(self, picture: Picture) -> bool:
        return self.preset.recipe.retreats and bool((picture == picture[0, 0]).all())

    def _one_colour(self, number: int, picture: Picture, plan: Plan) -> Fitted:
        """The mean colour, exactly: in the smallest net, or where the pixels ask for more bytes, in one of floats."""
        least = container.least_bytes(picture.shape) - container.shared_bytes(picture.shape)
        architecture = plan.choice if self.widths is not None else replace(plan.choice, widths=SMALLEST_WIDTHS)
        net = constant_net(architecture, mean_colour(picture))
        if len(payload.pack(net)) < least:
            larger = replace(architecture, precision="float16")
            if self.widths is None:
                larger = smallest_of_floats(larger, least)
            net = constant_net(larger, mean_colour(picture))
        return Fitted(number, net, self.paint(net, picture.shape))

    def _groups(self, pictures: Sequence[Picture], plans: Sequence[Plan], fitted: list[int]) -> list[list[int]]:
        """Numbers of the `fitted` pictures with the same net, cut so that their padded pixels times starts are at most
        `MAX_GROUP_PIXELS`."""
        from dfm.codec.weights.fitting import padded_pixels

        by_net = defaultdict(list)
        for number in fitted:
            by_net[plans[number].choice].append(number)
        groups = []
        for architecture, numbers in by_net.items():
            largest = padded_pixels(max(pictures[number].shape[0] * pictures[number].shape[1] for number in numbers))
            count = min(MAX_GROUP_PICTURES, MAX_GROUP_PIXELS // largest) // self._starts(architecture)
            groups += [numbers[first : first + max(1, count)] for first in range(0, len(numbers), max(1, count))]
        return groups

    def _starts(self, architecture: Architecture) -> int:
        coefficients = architecture.coefficient_count
        return next((starts for fewer_than, starts in self.preset.starts if coefficients < fewer_than), 1)

    def _fit_from_all_starts(
        self, pictures: list[Picture], plans: list[Plan], progress: ProgressReport | None
    ) -> list[Net | None]:
        """First a net for each picture from the first start, then from the second, ..."""
        from dfm.codec.weights.group_fit import fit_group

        limits = [
            plan.most_bytes - container.shared_bytes(picture.shape)
            for picture, plan in zip(pictures, plans, strict=True)
        ]
        starts, architecture = self._starts(plans[0].choice), plans[0].choice
        return fit_group(
            pictures * starts, architecture, limits * starts, self.preset.recipe, self.total_steps, self.seed, progress
        )

    def _best(self, number: int, picture: Picture, plan: Plan, nets: list[Net]) -> Fitted:
        """The best of the starts, or one colour where that is no worse, or where no fit keeps the bytes."""
        rivals = [Fitted(number, net, self.paint(net, picture.shape)) for net in nets]
        errors = [mse(rival.picture, picture) for rival in rivals]
        flat = np.broadcast_to(mean_colour(picture), picture.shape)
        if not rivals or (self.preset.recipe.retreats and mse(flat, picture) <= min(errors)):
            return self._one_colour(number, picture, plan)
        return rivals[int(np.argmin(errors))]

    def pack(self, content: Net) -> bytes:
        """dfm/codec/weights/payload.py."""
        return payload.pack(content)

    def unpack(self, packed: bytes, shape: Shape) -> Net:
        """dfm/codec/weights/payload.py."""
        return payload.unpack(packed, shape[-1])

    def work(self, content: Net, shape: Shape) -> float:
        """The net's `multiplications` at every pixel."""
        return _work(content.architecture, shape)

    def paint(self, content: Net, shape: Shape) -> Picture:
        """dfm/codec/weights/painting.py."""
        from dfm.codec.weights.painting import paint_net

        height, width, _ = shape
        return paint_net(content, height, width)

    def describe(self, content: Net) -> dict[str, Any]:
        """The net."""
        architecture = content.architecture
        return {
            "parameters": architecture.coefficient_count,
            "widths": list(architecture.widths),
            "basis": architecture.basis,
            "precision": architecture.precision,
            "input_scale": architecture.input_scale,
        }


def _work(architecture: Architecture, shape: Shape) -> float:
    height, width, _ = shape
    return float(height * width * architecture.multiplications)


def _float_payload_bytes(architecture: Architecture) -> int:
    from dfm.codec.weights.group_fit import float_payload_bytes

    return float_payload_bytes(architecture)
